import { hostname } from "node:os";
import type { SluiceConfig } from "./model.js";
import { MAX_INTEGER, readSection, type TableReader } from "./table-reader.js";
import type { TomlFile } from "./toml-file.js";

/** One key of sluice.toml. Reader and docs/configuration.md come from this table. */
export interface SluiceKey {
  readonly section: "node" | "temporal" | "switch" | "copy" | "sharding" | "admin";
  readonly key: string;
  readonly type: "integer" | "boolean" | "string" | "strings" | readonly string[];
  /** As it would stand in the file. */
  readonly initial: number | boolean | string | readonly string[];
  readonly min?: number;
  readonly effect: string;
}

export const SLUICE_KEYS = {
  nodeId: {
    section: "node",
    key: "id",
    type: "string",
    initial: "",
    effect: "name of this node, the same over restarts; empty: host name and port",
  },
  movers: {
    section: "node",
    key: "movers",
    type: "integer",
    initial: 1,
    effect: "processes of this node that copy, apply and verify; 0 leaves that to other nodes",
  },
  temporalAddress: {
    section: "temporal",
    key: "address",
    type: "string",
    initial: "127.0.0.1:7233",
    effect: "host:port of Temporal's front end; TEMPORAL_ADDRESS goes first",
  },
  temporalNamespace: {
    section: "temporal",
    key: "namespace",
    type: "string",
    initial: "default",
    effect: "namespace; TEMPORAL_NAMESPACE goes first",
  },
  pauseCapMs: {
    section: "switch",
    key: "pause_cap_ms",
    type: "integer",
    min: 100,
    initial: 10_000,
    effect: "longest pause that a switch may make; past it the switch undoes itself",
  },
  pauseBudgetMs: {
    section: "switch",
    key: "pause_budget_ms",
    type: "integer",
    min: 1,
    initial: 2_000,
    effect: "a switch begins only when the predicted pause fits this",
  },
  openTransactions: {
    section: "switch",
    key: "open_transactions",
    type: ["wait", "end"],
    initial: "wait",
    effect: "open transactions at the hold: wait for them within the cap, or end them",
  },
  silentNode: {
    section: "switch",
    key: "silent_node",
    type: ["abort", "fence"],
    initial: "abort",
    effect:
      "a node that does not answer at arm: give the attempt up, or leave the node to the gate",
  },
  holdMaxClients: {
    section: "switch",
    key: "hold_max_clients",
    type: "integer",
    min: 1,
    initial: 10_000,
    effect: "clients that one data plane lets wait; more get a retryable error",
  },
  holdMaxBytes: {
    section: "switch",
    key: "hold_max_bytes",
    type: "integer",
    min: 1_024,
    initial: 67_108_864,
    effect: "bytes of requests that one data plane keeps while clients wait",
  },
  verifyMaxAgeMs: {
    section: "switch",
    key: "verify_max_age_ms",
    type: "integer",
    min: 1_000,
    initial: 3_600_000,
    effect: "a clean verification pass older than this does not allow a switch",
  },
  copyRangeRows: {
    section: "copy",
    key: "range_rows",
    type: "integer",
    min: 100,
    initial: 50_000,
    effect: "rows of one copied key range, about",
  },
  replicaIdentity: {
    section: "copy",
    key: "replica_identity",
    type: ["auto", "refuse"],
    initial: "auto",
    effect:
      "tables without a usable replica identity: give them one (a unique index over NOT NULL columns, else FULL) " +
      "and put back what was there when the migration ends, or do not begin",
  },
  uniqueWithoutShardingKey: {
    section: "copy",
    key: "unique_without_sharding_key",
    type: ["warn", "refuse"],
    initial: "warn",
    effect:
      "unique constraints that each shard sees to alone, so that a value may be taken on two shards and stand in " +
      "the way back: say so, or do not begin. The older `accept_unique_without_sharding_key` is still read: " +
      "`true` is `warn`, `false` is `refuse`",
  },
  leftBehind: {
    section: "copy",
    key: "left_behind",
    type: "strings",
    initial: [],
    effect: 'tables with rows, "schema.table", that the publication leaves out on purpose',
  },
  placementGuard: {
    section: "sharding",
    key: "placement_guard",
    type: "boolean",
    initial: true,
    effect:
      "sharded tables that a migration or a CREATE TABLE through Sluice makes get a CHECK, `sluice_placement`, by " +
      "which PostgreSQL refuses a row that belongs to another shard",
  },
  adminApiTimeoutMs: {
    section: "admin",
    key: "api_timeout_ms",
    type: "integer",
    min: 100,
    initial: 10_000,
    effect: "ms that an admin command waits for Temporal",
  },
} as const satisfies Readonly<Record<string, SluiceKey>>;

