import type { CopyInPlan } from "../../../router/route.js";
import { NOT_A_KEY, shardOfBinary, shardOfTextBytes } from "../../../topology/hash.js";
import { CopyDataUnroutable } from "./scatter-errors.js";

/** Takes the pieces of a COPY stream and says which bytes go to which shard. */
export interface CopyRows {
  /** The next piece of the stream, cut anywhere. @throws CopyDataUnroutable */
  push(chunk: Buffer): void;
  /** The stream has ended: a last row without a line end goes out. @throws CopyDataUnroutable */
  finish(): void;
}

/** `bytes` go to one shard, to all (-1), or to one that is not known yet (-2). They are copied or sent before the call returns. */
export type CopyEmit = (shard: number, bytes: Buffer) => void;

export const ALL_SHARDS = -1;
/** A row whose key is still to be drawn. */
export const NO_SHARD_YET = -2;

/** One row larger than this cannot be held to look for its key. PostgreSQL's own limit of a value. */
export const LARGEST_ROW_BYTES = 1024 * 1024 * 1024;

/** A row that lies in several pieces, put together once, when it is whole. */
export class RowPieces {
  #pieces: Buffer[] = [];
  #bytes = 0;

  get length(): number {
    return this.#bytes;
  }

  add(piece: Buffer): void {
    if (piece.length === 0) return;
    // The piece's chunk is the sender's again after the call.
    this.#pieces.push(Buffer.from(piece));
    this.#bytes += piece.length;
  }

  take(last: Buffer): Buffer {
    if (this.#bytes === 0) return last;
    const row = Buffer.concat([...this.#pieces, last]);
    this.#pieces = [];
    this.#bytes = 0;
    return row;
  }
}

/** Every row to every shard: nothing to look for. */
export class UnsplitCopy implements CopyRows {
  readonly #emit: CopyEmit;

  constructor(emit: CopyEmit) {
    this.#emit = emit;
  }

  push(chunk: Buffer): void {
    this.#emit(ALL_SHARDS, chunk);
  }

  finish(): void {}
}

export interface KeyLookup {
  readonly plan: CopyInPlan;
  readonly shardCount: number;
}

/** The shard of a key's text. @throws CopyDataUnroutable */
export function shardOfKeyText(key: Buffer | null, lookup: KeyLookup, rowNumber: number): number {
  if (key === null) throw nullKey(rowNumber);
  const { keyType } = lookup.plan;
  const shard = shardOfTextBytes(key, 0, key.length, keyType, lookup.shardCount);
  if (shard === NOT_A_KEY) throw unreadable(keyType, rowNumber);
  return shard;
}

/** The same for the binary format. @throws CopyDataUnroutable */
export function shardOfKeyBinary(key: Buffer | null, lookup: KeyLookup, rowNumber: number): number {
  if (key === null) throw nullKey(rowNumber);
  const { keyType } = lookup.plan;
  const shard = shardOfBinary(key, 0, key.length, keyType, lookup.shardCount);
  if (shard === NOT_A_KEY) throw unreadable(keyType, rowNumber);
  return shard;
}

function nullKey(rowNumber: number): CopyDataUnroutable {
  return new CopyDataUnroutable(
    "the sharding key is null",
    rowNumber,
    "A row without its sharding key belongs to no shard.",
  );
}

function unreadable(type: string, rowNumber: number): CopyDataUnroutable {
  return new CopyDataUnroutable(
    `the sharding key is no ${type}`,
    rowNumber,
    "Check the order of the columns: the statement's list must be that of the data.",
  );
}

export function tooFewColumns(rowNumber: number): CopyDataUnroutable {
  return new CopyDataUnroutable(
    "the row ends before the sharding key's column",
    rowNumber,
    "Check the delimiter and the order of the columns.",
  );
}
