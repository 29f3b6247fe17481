import { assert } from "./assert.js";
import type { Brand } from "./brand.js";

/**
 * A byte position in one server's write-ahead log; compares only with the same server's.
 * A bigint, as the text form does not sort ("9/0" < "10/0"). In payloads and logs: LsnText.
 * @see https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export type Lsn = Brand<bigint, "Lsn">;
export type LsnText = Brand<string, "LsnText">;

const END = 1n << 64n;

/** @throws InvariantBroken when it is no unsigned number of 64 bits */
export function toLsn(bytes: bigint): Lsn {
  assert(bytes >= 0n && bytes < END, "a WAL position is an unsigned number of 64 bits");
  return bytes as Lsn;
}

export const LSN_ZERO = toLsn(0n);

const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** @throws RangeError when the text is no `X/X` position */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (!match) throw new RangeError(`not a WAL position: "${text}"`);
  return toLsn((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`));
}

export function formatLsn(position: Lsn): LsnText {
  const high = (position >> 32n).toString(16).toUpperCase();
  const low = (position & 0xffffffffn).toString(16).toUpperCase();
  return `${high}/${low}` as LsnText;
}
