import { SQLSTATE } from "../core/sqlstate.js";
import { classify } from "../sql/classify.js";
import { NOT_A_KEY, shardOfText } from "../topology/hash.js";
import { type Database, type ShardId, shardId } from "../topology/topology.js";
import type { Route } from "./route.js";
import type { Router } from "./router.js";

/** What an application says of a statement's place: in a comment at its start or end, or by settings. */
export interface Hints {
  readonly shard: string | null;
  readonly key: string | null;
  readonly role: string | null;
  /** Names beginning with `pgdog.` that mean nothing here. */
  readonly unknown: string | null;
}

type Refused = Extract<Route, { kind: "refused" }>;

const NO_HINTS: Hints = { shard: null, key: null, role: null, unknown: null };

const SETTINGS: Readonly<Record<string, "shard" | "key" | "role">> = {
  "pgdog.shard": "shard",
  "pgdog.sharding_key": "key",
  "pgdog.role": "role",
};

/** Names that settings of hints have. */
export const HINT_SETTINGS = Object.keys(SETTINGS);

/** @param settings of the session, by lower case names; "" is none */
export function hintsOfSettings(settings: ReadonlyMap<string, string>): Hints {
  let hints = NO_HINTS;
  for (const [name, value] of settings) {
    if (!name.startsWith("pgdog.") || value === "") continue;
    const known = SETTINGS[name];
    hints = { ...hints, [known ?? "unknown"]: known ? value : name };
  }
  return hints;
}

const HINT = /\bpgdog_(\w+)\s*:\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))/g;

/** Comments at the start, then those at the end, which count for less. */
function hintsOfText(sql: string): Hints {
  if (!sql.includes("pgdog_")) return NO_HINTS;
  let hints = NO_HINTS;
  for (const comment of [...commentsBefore(sql), ...commentsAfter(sql)])
    for (const [, name, double, single, bare] of comment.matchAll(HINT)) {
      const value = double ?? single ?? bare ?? "";
      const known = SETTINGS[`pgdog.${name}`];
      if (!known) hints = { ...hints, unknown: hints.unknown ?? `pgdog_${name}` };
      else if (hints[known] === null) hints = { ...hints, [known]: value };
    }
  return hints;
}

function commentsBefore(sql: string): readonly string[] {
  const found: string[] = [];
  let at = 0;
  for (;;) {
    while (/\s/.test(sql.charAt(at))) at++;
    const end = sql.startsWith("/*", at) ? sql.indexOf("*/", at + 2) : -1;
    if (end < 0) return found;
    found.push(sql.slice(at, end + 2));
    at = end + 2;
  }
}

function commentsAfter(sql: string): readonly string[] {
  const found: string[] = [];
  let text = sql;
  for (;;) {
    text = text.trimEnd();
    if (text.endsWith(";")) text = text.slice(0, -1).trimEnd();
    if (!text.endsWith("*/")) return found;
    const at = text.lastIndexOf("/*");
    if (at < 0) return found;
    found.push(text.slice(at));
    text = text.slice(0, at);
  }
}

/** A statement's own hints before the session's; a key before a number. */
function together(own: Hints, settings: Hints): Hints {
  const isPlaced = own.shard !== null || own.key !== null;
  return {
    shard: isPlaced ? own.shard : settings.shard,
    key: isPlaced ? own.key : settings.key,
    role: own.role ?? settings.role,
    unknown: own.unknown ?? settings.unknown,
  };
}

/**
 * The shard that hints name.
 * @returns null: none is named; a refusal: what is said cannot be done
 */
export function hintedShard(
  sql: string,
  settings: Hints,
  database: Pick<Database, "shardCount" | "shardedTables">,
): ShardId | null | Refused {
  const own = hintsOfText(sql);
  if (own === NO_HINTS && settings === NO_HINTS) return null;
  const { shard, key, role, unknown } = together(own, settings);
  if (unknown !== null) return refusedHint(`hint "${unknown}" is not known`);
  if (role !== null && !/^(?:primary|auto)$/i.test(role))
    return refusedHint(`statements go to the primary only, not to role "${role}"`);
  if (key !== null) return shardOfKey(key, database);
  if (shard === null) return null;
  if (!/^\d{1,9}$/.test(shard) || Number(shard) >= database.shardCount)
    return refusedHint(`there is no shard "${shard}": they are 0 to ${database.shardCount - 1}`);
  return shardId(Number(shard));
}

function shardOfKey(
  key: string,
  { shardCount, shardedTables }: Pick<Database, "shardCount" | "shardedTables">,
): ShardId | Refused {
  if (shardCount === 1) return shardId(0);
  const [type, ...others] = new Set(shardedTables.map(({ dataType }) => dataType));
  if (type === undefined || others.length > 0)
    return refusedHint(
      "a sharding key alone names no shard: not all rules have the same data_type",
    );
  const shard = shardOfText(key, type, shardCount);
  return shard === NOT_A_KEY
    ? refusedHint("the hinted sharding key is no value of its type")
    : shardId(shard);
}

const READING = new Set(["select", "explain", "show", "call"]);
const WRITES = /\b(?:insert|update|delete|merge|into|truncate|copy)\b/i;

/** What becomes of a route when the application names a shard: nobody's row is written where it does not belong. */
function directed(route: Route, shard: ShardId, sql: string): Route {
  switch (route.kind) {
    case "any":
      return { kind: "one", shard, isWrite: false };
    case "one":
      if (route.shard === shard) return route;
      return refusedHint(`the statement's own key belongs to shard ${route.shard}, not ${shard}`);
    case "many":
      if (route.isWrite && route.count === "first")
        return refusedHint("what every shard has is not written on one alone");
      if (route.isWrite && route.rewrittenSql !== null)
        return refusedHint("this write cannot be sent to one shard");
      return { kind: "one", shard, isWrite: route.isWrite };
    case "refused":
      if (route.sqlState !== SQLSTATE.featureNotSupported) return route;
      return READING.has(classify(sql)[0]?.kind ?? "") && !WRITES.test(sql)
        ? { kind: "one", shard, isWrite: false }
        : route;
    default:
      return refusedHint("this statement cannot be sent to one shard");
  }
}

/** Obeys hints, or refuses. @param settings the session's */
export function hintedRouter(
  router: Router,
  settings: Hints,
  database: Pick<Database, "shardCount" | "shardedTables">,
): Router {
  return {
    written: (sql) => router.written(sql),
    route(sql, parameters) {
      const shard = hintedShard(sql, settings, database);
      if (shard === null) return router.route(sql, parameters);
      if (typeof shard !== "number") return shard;
      return directed(router.route(sql, parameters), shard, sql);
    },
    routeDrawn: (plan, drawn, parameters) => router.routeDrawn(plan, drawn, parameters),
  };
}

function refusedHint(reason: string): Refused {
  return {
    kind: "refused",
    sqlState: SQLSTATE.systemError,
    reason,
    hint: "Hints are pgdog_shard and pgdog_sharding_key in a comment, or the settings pgdog.shard and pgdog.sharding_key; RESET them.",
  };
}
