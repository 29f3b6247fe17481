import { connectSql } from "../../../src/backend/sql-client.js";
import type { EngineContext } from "../../../src/resharding/context.js";
import { ensureControlSchema } from "../../../src/resharding/control/control-schema.js";
import { openSides } from "../../../src/resharding/control/sides.js";
import type {
  MigrationRef,
  MigrationSpec,
  Side,
  StreamNumber,
  TablePlan,
} from "../../../src/resharding/model/migration.js";
import { emitMarker, openLaneWatch } from "../../../src/resharding/stream/lane-watch.js";
import { runStream } from "../../../src/resharding/stream/run-stream-step.js";
import { settleAside } from "../../../src/resharding/stream/settle-aside.js";
import type { SettleResult } from "../../../src/resharding/stream/settlement.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { engineContext } from "../../support/engine.js";
import type { PostgresServer } from "../../support/postgres.js";
import { until } from "../../support/until.js";

export interface LanesFixture {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly databases: Readonly<Record<Side, readonly string[]>>;
  context(overrides?: Partial<EngineContext>): EngineContext;
  /** One statement on one shard, as an application would. */
  sql(side: Side, shard: number, text: string): Promise<Record<string, unknown>[]>;
  /** As if the copy had found every table empty: one open range with a snapshot of now. */
  noteEmptyCopy(): Promise<void>;
}

export interface FixtureInput {
  readonly sources?: number;
  readonly destinations?: number;
  /** Run on every database of both sides. */
  readonly schema: string;
  /** Sharding column by table; null: omnisharded. */
  readonly tables: Readonly<Record<string, string | null>>;
  readonly adjust?: (plan: TablePlan) => TablePlan;
}

let migrations = 0;

/** Databases of both sides on one server, with control schema and migration rows. */
export async function lanesFixture(
  server: PostgresServer,
  input: FixtureInput,
): Promise<LanesFixture> {
  migrations += 1;
  const id = (0xa0000 + migrations).toString(16).padStart(12, "0");
  const list = (side: string, count: number) =>
    Array.from({ length: count }, (_, shard) => `m${migrations}_${side}${shard}`);
  const databases = {
    source: list("src", input.sources ?? 1),
    destination: list("dst", input.destinations ?? 2),
  };
  for (const database of [...databases.source, ...databases.destination]) {
    await server.createDatabase(database);
    await server.sql(database, input.schema);
  }
  const ref: MigrationRef = { id, source: "prod", destination: "prod_sharded", publication: "all" };
  const tables: TablePlan[] = [];
  for (const [name, shardBy] of Object.entries(input.tables)) {
    const plan = await planOf(server, databases.source[0] ?? "", { name, shardBy });
    tables.push(input.adjust?.(plan) ?? plan);
  }
  const spec: MigrationSpec = {
    version: 1,
    source: { shardCount: databases.source.length },
    destination: { shardCount: databases.destination.length },
    tables,
  };
  for (const side of ["source", "destination"] as const)
    for (const [shard, database] of databases[side].entries()) {
      await using client = await connectSql(server.address(database), { applicationName: "test" });
      await ensureControlSchema(client);
      await client.query(
        `INSERT INTO sluice.migration (id, source, destination, publication, side, shard, spec)
         VALUES ($1, $2, $3, $4, $5, $6, $7)`,
        [id, ref.source, ref.destination, ref.publication, side, shard, JSON.stringify(spec)],
      );
    }
  const clusters = (["source", "destination"] as const).map((side) => ({
    name: ref[side],
    shards: databases[side].map((database) => server.address(database)),
    shardedTables: [],
    omnishardedTables: [],
  }));
  return {
    ref,
    spec,
    databases,
    context: (overrides = {}) => engineContext(clusters, {}, overrides),
    sql: async (side, shard, text) => await server.sql(databases[side][shard] ?? "", text),
    noteEmptyCopy: async () => {
      for (const [sourceShard, source] of databases.source.entries()) {
        const [now] = await server.sql(source, "SELECT pg_current_snapshot()::text AS snapshot");
        for (const target of databases.destination)
          for (const table of tables)
            await server.sql(
              target,
              `INSERT INTO sluice.copy_chunk (migration, source_shard, schema_name, table_name, range, snapshot)
               VALUES ($1, $2, $3, $4, 0, $5)`,
              [id, sourceShard, table.schema, table.name, now?.snapshot],
            );
      }
    },
  };
}

interface ColumnRow {
  readonly name: string;
  readonly type: string;
  readonly not_null: boolean;
  readonly in_key: boolean;
  readonly in_identity: boolean;
  readonly identity: string;
}

