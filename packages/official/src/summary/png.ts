/**
 * PNG (RFC 2083) of 8-bit grey or colour pixels: every line by the filter "up", which makes smooth pictures small, compressed by zlib. Small
 * pictures for event files; an encoder for photographs is `sharp`'s business.
 */
import { deflateSync } from 'node:zlib';

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** By channels: grey, grey with opacity, colour, colour with opacity. */
const COLOR_TYPES: Readonly<Record<number, number>> = { 1: 0, 2: 4, 3: 2, 4: 6 };
const FILTER_UP = 2;

/** A picture as event files hold it. */
export interface Picture {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** PNG. */
  readonly bytes: Uint8Array;
}

/**
 * @param pixels height × width × channels, row by row
 * @throws RangeError for another number of pixels, or of channels
 */
export function encodePng(pixels: Uint8Array, [height, width, channels]: readonly [number, number, number]): Picture {
  const colorType = COLOR_TYPES[channels];
  const stride = width * channels;
  if (colorType === undefined || pixels.length !== height * stride || pixels.length === 0) {
    throw new RangeError(`${pixels.length} bytes are no picture of ${height} × ${width} in ${channels} channels.`);
  }
  const lines = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y++) {
    const line = y * (stride + 1);
    lines[line] = FILTER_UP;
    for (let x = 0; x < stride; x++) {
      const above = y === 0 ? 0 : (pixels[(y - 1) * stride + x] as number);
      lines[line + 1 + x] = (pixels[y * stride + x] as number) - above;
    }
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  // Eight bits, no interlacing.
  header.setUint8(8, 8);
  header.setUint8(9, colorType);
  const chunks = [
    chunk('IHDR', new Uint8Array(header.buffer)),
    chunk('IDAT', deflateSync(lines)),
    chunk('IEND', new Uint8Array(0)),
  ];
  return { height, width, channels, bytes: Buffer.concat([SIGNATURE, ...chunks]) };
}

/** Length, name, content, CRC-32 of name and content; highest byte first. */
function chunk(name: string, content: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(12 + content.length);
  bytes.writeUInt32BE(content.length, 0);
  bytes.write(name, 4, 'latin1');
  bytes.set(content, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + content.length)), 8 + content.length);
  return bytes;
}

/** CRC-32 (ISO 3309), bit by bit: pictures here are small, and Node 20.11's zlib does not offer its own. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
