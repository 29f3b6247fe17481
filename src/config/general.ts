import type { Environment } from "./environment.js";
import {
  AUTH_TYPES,
  COPY_FORMATS,
  GENERAL_KEYS,
  type GeneralKey,
  type GeneralKeyName,
  POOLER_MODES,
} from "./general-keys.js";
import type { GeneralConfig } from "./model.js";
import { MAX_INTEGER, type TableReader } from "./table-reader.js";

type Value = string | number | boolean;

/** Reads [general]: the file, else PGDOG_<KEY>, else the default. Appends what has no effect to `warnings`. */
export function readGeneral(
  table: TableReader,
  env: Environment,
  warnings: string[],
): GeneralConfig {
  const values = new Map<string, Value>();
  for (const [name, key] of entries()) {
    const written = readKey(table, name, key) ?? fromEnvironment(table, env, name, key);
    if (written !== null && key.effect === null && written !== key.initial)
      warnings.push(`[general] ${name} is accepted and has no effect yet`);
    const value = written ?? key.initial;
    if (value !== null) values.set(name, value);
  }
  const poolSize = table.integer("max_pool_size", { min: 1, max: MAX_INTEGER });
  if (poolSize !== null && !table.has("default_pool_size"))
    values.set("default_pool_size", poolSize);
  table.finish();
  if (values.get("tls_client_required") === true)
    throw table.wrong("tls_client_required", "cannot be true: clients' TLS is not supported yet");
  return toModel(values);
}

function entries(): [GeneralKeyName, GeneralKey][] {
  return Object.entries(GENERAL_KEYS) as [GeneralKeyName, GeneralKey][];
}

function readKey(table: TableReader, name: string, key: GeneralKey): Value | null {
  switch (key.type) {
    case "integer":
      return table.integer(name, { min: key.min ?? 0, max: key.max ?? MAX_INTEGER });
    case "number":
      return table.number(name);
    case "boolean":
      return table.boolean(name);
    case "booleanOrAuto":
      return table.booleanOrAuto(name);
    case "string":
      return table.string(name);
    default:
      return table.oneOf(name, key.type);
  }
}

function fromEnvironment(
  table: TableReader,
  env: Environment,
  name: string,
  key: GeneralKey,
): Value | null {
  const variable = `PGDOG_${name.toUpperCase()}`;
  const text = env[variable];
  if (text === undefined || text === "") return null;
  const wrong = (problem: string) => table.wrong(name, `${problem} in ${variable}`);
  switch (key.type) {
    case "string":
      return text;
    case "boolean":
      if (!["true", "false", "1", "0"].includes(text)) throw wrong("must be true or false");
      return text === "true" || text === "1";
    case "booleanOrAuto":
      if (!["true", "false", "1", "0", "auto"].includes(text))
        throw wrong("must be true, false or auto");
      return text === "auto" ? text : text === "true" || text === "1";
    case "integer":
    case "number": {
      const value = Math.min(Number(text), key.max ?? MAX_INTEGER);
      const isWhole = key.type === "number" || Number.isInteger(value);
      if (text.trim() === "" || !isWhole || value < (key.min ?? 0)) throw wrong("is out of range");
      return value;
    }
    default:
      if (!key.type.includes(text)) throw wrong(`must be one of ${key.type.join(", ")}`);
      return text;
  }
}

function toModel(values: Map<string, Value>): GeneralConfig {
  // Each value was checked against the table on its way in; a key is taken once, the rest are `others`.
  const take = (name: GeneralKeyName): Value => {
    const value = values.get(name) ?? "";
    values.delete(name);
    return value;
  };
  const number = (name: GeneralKeyName): number => Number(take(name));
  const boolean = (name: GeneralKeyName): boolean => take(name) === true;
  const booleanOrAuto = (name: GeneralKeyName): boolean | "auto" => {
    const value = take(name);
    return value === "auto" ? value : value === true;
  };
  const choice = <const T extends string>(name: GeneralKeyName, all: readonly [T, ...T[]]): T => {
    const value = take(name);
    return all.find((one) => one === value) ?? all[0];
  };
  return {
    host: String(take("host")),
    port: number("port"),
    workers: Math.max(1, number("workers")),
    defaultPoolSize: number("default_pool_size"),
    minPoolSize: number("min_pool_size"),
    poolerMode: choice("pooler_mode", POOLER_MODES),
    authType: choice("auth_type", AUTH_TYPES),
    checkoutTimeoutMs: number("checkout_timeout"),
    connectTimeoutMs: number("connect_timeout"),
    idleTimeoutMs: number("idle_timeout"),
    serverLifetimeMs: number("server_lifetime"),
    serverLifetimeJitterMs: number("server_lifetime_jitter"),
    preparedStatementsLimit: number("prepared_statements_limit"),
    clientLoginTimeoutMs: number("client_login_timeout"),
    shutdownTimeoutMs: number("shutdown_timeout"),
    cutoverTrafficStopThresholdBytes: number("cutover_traffic_stop_threshold"),
    cutoverSaveConfig: boolean("cutover_save_config"),
    reshardingCopyFormat: choice("resharding_copy_format", COPY_FORMATS),
    reshardingParallelCopies: number("resharding_parallel_copies"),
    twoPhaseCommit: booleanOrAuto("two_phase_commit"),
    logLevel: String(take("log_level")),
    others: Object.fromEntries(values),
  };
}
