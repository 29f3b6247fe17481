import { assert } from "../core/assert.js";
import { COMBINE, hashSql } from "./hash-sql.js";
import type { ShardedTable } from "./topology.js";

const MODULUS = 1n << 64n;

/**
 * The condition of a CHECK that a row's key belongs to this shard, as `shardOfText` has it. A NULL key belongs to no
 * shard, and is refused.
 *
 * Arithmetic and not `satisfies_hash_partition`, which is the same number: that one needs a partitioned table in the
 * database, so that a dump of one schema could not be restored, and opens it for each statement. These functions are
 * immutable, and everybody may call them.
 *
 * The hash is added to a constant, in 64 bits without a sign, and the remainder taken. For a power of two the low bits
 * are enough. Else: int8 has a sign, so that what is less than zero counts 2^64 more, and what passes 2^64 as much
 * less; together one of two constants is added, by the half in which the hash is.
 * @param key the column, quoted
 */
export function placementSql(
  key: string,
  rule: Pick<ShardedTable, "dataType">,
  place: Place,
): string {
  return `(${remainderSql(hashSql(key, rule.dataType), place)}) IS TRUE`;
}

export interface Place {
  readonly shard: number;
  readonly shardCount: number;
}

/** Whether the combination of a hash, given as an expression of type int8, has this remainder. @testonly */
export function remainderSql(hash: string, { shard, shardCount }: Place): string {
  assert(shard >= 0 && shard < shardCount, `there is no shard ${shard} of ${shardCount}`);
  const count = BigInt(shardCount);
  if ((count & (count - 1n)) === 0n) {
    const low = (BigInt(shard) + MODULUS - COMBINE) & (count - 1n);
    return `(${hash} & ${int8(count - 1n)}) = ${int8(low)}`;
  }
  const added = (COMBINE % count) + count;
  const addedBelow = ((COMBINE + MODULUS) % count) + count;
  const addend = `CASE WHEN ${hash} < ${int8(-COMBINE)} THEN ${int8(addedBelow)} ELSE ${int8(added)} END`;
  return `(${hash} % ${int8(count)} + ${addend}) % ${int8(count)} = ${int8(BigInt(shard))}`;
}

/** As one constant: a number without quotes is an int4 and a cast, which every statement that writes would compute anew. */
function int8(value: bigint): string {
  return `'${value}'::pg_catalog.int8`;
}
