import type { TaskRow } from "../control/task-api.js";
import { assertNever } from "../core/assert.js";
import type { AdminResult, AdminRow, AdminValue } from "../proxy/channel.js";
import {
  readNodes,
  readReplicationSlots,
  readSchemaStatements,
  readTableCopies,
} from "../resharding/control/status.js";
import { SHOW_COLUMNS } from "./columns.js";
import type { Command, ShowName } from "./command.js";
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
  const { rows, notices } = await rowsOf(host, command.what);
  const all = SHOW_COLUMNS[command.what];
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

async function rowsOf(host: AdminHost, what: ShowName): Promise<Shown> {
  switch (what) {
    case "tasks":
      return { rows: (await host.tasks.list()).map(taskRow) };
    case "table_copies":
      return await tableCopies(host);
    case "replication_slots":
      return await replicationSlots(host);
    case "schema_sync":
      return await schemaSync(host);
    case "nodes":
      return await nodes(host);
    case "cutover":
      return { rows: (await host.showCutover()).map((row) => byName("cutover", row)) };
    case "config":
      return { rows: configRows(host.config()) };
    case "version":
      return { rows: [[PRODUCT_VERSION]] };
    case "clients":
    case "pools":
    case "servers":
    case "stats":
      return { rows: await host.gather(what) };
    case "lists":
      return { rows: [await lists(host)] };
    case "maintenance":
      return { rows: host.maintenanceFlags().map(({ database, owner }) => [database, owner]) };
    case "bans":
      // Sluice does not take servers out of service by itself: none is banned, ever.
      return { rows: [] };
    case "instance_id":
      return { rows: [[host.incarnation]] };
    default:
      return assertNever(what, "SHOW");
  }
}

function byName(what: ShowName, row: Readonly<Record<string, AdminValue>>): AdminRow {
  return SHOW_COLUMNS[what].map((column) => row[column.name] ?? null);
}

function taskRow(task: TaskRow): AdminRow {
  return [
    task.id,
    task.scope,
    task.type,
    task.status,
    task.innerStatus,
    formatTime(new Date(task.startedAtMs)),
    formatTime(new Date(task.updatedAtMs)),
    formatElapsed(task.elapsedMs),
    Math.round(task.elapsedMs),
  ];
}

async function tableCopies(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readTableCopies(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((copy) => {
      const isRunning = copy.byteCount > 0;
      const rate = Math.round(copy.byteCount / Math.max(1, Math.floor(copy.elapsedMs / 1_000)));
      return [
        copy.schema,
        copy.table,
        isRunning ? "running" : "waiting",
        copy.rowCount,
        formatCount(copy.rowCount),
        copy.byteCount,
        formatBytes(copy.byteCount),
        rate,
        formatBytes(rate),
        formatElapsed(copy.elapsedMs),
        Math.round(copy.elapsedMs),
        isRunning ? `COPY "${copy.schema}"."${copy.table}" TO STDOUT` : "",
      ];
    }),
  };
}

async function replicationSlots(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readReplicationSlots(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((slot) => [
      slot.address.host,
      slot.address.port,
      slot.address.database,
      slot.name,
      slot.confirmedFlushLsn,
      slot.lagBytes === null ? null : formatBytes(slot.lagBytes),
      slot.lagBytes,
      // Ours are streams; the copy needs no slots of its own.
      false,
      slot.lastTransaction === null ? null : formatTime(slot.lastTransaction),
      slot.lastTransactionMs === null ? null : Math.round(slot.lastTransactionMs),
    ]),
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
      return [
        entry?.name ?? address.database,
        address.user,
        statement.shard,
        statement.kind,
        SYNC_STATES[statement.phase],
        startedAt === null ? null : formatTime(startedAt),
        elapsedMs === null ? null : formatElapsed(elapsedMs),
        elapsedMs === null ? null : Math.round(elapsedMs),
        statement.tableSchema,
        statement.tableName,
        statement.sql,
      ];
    }),
  };
}

const SYNC_STATES = { pre: "pre_data", post: "post_data", cutover: "cutover" } as const;

async function nodes(host: AdminHost): Promise<Shown> {
  const { rows, unreachable } = await readNodes(allPrimaries(host.config()));
  return {
    ...noticesFor(unreachable),
    rows: rows.map((node) => [
      node.migration,
      node.nodeId,
      node.incarnation,
      node.address,
      node.epoch,
      node.savedEpoch,
      formatTime(node.lastSeen),
      Math.round(node.lastSeenMs),
    ]),
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
  return [databases.size, config.users.length, pools.length, 0, clients.length, 0, servers.length];
}

function noticesFor(unreachable: readonly string[]): Pick<Shown, "notices"> {
  return unreachable.length === 0
    ? {}
    : { notices: unreachable.map((server) => `cannot reach ${server}`) };
}
