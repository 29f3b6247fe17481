import { GENERAL_KEYS, type GeneralKeyName } from "../config/general-keys.js";
import type { Config, GeneralConfig } from "../config/model.js";
import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import { formatDuration } from "./format.js";

/** SET of a name that cannot be set. */
export class SettingUnknown extends SluiceError {
  readonly code = "SLUICE_SETTING_UNKNOWN";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "never";
  constructor(name: string, fields: ErrorFields = {}) {
    super(`unrecognized configuration parameter "${name}"`, fields);
  }
}

/** SET of a value that does not fit. */
export class SettingInvalid extends SluiceError {
  readonly code = "SLUICE_SETTING_INVALID";
  readonly sqlState = SQLSTATE.invalidParameterValue;
  readonly recovery = "never";
  constructor(name: string, value: string, wanted: string) {
    super(`invalid value for parameter "${name}": "${value}"`, { hint: `Wanted: ${wanted}.` });
  }
}

type GeneralField = Exclude<keyof GeneralConfig, "others">;

/** Keys of [general] whose value the rest of Sluice reads by a name of its own; the others stand in `others`. */
const FIELDS: Readonly<Partial<Record<GeneralKeyName, GeneralField>>> = {
  host: "host",
  port: "port",
  workers: "workers",
  default_pool_size: "defaultPoolSize",
  min_pool_size: "minPoolSize",
  pooler_mode: "poolerMode",
  auth_type: "authType",
  checkout_timeout: "checkoutTimeoutMs",
  connect_timeout: "connectTimeoutMs",
  idle_timeout: "idleTimeoutMs",
  server_lifetime: "serverLifetimeMs",
  server_lifetime_jitter: "serverLifetimeJitterMs",
  prepared_statements_limit: "preparedStatementsLimit",
  client_login_timeout: "clientLoginTimeoutMs",
  shutdown_timeout: "shutdownTimeoutMs",
  cutover_traffic_stop_threshold: "cutoverTrafficStopThresholdBytes",
  cutover_save_config: "cutoverSaveConfig",
  resharding_copy_format: "reshardingCopyFormat",
  resharding_parallel_copies: "reshardingParallelCopies",
  two_phase_commit: "twoPhaseCommit",
  log_level: "logLevel",
};

/** What SET takes (PgDog's list, without what stands in [rewrite]). */
const SETTABLE: ReadonlySet<GeneralKeyName> = new Set<GeneralKeyName>([
  "query_timeout",
  "checkout_timeout",
  "connect_timeout",
  "auth_type",
  "passthrough_auth",
  "read_write_strategy",
  "read_write_split",
  "load_balancing_strategy",
  "prepared_statements",
  "prepared_statements_limit",
  "cross_shard_disabled",
  "two_phase_commit",
  "two_phase_commit_auto",
  "healthcheck_interval",
  "idle_healthcheck_interval",
  "idle_healthcheck_delay",
  "ban_timeout",
  "tls_client_required",
  "query_parser",
  "client_idle_in_transaction_timeout",
  "reload_schema_on_ddl",
  "connection_recovery",
  "client_connection_recovery",
  "default_pool_size",
  "canonicalize_type_information",
  "dry_run",
]);

/** Settings of PostgreSQL that drivers set when they connect: taken, as values always travel as UTF-8 text. */
const SESSION_SETTINGS = new Set([
  "application_name",
  "bytea_output",
  "client_encoding",
  "client_min_messages",
  "datestyle",
  "extra_float_digits",
  "intervalstyle",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
  "row_security",
  "search_path",
  "standard_conforming_strings",
  "statement_timeout",
  "timezone",
]);

export interface SettingChange {
  /** null: a driver's session setting, nothing to change. */
  readonly edit: ((config: Config) => Config) | null;
  readonly notice: string | null;
}

/**
 * @returns the change that `SET name TO value` asks for
 * @throws SettingUnknown | SettingInvalid
 */
