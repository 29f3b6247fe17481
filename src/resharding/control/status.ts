import { describeAddress, type ServerAddress } from "../../backend/address.js";
import { connectSql, type SqlClient } from "../../backend/sql-client.js";
import { tell } from "../../core/tell.js";
import { isMissingControlSchema } from "./control-schema.js";

/** What people see of running migrations, read from the databases: no process remembers any of it. */
export interface Status<T> {
  readonly rows: readonly T[];
  /** Servers that did not answer, with why; the rows lack theirs. */
  readonly unreachable: readonly string[];
}

export interface TableCopyStatus {
  readonly schema: string;
  readonly table: string;
  readonly rowCount: number;
  readonly byteCount: number;
  readonly rangeCount: number;
  readonly doneRangeCount: number;
  readonly elapsedMs: number;
}

export interface SlotStatus {
  readonly address: ServerAddress;
  readonly name: string;
  readonly confirmedFlushLsn: string | null;
  readonly lagBytes: number | null;
  /** When a lane last committed what this slot sent. */
  readonly lastTransaction: Date | null;
  readonly lastTransactionMs: number | null;
}

export interface SchemaStatementStatus {
  readonly address: ServerAddress;
  readonly shard: number;
  readonly kind: "table" | "index" | "statement";
  readonly phase: "pre" | "post" | "cutover";
  /** null: it waits for its turn. */
  readonly startedAt: Date | null;
  readonly elapsedMs: number | null;
  readonly tableSchema: string;
  readonly tableName: string;
  readonly sql: string;
}

export interface NodeStatus {
  readonly migration: string;
  readonly nodeId: string;
  readonly incarnation: string;
  readonly address: string;
  readonly epoch: number;
  readonly savedEpoch: number;
  readonly lastSeen: Date;
  readonly lastSeenMs: number;
}

/** A status must come even when a server hangs. */
const STATUS_TIMEOUT_MS = 2_000;

/** Tables whose copy is not done: queued or running, summed over source and destination shards. */
export async function readTableCopies(
  servers: readonly ServerAddress[],
): Promise<Status<TableCopyStatus>> {
  const { rows, unreachable } = await onEach(servers, (client) =>
    client.query<TableCopyRow>(TABLE_COPIES),
  );
  const tables = new Map<string, TableCopyRow[]>();
  for (const row of rows) {
    const key = JSON.stringify([row.migration, row.schema_name, row.table_name]);
    tables.set(key, [...(tables.get(key) ?? []), row]);
  }
  const copies = [...tables.values()]
    .map(mergeShards)
    .filter((copy) => copy.doneRangeCount < copy.rangeCount)
    .sort(
      (a, b) => Number(a.byteCount === 0) - Number(b.byteCount === 0) || b.byteCount - a.byteCount,
    );
  return { rows: copies, unreachable };
}

interface TableCopyRow {
  readonly migration: string;
  readonly schema_name: string;
  readonly table_name: string;
  readonly is_omnisharded: boolean;
  readonly ranges: number;
  readonly done: number;
  readonly row_count: number;
  readonly byte_count: number;
  readonly elapsed_ms: number;
}

const TABLE_COPIES = `
  SELECT c.migration, c.schema_name, c.table_name,
         coalesce(bool_or(t.kind = 'omnisharded'), false) AS is_omnisharded,
         count(*)::float8 AS ranges, count(c.copied_at)::float8 AS done,
         coalesce(sum(c.row_count), 0)::float8 AS row_count,
         coalesce(sum(c.byte_count), 0)::float8 AS byte_count,
         (extract(epoch FROM now() - m.created_at) * 1000)::float8 AS elapsed_ms
    FROM sluice.copy_chunk c
    JOIN sluice.migration m ON m.id = c.migration AND m.state = 'active'
    LEFT JOIN LATERAL (
      SELECT x ->> 'kind' AS kind FROM jsonb_array_elements(m.spec -> 'tables') x
       WHERE x ->> 'schema' = c.schema_name AND x ->> 'name' = c.table_name LIMIT 1) t ON true
   GROUP BY c.migration, c.schema_name, c.table_name, m.created_at`;

