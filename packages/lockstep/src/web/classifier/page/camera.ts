/** The camera: asked for when somebody wants it, and let go when they do not. */
export class Camera {
  #stream: MediaStream | null = null;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly viewfinder: HTMLElement,
  ) {}

  /** Browsers hide it from pages that came without encryption from elsewhere. */
  get isThere(): boolean {
    return navigator.mediaDevices?.getUserMedia !== undefined;
  }

  /** @throws Error if there is none, or its use is denied */
  async open(): Promise<void> {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
    // Of an earlier request: nobody else would let it go.
    this.close();
    this.#stream = stream;
    this.video.srcObject = stream;
    this.viewfinder.hidden = false;
    await this.video.play();
    this.viewfinder.classList.add('live');
  }

  close(): void {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
    this.viewfinder.classList.remove('live');
    this.viewfinder.hidden = true;
  }

  /** What it sees now; null before it sees anything. */
  async shoot(): Promise<Blob | null> {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (width === 0) return null;
    const surface = new OffscreenCanvas(width, height);
    surface.getContext('2d')?.drawImage(this.video, 0, 0);
    return await surface.convertToBlob({ type: 'image/png' });
  }
}
