import { encodeCopyData } from "../../../wire/frontend.js";

const FRAME_HEADER_BYTES = 5;
/** Signature, flags, and the length of an extension, which PostgreSQL leaves empty. */
const FILE_HEADER_BYTES = 19;
const END = Buffer.from([0xff, 0xff]);

/**
 * COPY TO in the binary format over several shards: each sends a header before its first row and an end behind its last,
 * of which the client gets one, in the messages in which PostgreSQL has them.
 */
export class BinaryCopyOut {
  /** Not sent yet. */
  #header: Buffer | null = null;
  readonly #begun = new Set<number>();

  /** @param frames whole CopyData messages of one shard @returns what of them goes on */
  take(inlet: number, frames: Buffer): Buffer {
    const out: Buffer[] = [];
    for (let at = 0; at < frames.length; ) {
      const end = at + 1 + frames.readInt32BE(at + 1);
      const row = this.#row(inlet, frames.subarray(at + FRAME_HEADER_BYTES, end));
      if (!row.equals(END)) out.push(this.#framed(row));
      at = end;
    }
    return Buffer.concat(out);
  }

  /** When every shard has sent its own. */
  end(): Buffer {
    return this.#framed(END);
  }

  #row(inlet: number, payload: Buffer): Buffer {
    if (this.#begun.has(inlet)) return payload;
    if (this.#begun.size === 0) this.#header = Buffer.from(payload.subarray(0, FILE_HEADER_BYTES));
    this.#begun.add(inlet);
    return payload.subarray(FILE_HEADER_BYTES);
  }

  #framed(payload: Buffer): Buffer {
    const header = this.#header;
    this.#header = null;
    return encodeCopyData(header === null ? [payload] : [header, payload]);
  }
}
