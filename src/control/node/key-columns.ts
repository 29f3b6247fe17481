import { connectSql } from "../../backend/sql-client.js";
import type { Config } from "../../config/model.js";
import { type ErrorFields, ServerUnreachable, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import {
  findUnfitKeys,
  KEY_COLUMNS_SQL,
  type TableColumn,
  type UnfitKey,
} from "../../topology/key-column.js";
import { clusterOf, SchemaOwnerMissing } from "../cluster-directory.js";

/** Values that PostgreSQL takes for equal would have several shards. */
export class KeyColumnUnfit extends SluiceError {
  readonly code = "SLUICE_KEY_COLUMN_UNFIT";
  readonly sqlState = SQLSTATE.configFileError;
  readonly recovery = "operator";
  constructor(database: string, keys: readonly UnfitKey[], options: ErrorFields = {}) {
    const named = keys.map(({ column, trouble }) => `sharding key ${column} ${trouble}`);
    super(`database "${database}": ${named.join("; ")}`, {
      hint: "Correct data_type of the rule in [[sharded_tables]] of pgdog.toml, or the column's type or collation.",
      ...options,
    });
  }
}

/** A server that is silent is not waited for: whoever is routed there meets the same refusal, statement by statement. */
const CONNECT_TIMEOUT_MS = 2_000;

/**
 * Looks at the sharding keys of every database with several shards, on its first shard, before their rules are used.
 * @throws KeyColumnUnfit with every key of the first database that has one
 */
export async function refuseUnfitKeys(config: Config): Promise<void> {
  const names = [...new Set(config.databases.map(({ name }) => name))];
  await Promise.all(names.map(async (name) => await lookAt(config, name)));
}

async function lookAt(config: Config, name: string): Promise<void> {
  const rules = config.shardedTables.filter(({ database }) => database === name);
  const hasShards = config.databases.some((one) => one.name === name && one.shard > 0);
  if (!hasShards || rules.length === 0) return;
  const columns = await readKeyColumns(
    config,
    name,
    rules.map(({ column }) => column),
  );
  const unfit = findUnfitKeys(
    { shardedTables: rules, omnishardedTables: config.omnishardedTables[name] ?? [] },
    columns,
  );
  if (unfit.length > 0) throw new KeyColumnUnfit(name, unfit);
}

async function readKeyColumns(
  config: Config,
  name: string,
  keys: readonly string[],
): Promise<readonly TableColumn[]> {
  try {
    const [first] = clusterOf(config, name).shards;
    if (!first) return [];
    const options = {
      applicationName: "sluice key columns",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      statementTimeoutMs: 10_000,
    };
    await using client = await connectSql(first, options);
    const { rows } = await client.query<TableColumn>(KEY_COLUMNS_SQL, [[...new Set(keys)]]);
    return rows;
  } catch (error) {
    if (error instanceof ServerUnreachable || error instanceof SchemaOwnerMissing) return [];
    throw error;
  }
}
