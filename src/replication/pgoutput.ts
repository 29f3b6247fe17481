import { type Lsn, toLsn } from "../core/lsn.js";
import { StreamMalformed, StreamUnsupportedChange } from "./stream-errors.js";
import { tupleEnd } from "./tuple.js";

/** A table as the stream names it, at the position that is being decoded. */
export interface Relation {
  readonly id: number;
  readonly schema: string;
  readonly name: string;
  /** d: primary key, n: nothing, i: index, f: all columns. */
  readonly identity: "d" | "n" | "i" | "f";
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  readonly isKey: boolean;
  readonly typeOid: number;
  readonly typeModifier: number;
}

/** `pg_logical_emit_message`. */
export interface LogicalMessage {
  readonly isTransactional: boolean;
  readonly lsn: Lsn;
  readonly prefix: string;
  readonly content: string;
}

/**
 * What a stream of whole transactions says, in its order. Positions are of tuples (`Tuple.at`) in the
 * message's own bytes. `commitTime` is microseconds since 2000-01-01.
 */
export interface PgoutputHandler {
  begin(finalLsn: Lsn, commitTime: bigint, xid: number): void;
  commit(endLsn: Lsn, commitTime: bigint): void;
  origin(name: string): void;
  relation(relation: Relation): void;
  insert(relationId: number, bytes: Buffer, newAt: number): void;
  /** `oldAt` is -1 when the identity did not change; `isOldWhole` says all columns are there (FULL). */
  update(
    relationId: number,
    bytes: Buffer,
    oldAt: number,
    isOldWhole: boolean,
    newAt: number,
  ): void;
  delete(relationId: number, bytes: Buffer, oldAt: number): void;
  truncate(relationIds: readonly number[]): void;
  message(message: LogicalMessage): void;
}

const LETTER = {
  begin: 0x42,
  commit: 0x43,
  origin: 0x4f,
  relation: 0x52,
  type: 0x59,
  insert: 0x49,
  update: 0x55,
  delete: 0x44,
  truncate: 0x54,
  message: 0x4d,
  newTuple: 0x4e,
  keyTuple: 0x4b,
  oldTuple: 0x4f,
} as const;

/**
 * Decodes one message of pgoutput (protocol versions 1 to 4, without streaming and two-phase) in place.
 * @throws StreamMalformed when bytes are missing, left over, or no letter of the protocol
 * @throws StreamUnsupportedChange for messages of options that we never ask for
 * @see https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
export function decodePgoutput(
  bytes: Buffer,
  start: number,
  end: number,
  handler: PgoutputHandler,
): void {
  if (start >= end) throw new StreamMalformed("an empty message");
  switch (bytes[start]) {
    case LETTER.insert:
      decodeInsert(bytes, start + 1, end, handler);
      break;
    case LETTER.update:
      decodeUpdate(bytes, start + 1, end, handler);
      break;
    case LETTER.delete:
      decodeDelete(bytes, start + 1, end, handler);
      break;
    default:
      decodeRare(new Cursor(bytes, start + 1, end), bytes[start] ?? 0, handler);
      break;
  }
}

function decodeInsert(bytes: Buffer, at: number, end: number, handler: PgoutputHandler): void {
  if (at + 5 > end || bytes[at + 4] !== LETTER.newTuple)
    throw new StreamMalformed("an insert without its row");
  expectEnd(tupleEnd(bytes, at + 5, end), end);
  handler.insert(bytes.readUInt32BE(at), bytes, at + 5);
}

function decodeUpdate(bytes: Buffer, at: number, end: number, handler: PgoutputHandler): void {
  if (at + 5 > end) throw new StreamMalformed("an update without its row");
  const relationId = bytes.readUInt32BE(at);
  let next = at + 4;
  let oldAt = -1;
  const oldKind = bytes[next];
  if (oldKind === LETTER.keyTuple || oldKind === LETTER.oldTuple) {
    oldAt = next + 1;
    next = tupleEnd(bytes, oldAt, end);
  }
  if (next >= end || bytes[next] !== LETTER.newTuple)
    throw new StreamMalformed("an update without its new row");
  expectEnd(tupleEnd(bytes, next + 1, end), end);
  handler.update(relationId, bytes, oldAt, oldKind === LETTER.oldTuple, next + 1);
}

function decodeDelete(bytes: Buffer, at: number, end: number, handler: PgoutputHandler): void {
  const kind = at + 5 <= end ? bytes[at + 4] : undefined;
  if (kind !== LETTER.keyTuple && kind !== LETTER.oldTuple)
    throw new StreamMalformed("a delete without its old row");
  expectEnd(tupleEnd(bytes, at + 5, end), end);
  handler.delete(bytes.readUInt32BE(at), bytes, at + 5);
}

/** Everything that comes once per transaction or more seldom: clarity before speed. */
function decodeRare(cursor: Cursor, letter: number, handler: PgoutputHandler): void {
  switch (letter) {
    case LETTER.begin: {
      const finalLsn = cursor.lsn();
      const commitTime = cursor.int64();
      const xid = cursor.uint32();
      cursor.finish();
      handler.begin(finalLsn, commitTime, xid);
      break;
    }
    case LETTER.commit: {
      cursor.byte();
      cursor.lsn();
      const endLsn = cursor.lsn();
      const commitTime = cursor.int64();
      cursor.finish();
      handler.commit(endLsn, commitTime);
      break;
    }
    case LETTER.origin: {
      cursor.lsn();
      const name = cursor.text();
      cursor.finish();
      handler.origin(name);
      break;
    }
    case LETTER.relation:
      handler.relation(readRelation(cursor));
      break;
    case LETTER.type:
      // Names of user-defined types: rows come as text, so only the tables' own definition matters.
      cursor.uint32();
      cursor.text();
      cursor.text();
      cursor.finish();
      break;
    case LETTER.truncate: {
      const count = cursor.uint32();
      cursor.byte();
      if (count * 4 !== cursor.left) throw new StreamMalformed("a truncate of the wrong length");
      handler.truncate(Array.from({ length: count }, () => cursor.uint32()));
      break;
    }
    case LETTER.message:
      handler.message(readMessage(cursor));
      break;
    default:
      refuseLetter(letter);
  }
}