export function changeOf(name: string, value: string): SettingChange {
  if (SESSION_SETTINGS.has(name)) return { edit: null, notice: null };
  const rewrite = rewriteChangeOf(name, value);
  if (rewrite !== null) return rewrite;
  const key = [...SETTABLE].find((settable) => settable === name);
  if (key === undefined)
    throw new SettingUnknown(name, {
      hint: `SET takes: ${[...SETTABLE].join(", ")}. Others: change the file and RELOAD.`,
    });
  const parsed = parseValue(key, value);
  const field = FIELDS[key];
  const edit = (config: Config): Config => ({
    ...config,
    general:
      field === undefined
        ? { ...config.general, others: { ...config.general.others, [key]: parsed } }
        : { ...config.general, [field]: parsed },
  });
  const isInert = GENERAL_KEYS[key].effect === null;
  return { edit, notice: isInert ? `"${key}" is accepted and has no effect in Sluice` : null };
}

function rewriteChangeOf(name: string, value: string): SettingChange | null {
  if (name === "rewrite_enabled" || name === "rewrite_primary_key")
    return { edit: null, notice: `"${name}" is accepted and has no effect in Sluice` };
  if (name === "rewrite_shard_key_updates") {
    const shardKey = oneOf(name, value, ["error", "rewrite", "ignore"]);
    return {
      edit: (config) => ({ ...config, rewrite: { ...config.rewrite, shardKey } }),
      notice: null,
    };
  }
  if (name !== "rewrite_split_inserts") return null;
  const splitInserts = oneOf(name, value, ["error", "rewrite"]);
  return {
    edit: (config) => ({ ...config, rewrite: { ...config.rewrite, splitInserts } }),
    notice: null,
  };
}

function parseValue(key: GeneralKeyName, value: string): string | number | boolean {
  const { type } = GENERAL_KEYS[key];
  if (typeof type !== "string") return oneOf(key, value, type);
  switch (type) {
    case "string":
      return value;
    case "booleanOrAuto":
      if (value.toLowerCase() === "auto") return "auto";
      return parseBoolean(key, value, "on, off or auto");
    case "boolean":
      return parseBoolean(key, value, "on or off");
    default: {
      if (!/^\d{1,15}$/u.test(value))
        throw new SettingInvalid(key, value, "a whole number (durations in ms)");
      const number = Number(value);
      if (key === "default_pool_size" && number < 1)
        throw new SettingInvalid(key, value, "at least 1");
      return number;
    }
  }
}

function parseBoolean(key: GeneralKeyName, value: string, wanted: string): boolean {
  const isOn = ["on", "true", "yes", "1", "t"].includes(value.toLowerCase());
  if (!isOn && !["off", "false", "no", "0", "f"].includes(value.toLowerCase()))
    throw new SettingInvalid(key, value, wanted);
  return isOn;
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value.toLowerCase());
  if (found === undefined) throw new SettingInvalid(name, value, `one of ${allowed.join(", ")}`);
  return found;
}

const SECRET = /(?:password|secret|apiKey)$/iu;
const DURATION = /(?:timeout|interval|delay|lifetime|jitter|period|ttl)$/u;

/** Rows of SHOW CONFIG: [general], [rewrite] and sluice.toml, by name; nothing secret stands in them. */
export function configRows(config: Config): readonly (readonly [string, string])[] {
  const rows = new Map<string, string>();
  for (const [key, { initial }] of Object.entries(GENERAL_KEYS)) {
    const field = FIELDS[key as GeneralKeyName];
    const value = field === undefined ? config.general.others[key] : config.general[field];
    rows.set(key, shown(key, value ?? initial));
  }
  rows.set("rewrite_shard_key_updates", config.rewrite.shardKey);
  rows.set("rewrite_split_inserts", config.rewrite.splitInserts);
  flatten("sluice", config.sluice, rows);
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1));
}

function flatten(prefix: string, values: object, rows: Map<string, string>): void {
  for (const [name, value] of Object.entries(values)) {
    if (SECRET.test(name)) continue;
    const key = `${prefix}_${name.replaceAll(/[A-Z]/gu, (letter) => `_${letter.toLowerCase()}`)}`;
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      flatten(key, value as object, rows);
    else rows.set(key, Array.isArray(value) ? value.join(", ") : String(value));
  }
}

function shown(key: string, value: string | number | boolean | null): string {
  if (value === null) return "default";
  return typeof value === "number" && DURATION.test(key) ? formatDuration(value) : String(value);
}
