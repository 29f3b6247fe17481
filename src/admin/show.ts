import { type TaskRow, workflowIdOf } from "../control/task-api.js";
import { assertNever } from "../core/assert.js";
import type { AdminResult, AdminRow } from "../proxy/channel.js";
import { readEvidence } from "../resharding/control/evidence.js";
import {
  readNodes,
  readReplicationSlots,
  readSchemaStatements,
  readTableCopies,
} from "../resharding/control/status.js";
import { ALL_STEPS, statusOf } from "../resharding/model/steps.js";
import { taskType } from "../resharding/model/tasks.js";
import { SHOW_TABLES } from "./columns.js";
import type { Command } from "./command.js";
import { formatBytes, formatCount, formatElapsed, formatTime } from "./format.js";
import type { AdminHost } from "./host.js";
import { configRows } from "./settings.js";
import { allPrimaries } from "./task-check.js";
import { PRODUCT_VERSION } from "./version.js";

interface Shown {
  readonly rows: readonly AdminRow[];
  readonly notices?: readonly string[];
}

/** Answers a SHOW; unreachable servers are named in notices, their rows are missing. */
export async function show(
  host: AdminHost,
  command: Extract<Command, { kind: "show" }>,
): Promise<AdminResult> {
  const { rows, notices } = await rowsOf(host, command);
  const all = SHOW_TABLES[command.what].columns;
  const picked = pickColumns(
    command,
    all.map((column) => column.name),
  );
  return {
    kind: "rows",
    columns: picked.flatMap((index) => all[index] ?? []),
    rows: rows.map((row) => picked.map((index) => row[index] ?? null)),
    tag: `SHOW ${command.what.toUpperCase()}`,
    ...(notices === undefined ? {} : { notices }),
  };
}

/** PgDog's SERVERS adds these four to any selection. */
const SERVERS_ALWAYS = new Set(["database", "user", "addr", "port"]);

function pickColumns(
  { what, columns }: Extract<Command, { kind: "show" }>,
  names: readonly string[],
): readonly number[] {
  const isWanted = (name: string) =>
    columns.length === 0 ||
    columns.includes(name) ||
    (what === "servers" && SERVERS_ALWAYS.has(name));
  return names.flatMap((name, index) => (isWanted(name) ? [index] : []));
}

async function rowsOf(
  host: AdminHost,
  { what, taskId }: Extract<Command, { kind: "show" }>,
): Promise<Shown> {
  switch (what) {
    case "tasks":
      return await tasks(host);
    case "table_copies":
      return await tableCopies(host);
    case "replication_slots":
      return await replicationSlots(host);
    case "schema_sync":
      return await schemaSync(host);
    case "nodes":
      return await nodes(host);
    case "cutover":
      return { rows: (await host.showCutover()).map((row) => SHOW_TABLES.cutover.row(row)) };
    case "config":
      return {
        rows: configRows(host.config()).map(([name, value]) =>
          SHOW_TABLES.config.row({ name, value }),
        ),
      };
    case "version":
      return { rows: [SHOW_TABLES.version.row({ version: PRODUCT_VERSION })] };
    case "clients":
    case "pools":
    case "servers":
    case "stats":
      return { rows: await host.gather(what) };
    case "lists":
      return { rows: [await lists(host)] };
    case "maintenance":
      return {
        rows: host
          .maintenanceFlags()
          .map(({ database, owner }) => SHOW_TABLES.maintenance.row({ database, owner })),
      };
    case "bans":
      // Sluice does not take servers out of service by itself: none is banned, ever.
      return { rows: [] };
    case "instance_id":
      return { rows: [SHOW_TABLES.instance_id.row({ instance_id: host.incarnation })] };
    case "evidence":
      return await evidence(host, taskId ?? null);
    default:
      return assertNever(what, "SHOW");
  }
}

/** Temporal does not know why a switch waits, as the pause has no round trip to it: the databases say it. */
async function tasks(host: AdminHost): Promise<Shown> {
  const [rows, waiting] = await Promise.all([host.tasks.list(), host.waitingSwitches()]);
  const why = await Promise.all(rows.map(async (task) => await wantedSwitch(host, task)));
  return {
    rows: rows.map((task, index) => {
      const found = waiting.find(
        ({ ref, stream }) =>
          task.status === "running" && task.type === taskType.replication(ref, stream),
      );
      const waits = found?.waiting ?? why[index] ?? null;
      return taskRow(
        waits === null ? task : { ...task, innerStatus: `${task.innerStatus}, waits: ${waits}` },
      );
    }),
  };
}

/** Why a switch that was asked for does not begin: the first reason that `sluice migrate status` gives; null: none. */
async function wantedSwitch(host: AdminHost, task: TaskRow): Promise<string | null> {
  const { id, scope, status, innerStatus } = task;
  if (id === null || scope !== "root" || status !== "running") return null;
  if (innerStatus !== statusOf(ALL_STEPS.readiness, { isReverse: false })) return null;
  // The list stands without it.
  const details = await host.tasks.status(id).catch(() => null);
  const [first, ...others] = details?.isSwitchWanted === true ? details.waitingFor : [];
  if (first === undefined) return null;
  return others.length === 0 ? first : `${first}, and ${others.length} more`;
}