async function planOf(
  server: PostgresServer,
  database: string,
  table: { readonly name: string; readonly shardBy: string | null },
): Promise<TablePlan> {
  const rows = (await server.sql(
    database,
    `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
            coalesce(a.attnum = ANY (p.indkey), false) AS in_key, c.relreplident AS identity,
            c.relreplident = 'f' OR coalesce(a.attnum = ANY (r.indkey), false) AS in_identity
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary
     LEFT JOIN pg_index r ON r.indrelid = a.attrelid
       AND CASE c.relreplident WHEN 'd' THEN r.indisprimary WHEN 'i' THEN r.indisreplident END
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     ORDER BY a.attnum`,
    [`public.${table.name}`],
  )) as unknown as ColumnRow[];
  const key = rows.filter((row) => row.in_key);
  const sharding = rows.find((row) => row.name === table.shardBy);
  const isInt = /^(smallint|integer|bigint)$/.test(key[0]?.type ?? "");
  const identity = { d: "default", i: "index", f: "full" } as const;
  return {
    schema: "public",
    name: table.name,
    kind: table.shardBy === null ? "omnisharded" : "sharded",
    shardingColumn: table.shardBy,
    shardingType: sharding
      ? sharding.type === "uuid"
        ? "uuid"
        : /int/.test(sharding.type)
          ? "bigint"
          : "varchar"
      : null,
    columns: rows.map((row) => ({
      name: row.name,
      type: row.type,
      notNull: row.not_null,
      binarySafe: true,
      hashAsText: false,
      inIdentity: row.in_identity,
    })),
    identity: identity[(rows[0]?.identity ?? "d") as keyof typeof identity],
    keyColumns: key.length === 0 ? null : key.map((row) => row.name),
    rangeColumn: isInt ? (key[0]?.name ?? null) : null,
    rangeType: isInt ? "int" : null,
    otherUnique: false,
    partitionRoot: null,
  };
}

/** A running stream; ends with the scope. */
export interface RunningStream extends AsyncDisposable {
  /** How the run ended; never rejects. */
  readonly ended: Promise<unknown>;
  stop(): Promise<unknown>;
}

/** Runs all from-shards' streams until disposed. */
export function startStream(
  fixture: LanesFixture,
  stream: StreamNumber,
  options: {
    readonly fromShards?: readonly number[];
    readonly overrides?: Partial<EngineContext>;
  } = {},
): RunningStream {
  const stopping = new AbortController();
  const from = fixture.databases[stream % 2 === 0 ? "source" : "destination"];
  const runs = (options.fromShards ?? from.map((_, shard) => shard)).map((fromShard) =>
    runStream(fixture.context({ ...options.overrides, signal: stopping.signal }), {
      ref: fixture.ref,
      stream,
      fromShard,
    }).then(
      (end) => end,
      (error: unknown) => error,
    ),
  );
  const ended = Promise.race(runs);
  const stop = async () => {
    stopping.abort(new Error("test over"));
    await Promise.all(runs);
    return await ended;
  };
  return { ended, stop, [Symbol.asyncDispose]: async () => void (await stop()) };
}

/** Waits until everything that has committed on the from-side is on the other. */
export async function drain(fixture: LanesFixture, stream: StreamNumber): Promise<void> {
  const context = fixture.context();
  const from = stream % 2 === 0 ? "source" : "destination";
  const lsns = [];
  await using sides = await openSides(context, fixture.ref);
  for (const client of await sides.sessions(from, { purpose: "test" }))
    lsns.push(await emitMarker(client, { migration: fixture.ref.id, kind: "drain", token: "t" }));
  const watch = await openLaneWatch(context, sides, { ref: fixture.ref, stream });
  const outcome = await watch.waitPast(lsns, 20_000);
  if (outcome.kind === "past") return;
  const status = await streamStatus(context, { ref: fixture.ref, stream });
  throw new Error(`lanes did not drain: ${outcome.kind}, ${JSON.stringify(status)}`);
}

/** One settlement (R33). */
export async function settleNow(fixture: LanesFixture, stream: number): Promise<SettleResult> {
  const context = fixture.context();
  await using sides = await openSides(context, fixture.ref);
  return await settleAside(context, sides, { ref: fixture.ref, stream });
}

/** Drained, and every key that the lanes set aside decided (R12, R33). */
export async function settled(fixture: LanesFixture, stream: number): Promise<void> {
  await drain(fixture, stream);
  await until(
    async () => {
      await settleNow(fixture, stream);
      const status = await streamStatus(fixture.context(), { ref: fixture.ref, stream });
      return status.asideKeys === 0;
    },
    { timeoutMs: 15_000, what: "keys to be settled" },
  );
  await drain(fixture, stream);
}

/** All rows of a table over all shards of a side, as sorted text; sharded tables only. */
export async function rowsOf(
  fixture: LanesFixture,
  side: Side,
  table: string,
): Promise<readonly string[]> {
  const rows: string[] = [];
  for (const shard of fixture.databases[side].keys())
    for (const row of await fixture.sql(
      side,
      shard,
      `SELECT left(t::text, 80) || md5(t::text) AS row FROM ${table} t`,
    ))
      rows.push(String(row.row));
  return rows.sort();
}
