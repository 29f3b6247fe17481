const PAGE_BYTES = 256 << 10;

/**
 * Keeps messages beyond the read that brought them: copied once, into pages, so that a change is a page and a
 * position. A page is freed by the collector when the last change in it has been written.
 */
export class MessageArena {
  page = Buffer.allocUnsafeSlow(PAGE_BYTES);
  #end = 0;

  /** @returns where the copy begins in `page` */
  keep(bytes: Buffer, start: number, end: number): number {
    const length = end - start;
    if (this.#end + length > this.page.length) {
      this.page = Buffer.allocUnsafeSlow(Math.max(PAGE_BYTES, length));
      this.#end = 0;
    }
    const at = this.#end;
    bytes.copy(this.page, at, start, end);
    this.#end += length;
    return at;
  }
}