/** Every shard has a row per range; a sharded table's rows are spread over them, an omnisharded one's repeated. */
function mergeShards(shards: readonly TableCopyRow[]): TableCopyStatus {
  const [first] = shards;
  const join = (pick: (row: TableCopyRow) => number) =>
    shards.reduce(
      (sum, row) => (first?.is_omnisharded ? Math.max(sum, pick(row)) : sum + pick(row)),
      0,
    );
  return {
    schema: first?.schema_name ?? "",
    table: first?.table_name ?? "",
    rowCount: join((row) => row.row_count),
    byteCount: join((row) => row.byte_count),
    rangeCount: shards.reduce((sum, row) => sum + row.ranges, 0),
    doneRangeCount: shards.reduce((sum, row) => sum + row.done, 0),
    elapsedMs: Math.max(...shards.map((row) => row.elapsed_ms)),
  };
}

/** Our logical slots with their lag, and when a lane last committed anything of theirs. */
export async function readReplicationSlots(
  servers: readonly ServerAddress[],
): Promise<Status<SlotStatus>> {
  const [slots, lanes] = await Promise.all([
    onEach(servers, async (client, address) => {
      const { rows } = await client.query<SlotRow>(SLOTS);
      return { rows: rows.map((row) => ({ ...row, address })) };
    }),
    onEach(servers, (client) => client.query<LaneRow>(LANES)),
  ]);
  const rows = slots.rows.map((slot): SlotStatus => {
    const last = lanes.rows
      .filter((lane) => lane.slot === slot.slot_name && lane.updated_at !== null)
      .sort((a, b) => a.age_ms - b.age_ms)
      .at(0);
    return {
      address: slot.address,
      name: slot.slot_name,
      confirmedFlushLsn: slot.confirmed_flush_lsn,
      lagBytes: slot.lag_bytes,
      lastTransaction: last?.updated_at ?? null,
      lastTransactionMs: last?.age_ms ?? null,
    };
  });
  return { rows, unreachable: slots.unreachable };
}

interface SlotRow {
  readonly slot_name: string;
  readonly confirmed_flush_lsn: string | null;
  readonly lag_bytes: number | null;
}

interface LaneRow {
  readonly slot: string;
  readonly updated_at: Date | null;
  readonly age_ms: number;
}

// The names of slots of ours begin with "sluice_" (model/migration.ts); `_` is a wildcard of LIKE.
const SLOTS = `
  SELECT slot_name, confirmed_flush_lsn::text,
         (CASE WHEN NOT pg_is_in_recovery()
               THEN pg_current_wal_lsn() - confirmed_flush_lsn END)::float8 AS lag_bytes
    FROM pg_replication_slots
   WHERE slot_name LIKE 'sluice\\_%' AND database = current_database()
   ORDER BY slot_name`;

const LANES = `
  SELECT slot, max(updated_at) AS updated_at,
         (extract(epoch FROM clock_timestamp() - max(updated_at)) * 1000)::float8 AS age_ms
    FROM sluice.lane GROUP BY slot`;

/** Statements of a schema phase that wait or run, running ones first. */
export async function readSchemaStatements(
  servers: readonly ServerAddress[],
): Promise<Status<SchemaStatementStatus>> {
  const { rows, unreachable } = await onEach(servers, async (client, address) => {
    const result = await client.query<SchemaStatementRow>(SCHEMA_STATEMENTS);
    return { rows: result.rows.map((row) => ({ ...row, address })) };
  });
  const statements = rows.map(
    (row): SchemaStatementStatus => ({
      address: row.address,
      shard: row.shard,
      kind: row.kind,
      phase: row.phase,
      startedAt: row.started_at,
      elapsedMs: row.elapsed_ms,
      tableSchema: row.table_schema,
      tableName: row.table_name,
      sql: row.sql,
    }),
  );
  return { rows: statements.sort((a, b) => waits(a) - waits(b)), unreachable };
}