const SECTIONS = ["node", "temporal", "switch", "copy", "sharding", "admin"] as const;

/** @param port part of the default node id */
export function readSluice(file: TomlFile, port: number): SluiceConfig {
  const tables = new Map(SECTIONS.map((section) => [section, readSection(file, section)] as const));
  const of = (row: SluiceKey): TableReader => {
    const table = tables.get(row.section);
    if (!table) throw new TypeError(row.section);
    return table;
  };
  const integer = (row: SluiceKey & { readonly initial: number }): number =>
    of(row).integer(row.key, { min: row.min ?? 0, max: MAX_INTEGER }) ?? row.initial;
  const string = (row: SluiceKey & { readonly initial: string }): string =>
    of(row).string(row.key) ?? row.initial;
  const boolean = (row: SluiceKey & { readonly initial: boolean }): boolean =>
    of(row).boolean(row.key) ?? row.initial;
  const { openTransactions, silentNode, leftBehind, replicaIdentity } = SLUICE_KEYS;
  const config: SluiceConfig = {
    nodeId: string(SLUICE_KEYS.nodeId) || `${hostname()}:${port}`,
    movers: integer(SLUICE_KEYS.movers),
    temporal: {
      address: string(SLUICE_KEYS.temporalAddress),
      namespace: string(SLUICE_KEYS.temporalNamespace),
    },
    pauseCapMs: integer(SLUICE_KEYS.pauseCapMs),
    pauseBudgetMs: integer(SLUICE_KEYS.pauseBudgetMs),
    openTransactions:
      of(openTransactions).oneOf(openTransactions.key, openTransactions.type) ??
      openTransactions.initial,
    silentNode: of(silentNode).oneOf(silentNode.key, silentNode.type) ?? silentNode.initial,
    holdMaxClients: integer(SLUICE_KEYS.holdMaxClients),
    holdMaxBytes: integer(SLUICE_KEYS.holdMaxBytes),
    verifyMaxAgeMs: integer(SLUICE_KEYS.verifyMaxAgeMs),
    copyRangeRows: integer(SLUICE_KEYS.copyRangeRows),
    replicaIdentity:
      of(replicaIdentity).oneOf(replicaIdentity.key, replicaIdentity.type) ??
      replicaIdentity.initial,
    uniqueWithoutShardingKey: readUniquePolicy(of(SLUICE_KEYS.uniqueWithoutShardingKey)),
    leftBehind: of(leftBehind).strings(leftBehind.key) ?? [],
    placementGuard: boolean(SLUICE_KEYS.placementGuard),
    adminApiTimeoutMs: integer(SLUICE_KEYS.adminApiTimeoutMs),
  };
  for (const table of tables.values()) table.finish();
  return config;
}

/** Until the key had this name it was a consent, asked for before a migration could begin. */
const FORMER_CONSENT = "accept_unique_without_sharding_key";

function readUniquePolicy(table: TableReader): SluiceConfig["uniqueWithoutShardingKey"] {
  const { key, type, initial } = SLUICE_KEYS.uniqueWithoutShardingKey;
  const consent = table.boolean(FORMER_CONSENT);
  const former = consent === null ? initial : consent ? "warn" : "refuse";
  return table.oneOf(key, type) ?? former;
}

export const SLUICE_SECTIONS: readonly string[] = SECTIONS;
