import type { InsertStmt } from "libpg-query";
import { type ShardId, shardId } from "../topology/topology.js";
import { ANY, type Analysis, onShards, type Plan, placed } from "./analysis.js";
import { renumberParameters, textOf, valuesRows } from "./clauses.js";
import { type KeyTerm, type StatementValues, shardOfValue, UNKNOWN } from "./key-value.js";
import { mergeShape } from "./merge.js";
import { omnishardedInsert } from "./omnisharded.js";
import { Refusal, refused } from "./refusal.js";
import type { Route } from "./route.js";
import { addInsert, type InsertTarget } from "./write-scope.js";

export function insertPlan(analysis: Analysis, insert: InsertStmt): Plan {
  const { scope } = analysis;
  const target = addInsert(scope, insert, null);
  if (!target.ref.isSharded) return omnishardedInsert(analysis, insert, target);
  if (target.rowCount === 0) return insertSelect(analysis, insert, target);
  const hasWith = insert.withClause !== undefined;
  return placed(analysis, target.block, {
    isWrite: true,
    several: (values) => {
      const table = target.ref.table?.name ?? "";
      const { database } = analysis.catalog;
      if (database.splitInserts === "error" && !values.isDrawn)
        return refused("splitInsert", table);
      return hasWith ? refused("splitInsertWith") : split(analysis, target, values);
    },
  });
}

/** Every shard selects from its own rows and keeps what it has selected. */
function insertSelect(analysis: Analysis, insert: InsertStmt, target: InsertTarget): Plan {
  const { scope } = analysis;
  const source = insert.selectStmt;
  let refusal: Route | null = null;
  try {
    if (source === undefined || !("SelectStmt" in source)) throw new Refusal("insertSelect");
    const shape = mergeShape(source.SelectStmt, target.block, scope);
    const isPlain = shape.aggregates === null && shape.limit === null && shape.offset === null;
    if (!isPlain)
      throw new Refusal("crossShardAggregate", "LIMIT or an aggregate in INSERT ... SELECT");
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refusal = error.route;
  }
  return placed(analysis, target.block, {
    isWrite: true,
    several: (_values, shards) => refusal ?? onShards(shards, true),
  });
}

function split(analysis: Analysis, target: InsertTarget, values: StatementValues): Route {
  const texts = valuesRows(values.sql);
  if (texts === null || texts.rows.length !== target.keys.length) {
    return refused("splitInsert", target.ref.table?.name);
  }
  const { sql } = values;
  const byShard = new Map<ShardId, number[]>();
  for (const [index, key] of target.keys.entries()) {
    const shard = rowShard(analysis, target, key, values);
    // The placement has read every key before: what cannot be read never comes here.
    if (shard === null) return ANY;
    const rows = byShard.get(shard) ?? [];
    byShard.set(shard, rows);
    rows.push(index);
  }
  const spans = texts.rows;
  const parts = [...byShard]
    .sort(([one], [other]) => one - other)
    .map(([shard, rows]) => {
      const written = rows.map((row) => textOf(sql, spans[row] ?? { start: 0, end: 0 })).join(", ");
      const text = `${textOf(sql, texts.head)} ${written}${textOf(sql, texts.tail)}`;
      return { shard, ...renumberParameters(text), rows };
    });
  return { kind: "split", parts };
}

function rowShard(
  { catalog }: Analysis,
  { ref }: InsertTarget,
  key: KeyTerm,
  values: StatementValues,
): ShardId | null {
  const type = ref.table?.rule?.dataType ?? "bigint";
  const shard = shardOfValue(key.value, values, { type, shardCount: catalog.database.shardCount });
  return shard === UNKNOWN || shard < 0 ? null : shardId(shard);
}
