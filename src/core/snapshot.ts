import { assert } from "./assert.js";

/** `pg_current_snapshot()`: which transactions a reader sees. Ids are 64 bit. */
export interface Snapshot {
  readonly xmin: bigint;
  readonly xmax: bigint;
  /** Ids in [xmin, xmax) that were running, so invisible. */
  readonly running: ReadonlySet<bigint>;
}

/** @throws RangeError when the text is no `xmin:xmax:xip,...` */
export function parseSnapshot(text: string): Snapshot {
  const match = /^(\d+):(\d+):([\d,]*)$/.exec(text);
  if (!match) throw new RangeError(`not a snapshot: "${text}"`);
  const running = (match[3] ?? "").split(",").filter((id) => id !== "");
  return {
    xmin: BigInt(match[1] ?? "0"),
    xmax: BigInt(match[2] ?? "0"),
    running: new Set(running.map(BigInt)),
  };
}

/** R1: a change is in a copied range already when its top-level transaction is visible here. */
export function isVisible(xid: bigint, snapshot: Snapshot): boolean {
  if (xid < snapshot.xmin) return true;
  return xid < snapshot.xmax && !snapshot.running.has(xid);
}

const HALF = 1n << 31n;
const FULL = 1n << 32n;
const FAR = 1n << 30n;

/**
 * R4: the stream names transactions by 32 bits; the full id is the one nearest to the snapshot's xmax.
 * @throws InvariantBroken when the nearest is more than 2^30 away: then either side could be meant
 */
export function widenXid(xid32: number, snapshot: Snapshot): bigint {
  let distance = (BigInt(xid32) - (snapshot.xmax & 0xffffffffn)) % FULL;
  if (distance >= HALF) distance -= FULL;
  if (distance < -HALF) distance += FULL;
  const size = distance < 0n ? -distance : distance;
  assert(size <= FAR, `transaction id ${xid32} is ${size} away from the snapshot's xmax`);
  return snapshot.xmax + distance;
}
