import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { SQLSTATE } from "../../core/sqlstate.js";

/** This server has never seen a migration. */
export function isMissingControlSchema(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === SQLSTATE.undefinedTable || state === SQLSTATE.invalidSchemaName;
}

/**
 * Brings what later versions added to a schema that is there, for migrations that began before. Only looks where
 * nothing is missing: ALTER TABLE, even to no effect, would wait for every lane.
 */
export async function upgradeControlSchema(client: SqlClient): Promise<void> {
  const { rows } = await client.query<{ has: boolean }>(
    `SELECT to_regclass('sluice.evidence') IS NOT NULL
        AND to_regclass('sluice.hold_wait') IS NOT NULL
        AND to_regclass('sluice.placement_guard') IS NOT NULL
        AND to_regclass('sluice.sequence') IS NOT NULL AND (
              SELECT count(*) FROM pg_attribute
               WHERE (attrelid, attname) IN (
                 (to_regclass('sluice.lane'), 'evidence'), (to_regclass('sluice.aside'), 'conflict'),
                 (to_regclass('sluice.aside'), 'holder'))
            ) = 3 AS has`,
  );
  if (rows[0]?.has !== true) await ensureControlSchema(client);
}

/**
 * The `sluice` schema: the durable truth of migrations, on every shard of both sides (design, section 4).
 * Statements are idempotent; a second run, or one beside the first, changes nothing.
 */