/** Stream Start/Stop/Commit/Abort and the two-phase messages: real, but of options that we never set. */
const NOT_ASKED_FOR = "SEcAbPKrp";

function refuseLetter(letter: number): never {
  const character = String.fromCharCode(letter);
  if (!NOT_ASKED_FOR.includes(character))
    throw new StreamMalformed(`message type ${letter} is no pgoutput message`);
  throw new StreamUnsupportedChange(
    `the stream carries a message of type "${character}" (streamed or two-phase transaction)`,
    { hint: "Sluice does not ask for these; does something stand between it and PostgreSQL?" },
  );
}

function readRelation(cursor: Cursor): Relation {
  const id = cursor.uint32();
  // Empty means pg_catalog in the protocol.
  const schema = cursor.text() || "pg_catalog";
  const name = cursor.text();
  const identity = readIdentity(cursor.byte());
  const count = cursor.uint16();
  const columns: RelationColumn[] = [];
  for (let i = 0; i < count; i++) {
    const isKey = (cursor.byte() & 1) === 1;
    columns.push({
      name: cursor.text(),
      isKey,
      typeOid: cursor.uint32(),
      typeModifier: cursor.int32(),
    });
  }
  cursor.finish();
  return { id, schema, name, identity, columns };
}

function readIdentity(byte: number): Relation["identity"] {
  const letter = String.fromCharCode(byte);
  if (letter === "d" || letter === "n" || letter === "i" || letter === "f") return letter;
  throw new StreamMalformed(`replica identity ${byte}`);
}

function readMessage(cursor: Cursor): LogicalMessage {
  const isTransactional = (cursor.byte() & 1) === 1;
  const lsn = cursor.lsn();
  const prefix = cursor.text();
  const length = cursor.uint32();
  if (length !== cursor.left) throw new StreamMalformed("a logical message of the wrong length");
  return { isTransactional, lsn, prefix, content: cursor.rest() };
}

function expectEnd(at: number, end: number): void {
  if (at !== end) throw new StreamMalformed(`${end - at} bytes are left over`);
}

/** Reads forward and never past the message, whatever its lengths claim. */
class Cursor {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  constructor(bytes: Buffer, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }
  get left(): number {
    return this.#end - this.#at;
  }
  byte(): number {
    return this.#bytes[this.#take(1)] ?? 0;
  }
  uint16(): number {
    return this.#bytes.readUInt16BE(this.#take(2));
  }
  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }
  int32(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }
  int64(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }
  lsn(): Lsn {
    return toLsn(this.#bytes.readBigUInt64BE(this.#take(8)));
  }
  text(): string {
    const zero = this.#bytes.indexOf(0, this.#at);
    if (zero < 0 || zero >= this.#end) throw new StreamMalformed("a text does not end");
    const text = this.#bytes.toString("utf8", this.#at, zero);
    this.#at = zero + 1;
    return text;
  }
  rest(): string {
    const at = this.#take(this.left);
    return this.#bytes.toString("utf8", at, this.#end);
  }
  finish(): void {
    expectEnd(this.#at, this.#end);
  }
  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#end) throw new StreamMalformed("a message ends too early");
    this.#at = at + count;
    return at;
  }
}