function taskRow(task: TaskRow): AdminRow {
  return SHOW_TABLES.tasks.row({
    id: task.id,
    scope: task.scope,
    type: task.type,
    status: task.status,
    inner_status: task.innerStatus,
    started_at: formatTime(new Date(task.startedAtMs)),
    updated_at: formatTime(new Date(task.updatedAtMs)),
    elapsed: formatElapsed(task.elapsedMs),
    elapsed_ms: Math.round(task.elapsedMs),
  });
}

async function tableCopies(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readTableCopies(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((copy) => {
      const isRunning = copy.byteCount > 0;
      const rate = Math.round(copy.byteCount / Math.max(1, Math.floor(copy.elapsedMs / 1_000)));
      return SHOW_TABLES.table_copies.row({
        schema: copy.schema,
        table: copy.table,
        status: isRunning ? "running" : "waiting",
        rows: copy.rowCount,
        rows_human: formatCount(copy.rowCount),
        bytes: copy.byteCount,
        bytes_human: formatBytes(copy.byteCount),
        bytes_per_sec: rate,
        bytes_per_sec_human: formatBytes(rate),
        elapsed: formatElapsed(copy.elapsedMs),
        elapsed_ms: Math.round(copy.elapsedMs),
        sql: isRunning ? `COPY "${copy.schema}"."${copy.table}" TO STDOUT` : "",
      });
    }),
  };
}

async function replicationSlots(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readReplicationSlots(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((slot) =>
      SHOW_TABLES.replication_slots.row({
        host: slot.address.host,
        port: slot.address.port,
        database_name: slot.address.database,
        name: slot.name,
        lsn: slot.confirmedFlushLsn,
        lag: slot.lagBytes === null ? null : formatBytes(slot.lagBytes),
        lag_bytes: slot.lagBytes,
        // Ours are streams; the copy needs no slots of its own.
        copy_data: false,
        last_transaction: slot.lastTransaction === null ? null : formatTime(slot.lastTransaction),
        last_transaction_ms:
          slot.lastTransactionMs === null ? null : Math.round(slot.lastTransactionMs),
      }),
    ),
  };
}

async function schemaSync(host: AdminHost): Promise<Shown> {
  const config = host.config();
  const { rows, unreachable } = await readSchemaStatements(allPrimaries(config));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((statement) => {
      const { address, startedAt, elapsedMs } = statement;
      const entry = config.databases.find(
        (candidate) =>
          candidate.host === address.host &&
          candidate.port === address.port &&
          candidate.databaseName === address.database,
      );
      return SHOW_TABLES.schema_sync.row({
        database: entry?.name ?? address.database,
        user: address.user,
        shard: statement.shard,
        kind: statement.kind,
        sync_state: SYNC_STATES[statement.phase],
        started_at: startedAt === null ? null : formatTime(startedAt),
        elapsed: elapsedMs === null ? null : formatElapsed(elapsedMs),
        elapsed_ms: elapsedMs === null ? null : Math.round(elapsedMs),
        table_schema: statement.tableSchema,
        table_name: statement.tableName,
        sql: statement.sql,
      });
    }),
  };
}

const SYNC_STATES = { pre: "pre_data", post: "post_data", cutover: "cutover" } as const;

async function nodes(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readNodes(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((node) =>
      SHOW_TABLES.nodes.row({
        migration: node.migration,
        node: node.nodeId,
        incarnation: node.incarnation,
        address: node.address,
        epoch: node.epoch,
        saved_epoch: node.savedEpoch,
        last_seen: formatTime(node.lastSeen),
        last_seen_ms: Math.round(node.lastSeenMs),
      }),
    ),
  };
}

/** The one SHOW with text of rows (R56); without a task it needs no Temporal. */
async function evidence(host: AdminHost, taskId: number | null): Promise<Shown> {
  const workflowId = taskId === null ? null : await workflowIdOf(host.tasks, taskId);
  const { rows, unreachable } = await readEvidence(allPrimaries(host.config()), workflowId);
  return {
    ...noticesFor(unreachable),
    rows: rows.map((row) =>
      SHOW_TABLES.evidence.row({
        migration: row.migration,
        server: row.server,
        step: row.step,
        scope: row.scope,
        schema: row.schema,
        table: row.table,
        code: row.code,
        reason: row.reason,
        noted_at: row.notedAt === null ? null : formatTime(row.notedAt),
        evidence: row.evidence,
      }),
    ),
  };
}

async function lists(host: AdminHost): Promise<AdminRow> {
  const config = host.config();
  const [clients, pools, servers] = await Promise.all([
    host.gather("clients"),
    host.gather("pools"),
    host.gather("servers"),
  ]);
  const databases = new Set(config.databases.map((entry) => entry.name));
  return SHOW_TABLES.lists.row({
    databases: databases.size,
    users: config.users.length,
    pools: pools.length,
    none: 0,
    used_clients: clients.length,
    free_servers: 0,
    used_servers: servers.length,
  });
}

function noticesFor(unreachable: readonly string[]): Pick<Shown, "notices"> {
  return unreachable.length === 0
    ? {}
    : { notices: unreachable.map((server) => `cannot reach ${server}`) };
}