export async function ensureControlSchema(client: SqlClient): Promise<void> {
  await client.query("BEGIN");
  try {
    // Two creators at once would both pass IF NOT EXISTS and one would fail on the catalog's unique index.
    await client.query(
      "SELECT pg_advisory_xact_lock(hashtextextended('sluice.control_schema', 0))",
    );
    for (const statement of STATEMENTS) await client.query(statement);
    for (const column of ADDED_COLUMNS) await addColumn(client, column);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

/** Columns that tables got after the first release. */
const ADDED_COLUMNS = [
  { table: "lane", column: "evidence", type: "text" },
  { table: "aside", column: "conflict", type: "text" },
  { table: "aside", column: "holder", type: "text[]" },
] as const;

async function addColumn(
  client: SqlClient,
  { table, column, type }: (typeof ADDED_COLUMNS)[number],
): Promise<void> {
  const { rowCount } = await client.query(
    "SELECT FROM pg_attribute WHERE attrelid = to_regclass('sluice.' || $1) AND attname = $2",
    [table, column],
  );
  if (rowCount === 0)
    await client.query(`ALTER TABLE sluice.${table} ADD COLUMN ${column} ${type}`);
}

const STATEMENTS: readonly string[] = [
  "CREATE SCHEMA IF NOT EXISTS sluice",
  `CREATE TABLE IF NOT EXISTS sluice.migration (
    id text PRIMARY KEY,
    source text NOT NULL,
    destination text NOT NULL,
    publication text NOT NULL,
    side text NOT NULL CHECK (side IN ('source', 'destination')),
    shard integer NOT NULL,
    spec jsonb NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'aborted', 'finalized')),
    created_at timestamptz NOT NULL DEFAULT now())`,
  // The lock on a migration is PostgreSQL's: one live migration per moving table and shard.
  `CREATE TABLE IF NOT EXISTS sluice.moving_table (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    PRIMARY KEY (schema_name, table_name))`,
  // R22: the sequence gate_<id> says open (1) or closed; this row says why and where to go instead.
  `CREATE TABLE IF NOT EXISTS sluice.gate (
    migration text PRIMARY KEY REFERENCES sluice.migration ON DELETE CASCADE,
    epoch integer NOT NULL,
    token text NOT NULL,
    is_open boolean NOT NULL,
    opened_epochs integer[] NOT NULL DEFAULT '{}',
    moved_to text NOT NULL DEFAULT '')`,
  // R29: planned -> prepared -> committed | aborted, for ever. One row per epoch.
  `CREATE TABLE IF NOT EXISTS sluice.decision (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    epoch integer NOT NULL,
    serving text NOT NULL CHECK (serving IN ('source', 'destination')),
    stream integer NOT NULL,
    state text NOT NULL CHECK (state IN ('planned', 'prepared', 'committed', 'aborted')),
    token text NOT NULL,
    cap_ms integer NOT NULL,
    expires_at timestamptz,
    open_transactions text NOT NULL DEFAULT 'wait',
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    reason text NOT NULL DEFAULT '',
    timings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at timestamptz,
    opened_at timestamptz,
    PRIMARY KEY (migration, epoch))`,
  `CREATE TABLE IF NOT EXISTS sluice.node (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    node_id text NOT NULL,
    incarnation text NOT NULL,
    address text NOT NULL,
    epoch integer NOT NULL,
    config_hash text NOT NULL,
    saved_epoch integer NOT NULL DEFAULT 0,
    last_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, node_id))`,
  // A node's answer to a hold: nothing of it is in flight under this token.
  `CREATE TABLE IF NOT EXISTS sluice.hold (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    epoch integer NOT NULL,
    token text NOT NULL,
    node_id text NOT NULL,
    incarnation text NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, epoch, token, node_id))`,
  // For people: what a node waits for that has not answered. True while the decision of this token is prepared and
  // the node has no row in sluice.hold; the next hold overwrites it.
  `CREATE TABLE IF NOT EXISTS sluice.hold_wait (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    node_id text NOT NULL,
    incarnation text NOT NULL,
    epoch integer NOT NULL,
    token text NOT NULL,
    waiting_clients integer NOT NULL,
    open_transactions integer NOT NULL,
    -- The oldest of them: process ids, application_name, age when this was said. Nothing of a statement or row (R56).
    oldest jsonb NOT NULL,
    said_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, node_id))`,
  `CREATE TABLE IF NOT EXISTS sluice.copy_chunk (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    source_shard integer NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    range integer NOT NULL,
    lower_bound text,
    upper_bound text,
    snapshot text,
    row_count bigint NOT NULL DEFAULT 0,
    byte_count bigint NOT NULL DEFAULT 0,
    copied_at timestamptz,
    PRIMARY KEY (migration, source_shard, schema_name, table_name, range))`,
  // One row per lane on the shard that it writes; committed with the rows of every batch (R15).
  `CREATE TABLE IF NOT EXISTS sluice.lane (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    stream integer NOT NULL,
    from_shard integer NOT NULL,
    to_shard integer NOT NULL,
    slot text NOT NULL,
    origin text NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    state text NOT NULL DEFAULT 'standby' CHECK (state IN ('standby', 'applying', 'stopped')),
    start_lsn pg_lsn,
    -- R1: what commits here or later on the from-shard is in no copied range.
    copied_lsn pg_lsn,
    applied_lsn pg_lsn NOT NULL DEFAULT '0/0',
    batch bigint NOT NULL DEFAULT 0,
    change_count bigint NOT NULL DEFAULT 0,
    backend_pid integer,
    backend_start timestamptz,
    incarnation text,
    stopped_code text,
    stopped_reason text,
    -- R56: the row that it stopped at, for SHOW EVIDENCE; the reason is told without.
    evidence text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, from_shard, to_shard))`,
  // R33, R12: keys whose state the lanes cannot know; settled at a joint marker.
  `CREATE TABLE IF NOT EXISTS sluice.aside (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    stream integer NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key text[] NOT NULL,
    from_shard integer NOT NULL,
    reason text NOT NULL,
    -- Why settlement could not decide it.
    conflict text,
    -- R56: the key of the row that is in the way, for SHOW EVIDENCE.
    holder text[],
    snapshots text[],
    settled_at timestamptz,
    PRIMARY KEY (migration, stream, schema_name, table_name, key))`,
  `CREATE TABLE IF NOT EXISTS sluice.receipt (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    stream integer NOT NULL,
    pass integer NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    shard integer NOT NULL,
    row_count bigint NOT NULL,
    hash numeric NOT NULL,
    is_clean boolean NOT NULL,
    detail text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, pass, schema_name, table_name, shard))`,
  // R11, in small: the moving tables as they were when their schema was copied, on the side that is read.
  `CREATE TABLE IF NOT EXISTS sluice.fingerprint (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    stream integer NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    digest text NOT NULL,
    PRIMARY KEY (migration, stream, schema_name, table_name))`,
  // R49: what a sequence counted in before it had to leave ids to other shards; true while it counts in "increment".
  // No reference to a migration: the next one, from these shards to more, begins with it.
  `CREATE TABLE IF NOT EXISTS sluice.sequence (
    relation oid PRIMARY KEY,
    schema_name text NOT NULL,
    sequence_name text NOT NULL,
    own_increment bigint NOT NULL,
    increment bigint NOT NULL,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp())`,
  // For people: what of a migration is on this server. Written before the thing is made, struck off when it is
  // removed; the code itself finds things by their names.
  `CREATE TABLE IF NOT EXISTS sluice.resource (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('slot', 'publication', 'origin', 'gate', 'trigger')),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, kind, name))`,
  // Tables that got a replica identity from us: what was there, put back when the migration ends. Committed with
  // the migration's row, before the first one is set. Letters as in pg_class.relreplident.
  `CREATE TABLE IF NOT EXISTS sluice.replica_identity (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    was "char" NOT NULL,
    -- null under "i": the index had been dropped.
    was_index text,
    ours "char" NOT NULL,
    ours_index text,
    -- null until it is set: from then on a renamed table is found by it.
    table_oid oid,
    PRIMARY KEY (migration, schema_name, table_name))`,
  // Tables of the destination that got a placement guard; `was`: the constraint of this name that was there, put
  // back when the migration ends without this side serving.
  `CREATE TABLE IF NOT EXISTS sluice.placement_guard (
    migration text NOT NULL REFERENCES sluice.migration ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    was text,
    PRIMARY KEY (migration, schema_name, table_name))`,
  // R56: text of rows that an error is about. No reference to a migration: SCHEMA_SYNC works before there is one.
  `CREATE TABLE IF NOT EXISTS sluice.evidence (
    migration text NOT NULL,
    source text NOT NULL,
    destination text NOT NULL,
    step text NOT NULL,
    scope text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    evidence text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, step, scope))`,
  // For SHOW SCHEMA_SYNC. No reference to a migration: SCHEMA_SYNC works before there is one.
  `CREATE TABLE IF NOT EXISTS sluice.schema_statement (
    migration text NOT NULL,
    phase text NOT NULL CHECK (phase IN ('pre', 'post', 'cutover')),
    shard integer NOT NULL,
    ordinal integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('table', 'index', 'statement')),
    table_schema text NOT NULL DEFAULT '',
    table_name text NOT NULL DEFAULT '',
    sql text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (migration, phase, shard, ordinal))`,
];