function waits({ startedAt }: SchemaStatementStatus): number {
  return startedAt === null ? 1 : 0;
}

interface SchemaStatementRow {
  readonly shard: number;
  readonly kind: SchemaStatementStatus["kind"];
  readonly phase: SchemaStatementStatus["phase"];
  readonly started_at: Date | null;
  readonly elapsed_ms: number | null;
  readonly table_schema: string;
  readonly table_name: string;
  readonly sql: string;
}

// What SCHEMA_SYNC alone left undone counts while a schema session of ours is there, for nobody comes back to it.
const SCHEMA_STATEMENTS = `
  SELECT s.shard, s.kind, s.phase, s.started_at, s.table_schema, s.table_name, s.sql,
         (extract(epoch FROM clock_timestamp() - s.started_at) * 1000)::float8 AS elapsed_ms
    FROM sluice.schema_statement s LEFT JOIN sluice.migration m ON m.id = s.migration
   WHERE s.finished_at IS NULL
     AND (m.state = 'active'
          OR m.id IS NULL AND EXISTS (
            SELECT FROM pg_stat_activity a
             WHERE a.application_name = 'sluice schema' AND a.datname = current_database()))
   ORDER BY s.migration,
            CASE s.phase WHEN 'pre' THEN 0 WHEN 'post' THEN 1 ELSE 2 END, s.shard, s.ordinal`;

/** Nodes that have registered with a live migration; each shard may know them, the newest word counts. */
export async function readNodes(servers: readonly ServerAddress[]): Promise<Status<NodeStatus>> {
  const { rows, unreachable } = await onEach(servers, (client) => client.query<NodeRow>(NODES));
  const nodes = new Map<string, NodeRow>();
  for (const row of rows) {
    const key = JSON.stringify([row.migration, row.node_id]);
    const known = nodes.get(key);
    if (known === undefined || row.age_ms < known.age_ms) nodes.set(key, row);
  }
  return {
    unreachable,
    rows: [...nodes.values()].map((row) => ({
      migration: row.migration,
      nodeId: row.node_id,
      incarnation: row.incarnation,
      address: row.address,
      epoch: row.epoch,
      savedEpoch: row.saved_epoch,
      lastSeen: row.last_seen,
      lastSeenMs: row.age_ms,
    })),
  };
}

interface NodeRow {
  readonly migration: string;
  readonly node_id: string;
  readonly incarnation: string;
  readonly address: string;
  readonly epoch: number;
  readonly saved_epoch: number;
  readonly last_seen: Date;
  readonly age_ms: number;
}

const NODES = `
  SELECT n.migration, n.node_id, n.incarnation, n.address, n.epoch, n.saved_epoch, n.last_seen,
         (extract(epoch FROM clock_timestamp() - n.last_seen) * 1000)::float8 AS age_ms
    FROM sluice.node n JOIN sluice.migration m ON m.id = n.migration AND m.state = 'active'
   ORDER BY n.migration, n.node_id`;

/** Runs `read` on each distinct database, side by side; a database without our schema has nothing to tell. */
export async function onEach<T>(
  servers: readonly ServerAddress[],
  read: (client: SqlClient, address: ServerAddress) => Promise<{ readonly rows: readonly T[] }>,
): Promise<Status<T>> {
  const distinct = [
    ...new Map(servers.map((address) => [describeAddress(address), address])).values(),
  ];
  const unreachable: string[] = [];
  const results = await Promise.all(
    distinct.map(async (address): Promise<readonly T[]> => {
      try {
        await using client = await connectSql(address, {
          applicationName: "sluice status",
          connectTimeoutMs: STATUS_TIMEOUT_MS,
          statementTimeoutMs: STATUS_TIMEOUT_MS,
          signal: AbortSignal.timeout(2 * STATUS_TIMEOUT_MS),
        });
        return (await read(client, address)).rows;
      } catch (error) {
        if (isMissingControlSchema(error)) return [];
        unreachable.push(`${describeAddress(address)}: ${tell(error)}`);
        return [];
      }
    }),
  );
  return { rows: results.flat(), unreachable };
}
