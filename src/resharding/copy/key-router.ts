import { assert } from "../../core/assert.js";
import type { KeyRouter } from "../../replication/copy-splitter.js";
import { type KeyType, shardOfBinary, shardOfTextBytes } from "../../topology/hash.js";
import type { TablePlan } from "../model/migration.js";
import { CopyFailed } from "./copy-failed.js";
import { columnOf, tableLabel } from "./range-sql.js";

export type CopyFormat = "binary" | "text";

interface RouterInput {
  readonly table: TablePlan;
  readonly format: CopyFormat;
  readonly sourceShard: number;
  readonly sourceShardCount: number;
  readonly destinationShardCount: number;
}

/** The types whose binary form is the one that the router's hash takes. */
const BINARY_KEY_TYPES: Readonly<Record<KeyType, RegExp>> = {
  bigint: /^(smallint|integer|bigint)$/,
  uuid: /^uuid$/,
  varchar: /^(text|character varying(\(\d+\))?)$/,
};

/** The router hashes what clients write, so any other column type is hashed by its text. */
export function isBinaryKey(table: TablePlan): boolean {
  if (table.shardingColumn === null || table.shardingType === null) return true;
  return BINARY_KEY_TYPES[table.shardingType].test(columnOf(table, table.shardingColumn).type);
}

/**
 * The router's hash over the bytes of a COPY field. A row without a key belongs nowhere, and writing it
 * everywhere would multiply it; a row that its source shard should not have would be deleted by no repeat.
 */
export function keyRouter(input: RouterInput): KeyRouter {
  const { table, sourceShard, sourceShardCount, destinationShardCount } = input;
  const type = table.shardingType;
  assert(type, `${tableLabel(table)} has no sharding type`);
  const shardOf = input.format === "binary" ? shardOfBinary : shardOfTextBytes;
  return (bytes, start, end) => {
    if (start < 0) throw nullKey(table);
    if (sourceShardCount > 1) {
      const home = shardOf(bytes, start, end, type, sourceShardCount);
      if (home !== sourceShard) throw strayRow(table, sourceShard);
    }
    const shard = shardOf(bytes, start, end, type, destinationShardCount);
    if (shard < 0) throw notAKey(table);
    return shard;
  };
}

function nullKey(table: TablePlan): CopyFailed {
  const column = table.shardingColumn ?? "";
  return new CopyFailed(`${tableLabel(table)} has rows whose sharding key "${column}" is NULL`, {
    recovery: "operator",
    hint: `Such a row belongs to no shard: SELECT count(*) FROM ${tableLabel(table)} WHERE "${column}" IS NULL. Give it a key or delete it.`,
  });
}

function strayRow(table: TablePlan, sourceShard: number): CopyFailed {
  return new CopyFailed(
    `${tableLabel(table)} has rows on source shard ${sourceShard} that route to another shard`,
    {
      recovery: "operator",
      hint: "Move or delete them: clients of the proxy cannot see them where they are.",
    },
  );
}

function notAKey(table: TablePlan): CopyFailed {
  return new CopyFailed(
    `${tableLabel(table)} has values in "${table.shardingColumn}" that are no ${table.shardingType}`,
    {
      recovery: "operator",
      hint: "data_type in [[sharded_tables]] must fit the column.",
    },
  );
}
