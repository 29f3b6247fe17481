import type { Query } from "../final-tables.js";
import type { RowState } from "../history.js";
import type { FinalTables } from "../judge.js";
import { CLASSES } from "./ledger.js";

/** Rows that are the same to the ledger. */
export interface ClassState {
  readonly rows: number;
  /** Of tasks: those that are done. */
  readonly done: number;
}

/** What `now()` wrote, of all rows of a key; null where nobody has written yet. Milliseconds of the epoch. */
export interface StampState {
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

/** What is the same on every shard. */
export interface EverywhereState {
  /** By name: `feature_flags flag-7`. */
  readonly flags: ReadonlyMap<string, { readonly isEnabled: boolean }>;
  readonly stamps: ReadonlyMap<string, StampState>;
  /** Digest of a table that nobody writes. */
  readonly still: ReadonlyMap<string, string>;
}

/** A side as the ledger's judge sees it, over all its shards. Keys are the ledger's. */
export interface OrdinaryState {
  /** Rows of team clients, by table and key. */
  readonly owned: FinalTables["rows"];
  /** How often the row is there. */
  readonly rows: ReadonlyMap<string, number>;
  readonly classes: ReadonlyMap<string, ClassState>;
  /** Rows of the log that the load has written. */
  readonly logged: ReadonlyMap<string, number>;
  readonly stamps: ReadonlyMap<string, StampState>;
  readonly still: ReadonlyMap<string, string>;
  readonly shards: readonly EverywhereState[];
  /** Generated ids that more than one row has. */
  readonly repeatedIds: readonly string[];
}

const LOADED = `
  SELECT 'projects ' || tenant_id || ' ' || name AS key FROM projects WHERE name LIKE 'load %'
  UNION ALL SELECT 'comments ' || tenant_id || ' ' || body FROM comments WHERE body LIKE 'load %'
  UNION ALL SELECT 'tenants ' || slug FROM tenants WHERE slug LIKE 'signup-%'`;
const classKey = (table: keyof typeof CLASSES) =>
  `'${table} ' || tenant_id || '/' || id % ${CLASSES[table]}`;
/** Those of the seed, whom load.sql draws; teams come after them. */
const SEEDED = "tenant_id <= 400";
const CLASS_STATES = `
  SELECT ${classKey("users")} AS key, count(*)::int AS rows, 0 AS done
  FROM users WHERE ${SEEDED} GROUP BY 1
  UNION ALL
  SELECT ${classKey("tasks")}, count(*), count(*) FILTER (WHERE state = 'done')
  FROM tasks WHERE ${SEEDED} GROUP BY 1
  UNION ALL
  SELECT ${classKey("attachments")}, count(*), 0 FROM attachments WHERE ${SEEDED} GROUP BY 1`;
const LOGGED = `
  SELECT 'audit_log ' || tenant_id AS key, count(*)::int AS rows FROM audit_log WHERE action = 'load' GROUP BY 1`;
const LOGINS = `
  SELECT ${classKey("users")} AS key, extract(epoch FROM min(last_login_at)) * 1000 AS from_ms,
         extract(epoch FROM max(last_login_at)) * 1000 AS to_ms
  FROM users WHERE ${SEEDED} GROUP BY 1`;
/** Of the seed and of load.sql; a person may have others. */
const FLAG = "name LIKE 'flag%'";
/** Of flags the time of their last change; of sessions when they began. */
const STAMPS_EVERYWHERE = `
  SELECT 'sessions ' || session_key AS key, extract(epoch FROM expire_date - interval '1 day') * 1000 AS from_ms,
         extract(epoch FROM expire_date - interval '1 day') * 1000 AS to_ms
  FROM sessions
  UNION ALL
  SELECT 'feature_flags ' || name, extract(epoch FROM updated_at) * 1000, extract(epoch FROM updated_at) * 1000
  FROM feature_flags WHERE ${FLAG}`;
const FLAGS = `SELECT 'feature_flags ' || name AS key, enabled FROM feature_flags WHERE ${FLAG}`;
const count = (table: string, condition: string) =>
  `(SELECT count(*) FROM ${table} r WHERE ${condition})`;
const OWNED = `
  SELECT 'teams' AS of, slug AS key, 0 AS tenant, 0 AS revision,
         ${count("users", "r.tenant_id = t.id")} + ${count("projects", "r.tenant_id = t.id")}
         + ${count("project_members", "r.tenant_id = t.id")} AS lines
  FROM tenants t WHERE slug LIKE 'team-%'
  UNION ALL
  SELECT 'tasks', title, tenant_id, estimate::int,
         ${count("comments", "r.task_id = t.id")} + ${count("attachments", "r.task_id = t.id")}
  FROM tasks t WHERE title LIKE 'team %'
  UNION ALL
  SELECT 'notes', detail ->> 'key', tenant_id, 0, 0 FROM audit_log WHERE action = 'note'`;
const GENERATED = ["tenants", "users", "projects", "tasks", "comments", "attachments", "audit_log"];
const IDS = GENERATED.map((table) => `SELECT '${table} ' || id AS key FROM ${table}`).join(
  " UNION ALL ",
);
const STILL = [`project_members WHERE ${SEEDED}`];
const STILL_EVERYWHERE = ["plans", "schema_migrations"];

/** Reads one side, straight from its servers, at rest. */
export async function readOrdinary(shards: readonly Query[]): Promise<OrdinaryState> {
  const all = async (text: string) =>
    (await Promise.all(shards.map((shard) => shard(text)))).flat();
  const ids = tally((await all(IDS)).map(({ key }) => String(key)));
  return {
    owned: toOwned(await all(OWNED)),
    rows: tally((await all(LOADED)).map(({ key }) => String(key))),
    classes: new Map(
      (await all(CLASS_STATES)).map(({ key, rows, done }) => [
        String(key),
        { rows: Number(rows), done: Number(done) },
      ]),
    ),
    logged: new Map((await all(LOGGED)).map(({ key, rows }) => [String(key), Number(rows)])),
    stamps: toStamps(await all(LOGINS)),
    still: await digests(shards, STILL),
    shards: await Promise.all(
      shards.map(async (shard) => ({
        flags: new Map(
          (await shard(FLAGS)).map(({ key, enabled }) => [
            String(key),
            { isEnabled: enabled === true },
          ]),
        ),
        stamps: toStamps(await shard(STAMPS_EVERYWHERE)),
        still: await digests([shard], STILL_EVERYWHERE),
      })),
    ),
    repeatedIds: [...ids].filter(([, count]) => count > 1).map(([key]) => key),
  };
}

/** Who has tasks. */
export function busyTenants(state: OrdinaryState): readonly number[] {
  const found = [...state.classes.keys()].map((key) => /^tasks (\d+)\//u.exec(key)?.[1]);
  return [...new Set(found.filter((tenant) => tenant !== undefined).map(Number))];
}

function tally(keys: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

function toOwned(rows: readonly Record<string, unknown>[]): OrdinaryState["owned"] {
  const tables: Record<string, Map<string, RowState[]>> = {};
  for (const { of, key, tenant, revision, lines } of rows) {
    const state = { tenant: Number(tenant), revision: Number(revision), lines: Number(lines) };
    const table = tables[String(of)] ?? new Map<string, RowState[]>();
    table.set(String(key), [...(table.get(String(key)) ?? []), state]);
    tables[String(of)] = table;
  }
  return tables;
}

function toStamps(rows: readonly Record<string, unknown>[]): ReadonlyMap<string, StampState> {
  const ms = (value: unknown) => (value === null ? null : Number(value));
  return new Map(
    rows.map((row) => [String(row.key), { fromMs: ms(row.from_ms), toMs: ms(row.to_ms) }]),
  );
}

/** Of all rows of a table, wherever they are and in whatever order. */
async function digests(
  shards: readonly Query[],
  tables: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const table of tables) {
    let sum = 0n;
    let rows = 0;
    for (const shard of shards)
      for (const row of await shard(
        `SELECT coalesce(sum(hashtextextended(${table.split(" ")[0]}::text, 0)), 0)::text AS digest, count(*)::int AS rows FROM ${table}`,
      )) {
        sum += BigInt(String(row.digest));
        rows += Number(row.rows);
      }
    found.set(table, `${rows} rows, ${sum}`);
  }
  return found;
}
