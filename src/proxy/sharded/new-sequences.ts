import { FIRST_SHARD } from "../../topology/topology.js";
import type { ShardTransaction } from "./shard-transaction.js";

/** May make a sequence: by name, by serial, by identity. */
const MAKES = /^\s*(?:create|alter\s+table)\b/i;

const SEQUENCES = `
SELECT s.seqrelid::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqstart
FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't'`;

/** Sequences that there were before a statement, by their number on the first shard. */
export type SequencesBefore = ReadonlySet<string>;

/**
 * Before a statement that every shard runs. @returns null when it makes no sequence
 * @throws StatementFailed with the server's error
 */
export async function sequencesBefore(
  transaction: ShardTransaction,
  sql: string,
): Promise<SequencesBefore | null> {
  if (!MAKES.test(sql)) return null;
  const { rows } = await transaction.ask(FIRST_SHARD, SEQUENCES);
  return new Set(rows.map(([oid]) => oid ?? ""));
}

/**
 * Behind it, in its transaction: what it has made counts on n shards in steps of n, each shard at a start of its own,
 * so that no two draw one number (R49). A table made by hand on each shard would have the same ids everywhere.
 * @throws StatementFailed with the server's error
 */
export async function spreadNewSequences(
  transaction: ShardTransaction,
  before: SequencesBefore,
): Promise<void> {
  const { rows } = await transaction.ask(FIRST_SHARD, SEQUENCES);
  const { shards } = transaction;
  for (const [oid, name, increment, start] of rows) {
    if (before.has(oid ?? "")) continue;
    const step = BigInt(increment ?? "1");
    for (const shard of shards) {
      const first = BigInt(start ?? "1") + BigInt(shard) * step;
      const by = step * BigInt(shards.length);
      await transaction.ask(
        shard,
        `ALTER SEQUENCE ${name} INCREMENT BY ${by} START WITH ${first} RESTART`,
      );
    }
  }
}
