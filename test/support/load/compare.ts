import type { ComparedTable } from "../application.js";
import type { Query } from "./final-tables.js";

export interface Comparison {
  readonly isEqual: boolean;
  /** One sentence per difference; at most a few per table. */
  readonly findings: readonly string[];
  /** Rows by table, of each side's databases in their order. */
  readonly rows: {
    readonly source: Readonly<Record<string, number>>;
    readonly shards: readonly Readonly<Record<string, number>>[];
  };
}

const SHOWN_DIFFERENCES = 3;

/**
 * Compares both sides row by row, by the text of whole rows. A sharded table's rows are those of all shards
 * together, each tenant on one shard only; an omnisharded table's are on every shard.
 */
export async function compareSides(
  source: Query,
  shards: readonly Query[],
  tables: readonly ComparedTable[],
): Promise<Comparison> {
  const findings: string[] = [];
  const sourceRows: Record<string, number> = {};
  const shardRows: Record<string, number>[] = shards.map(() => ({}));
  for (const { table, shardingKey } of tables) {
    const isOmnisharded = shardingKey === null;
    const expected = await digests(source, table);
    sourceRows[table] = expected.length;
    const found = await Promise.all(shards.map((shard) => digests(shard, table)));
    for (const [index, rows] of found.entries())
      Object.assign(shardRows[index] ?? {}, { [table]: rows.length });
    const sides = isOmnisharded ? found : [found.flat()];
    for (const [index, side] of sides.entries()) {
      const place = isOmnisharded ? `${table} on shard ${index}` : table;
      findings.push(...differences(expected, side, place));
    }
    if (shardingKey !== null)
      findings.push(...(await tenantsOnTwoShards(shards, table, shardingKey)));
  }
  return {
    isEqual: findings.length === 0,
    findings,
    rows: { source: sourceRows, shards: shardRows },
  };
}

async function digests(query: Query, table: string): Promise<readonly string[]> {
  const rows = await query(`SELECT md5(t::text) AS digest FROM ${table} t`);
  return rows.map((row) => String(row.digest));
}

function differences(
  expected: readonly string[],
  found: readonly string[],
  place: string,
): readonly string[] {
  const counts = new Map<string, number>();
  for (const digest of expected) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  for (const digest of found) counts.set(digest, (counts.get(digest) ?? 0) - 1);
  const different = [...counts].filter(([, count]) => count !== 0);
  const shown = different.slice(0, SHOWN_DIFFERENCES).map(([digest, count]) => {
    const where = count > 0 ? "on the source only" : "on the shards only";
    return `${place}: a row with the digest ${digest} is ${where}`;
  });
  if (different.length > shown.length)
    shown.push(`${place}: ${different.length} rows differ in all`);
  return shown;
}

async function tenantsOnTwoShards(
  shards: readonly Query[],
  table: string,
  shardingKey: string,
): Promise<readonly string[]> {
  const seen = new Map<string, number>();
  for (const query of shards)
    for (const { tenant } of await query(`SELECT DISTINCT ${shardingKey} AS tenant FROM ${table}`))
      seen.set(String(tenant), (seen.get(String(tenant)) ?? 0) + 1);
  return [...seen]
    .filter(([, count]) => count > 1)
    .slice(0, SHOWN_DIFFERENCES)
    .map(([tenant]) => `${table}: tenant ${tenant} has rows on more than one shard`);
}
