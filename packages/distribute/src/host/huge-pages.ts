/**
 * Huge pages (Linux' transparent ones, 2 MiB) for memory that replicas share: weights, slots and gradients of a large network are
 * hundreds of megabytes, which every step reads several times and a layout conversion reads across.
 */
import koffi from 'koffi';

const HUGE_PAGE = 2 ** 21;
/** `<asm-generic/mman-common.h>` */
const MADV_HUGEPAGE = 14;

type Advise = (address: number, length: number, advice: number) => number;
let advise: Advise | null | undefined;

/**
 * Offers the kernel huge pages for a buffer, from the first whole one to the last; pages that were touched before stay small. Costs
 * microseconds. A refusal (another system, no transparent huge pages) costs speed only, so there is no error.
 */
export function adviseHugePages(buffer: ArrayBufferLike): void {
  if (buffer.byteLength < HUGE_PAGE || process.platform !== 'linux') return;
  if (advise === undefined) advise = loadAdvise();
  if (advise === null) return;
  const address = Number(koffi.address(new Uint8Array(buffer)));
  const begin = Math.ceil(address / HUGE_PAGE) * HUGE_PAGE;
  const end = Math.floor((address + buffer.byteLength) / HUGE_PAGE) * HUGE_PAGE;
  if (end > begin) advise(begin, end - begin, MADV_HUGEPAGE);
}

function loadAdvise(): Advise | null {
  try {
    // null is the process itself: Node already links the C library, whatever its file is called.
    return koffi.load(null).func('int madvise(uintptr_t address, size_t bytes, int advice)') as unknown as Advise;
  } catch {
    return null;
  }
}
