import type { KeyType } from "./hash.js";

/** HASH_PARTITION_SEED as the signed int8 that SQL takes. */
export const SEED_SQL = "8816678312871386365";

/** What the combination of one column's hash with a zero start adds to it. */
export const COMBINE = 0x49a0f4dd15e5a8e3n;
// And 2^64 so that the sum is never negative.
const OFFSET = COMBINE + (1n << 64n);
const MODULUS = 1n << 64n;

/**
 * The shard of a key as an SQL expression of type int4, NULL for a NULL key: the same number as
 * `shardOfText` gives, computed by PostgreSQL from its own functions. Used to verify (R40).
 * @param columnSql an expression, already quoted; evaluated once
 */
export function shardOfSql(columnSql: string, type: KeyType, shardCount: number): string {
  const sum = `(${hashSql(columnSql, type)})::pg_catalog.numeric + ${OFFSET}`;
  return `pg_catalog.mod(pg_catalog.mod(${sum}, ${MODULUS}), ${shardCount})::pg_catalog.int4`;
}

/** The extended hash of a column as int8, with the sign. @param columnSql an expression, already quoted */
export function hashSql(columnSql: string, type: KeyType): string {
  switch (type) {
    case "bigint":
      return `pg_catalog.hashint8extended((${columnSql})::pg_catalog.int8, ${SEED_SQL})`;
    case "uuid":
      return `pg_catalog.uuid_hash_extended((${columnSql})::pg_catalog.uuid, ${SEED_SQL})`;
    case "varchar":
      // Bytes under every collation that is deterministic; "C" makes it so for the others.
      return `pg_catalog.hashtextextended((${columnSql})::pg_catalog.text COLLATE pg_catalog."C", ${SEED_SQL})`;
  }
}
