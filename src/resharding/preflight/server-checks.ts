import { quoteIdentifier, quoteLiteral } from "../../core/identifier.js";
import { names } from "../model/migration.js";
import {
  eachShard,
  type Finding,
  failure,
  type PreflightCheck,
  type ShardView,
  shardsOf,
  shortName,
  type World,
  warning,
  withGist,
} from "./world.js";

const OLDEST_VERSION = 14;
const NEWEST_VERSION = 18;
/** A stream needs one of each; a second one lets the way back stand by beside it. */
const SLOTS_NEEDED = 1;
const SLOTS_COMFORTABLE = 2;
const OLD_TRANSACTION_SECONDS = 60;

/** What the servers of both sides must offer, whatever the tables are. */
export const SERVER_CHECKS: readonly PreflightCheck[] = [
  {
    id: "server-version",
    fine: `all servers are PostgreSQL ${OLDEST_VERSION} to ${NEWEST_VERSION}`,
    run: ({ shards }) => shards.flatMap((shard) => checkVersion(shard, shards)),
  },
  {
    id: "no-transaction-pooler",
    fine: "our sessions reach PostgreSQL itself",
    run: ({ shards }) => eachShard(shards, checkPooler),
  },
  {
    id: "wal-level",
    fine: "wal_level is logical on both sides",
    run: ({ shards }) => eachShard(shards, checkWalLevel),
  },
  {
    id: "replication-slots",
    fine: "every shard has free replication slots",
    run: (world) => eachShard(world.shards, (shard) => checkSlots(world, shard)),
  },
  {
    id: "slot-retention",
    fine: "no server drops slots by itself",
    run: ({ shards }) => eachShard(shards, checkRetention),
  },
  {
    id: "wal-senders",
    fine: "every shard has free WAL senders",
    run: ({ shards }) => eachShard(shards, checkSenders),
  },
  {
    id: "replication-origins",
    fine: "every shard has free replication origins",
    run: (world) => eachShard(world.shards, (shard) => checkOrigins(world, shard)),
  },
  {
    id: "primary",
    fine: "every shard is a primary",
    run: ({ shards }) => eachShard(shards, checkPrimary),
  },
  {
    id: "standbys",
    fine: "no server has a standby that might be promoted without the decision",
    run: ({ shards }) => eachShard(shards, checkStandbys),
  },
  {
    id: "user-defined-types",
    fine: "no moving column has a type with an OID of its own on each server",
    run: checkUserTypes,
  },
  {
    id: "distinct-databases",
    fine: "no two shards are the same physical database",
    run: checkDistinct,
  },
  {
    id: "prepared-transactions",
    fine: "no prepared transaction is open",
    run: ({ shards }) => eachShard(shards, checkPrepared),
  },
  {
    id: "old-transactions",
    fine: `no transaction is older than ${OLD_TRANSACTION_SECONDS} s`,
    run: ({ shards }) => eachShard(shards, checkOldTransactions),
  },
];

function checkVersion(shard: ShardView, all: readonly ShardView[]): readonly Finding[] {
  const major = majorOf(shard);
  if (major < OLDEST_VERSION || major > NEWEST_VERSION)
    return [
      failure(
        shard.scope,
        `the server is PostgreSQL ${major}`,
        `Use a server of version ${OLDEST_VERSION} to ${NEWEST_VERSION}.`,
      ),
    ];
  const newest = Math.max(...all.filter(({ side }) => side === "source").map(majorOf));
  if (shard.side === "source" || major >= newest) return [];
  return [
    warning(
      shard.scope,
      `the server is PostgreSQL ${major}, older than the source's ${newest}: it may not know all of the schema`,
      `Use a destination of version ${newest} or newer.`,
    ),
  ];
}

function majorOf(shard: ShardView): number {
  return Math.floor(shard.serverVersion / 10_000);
}

/** Poolers hand out cancel keys of their own, so the process id told at login is not the backend's. */
async function checkPooler(shard: ShardView): Promise<readonly Finding[]> {
  const told = "processID" in shard.client ? shard.client.processID : null;
  const pids = new Set<number>();
  for (let turn = 0; turn < 3; turn += 1) {
    const result = await shard.client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    for (const row of result.rows) pids.add(row.pid);
  }
  const [pid] = pids;
  if (pids.size === 1 && pid === told) return [];
  return [
    failure(
      shard.scope,
      `the session was announced as process ${told} but runs in ${[...pids].join(", ")}: something between us and PostgreSQL pools connections`,
      "Name PostgreSQL's own host and port for this shard in [[databases]]; replication, advisory locks and session settings need it.",
    ),
  ];
}

async function setting(shard: ShardView, name: string): Promise<string | null> {
  const result = await shard.client.query<{ value: string | null }>(
    "SELECT current_setting($1, true) AS value",
    [name],
  );
  return result.rows[0]?.value ?? null;
}

async function checkWalLevel(shard: ShardView): Promise<readonly Finding[]> {
  const level = await setting(shard, "wal_level");
  if (level === "logical") return [];
  const why = shard.side === "source" ? "the change stream" : "the way back";
  return [
    failure(
      shard.scope,
      `wal_level is ${level}; ${why} needs logical`,
      "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server",
    ),
  ];
}

interface Usage {
  readonly shard: ShardView;
  readonly what: string;
  readonly limitName: string;
  readonly needed: number;
  readonly comfortable: number;
}

function judgeUsage(used: number, limit: number, usage: Usage): readonly Finding[] {
  const { shard, what, limitName, needed, comfortable } = usage;
  const free = limit - used;
  if (free >= comfortable) return [];
  const evidence = `${used} of ${limit} ${what} are in use; ${needed} needed, ${comfortable} wanted for the way back`;
  const remedy = `ALTER SYSTEM SET ${limitName} = ${used + comfortable}; -- then restart the server`;
  return [(free < needed ? failure : warning)(shard.scope, evidence, remedy)];
}

async function checkSlots(world: World, shard: ShardView): Promise<readonly Finding[]> {
  const limitName = "max_replication_slots";
  const result = await shard.client.query<{ used: number }>(
    "SELECT count(*)::int AS used FROM pg_replication_slots WHERE NOT starts_with(slot_name, $1)",
    [`${names.publication(world.ref)}_`],
  );
  return judgeUsage(result.rows[0]?.used ?? 0, Number(await setting(shard, limitName)), {
    shard,
    what: "replication slots",
    limitName,
    needed: SLOTS_NEEDED,
    comfortable: SLOTS_COMFORTABLE,
  });
}

/** Settings by which the server gives a slot up; a lost slot means another copy, or no way back. */
const RETENTION_SETTINGS = [
  { name: "max_slot_wal_keep_size", unlimited: "-1" },
  { name: "idle_replication_slot_timeout", unlimited: "0" },
] as const;

async function checkRetention(shard: ShardView): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { name, unlimited } of RETENTION_SETTINGS) {
    const value = await setting(shard, name);
    if (value === null || value === unlimited) continue;
    findings.push(
      warning(
        shard.scope,
        `${name} is ${value}: the server gives up a slot that falls behind further`,
        `ALTER SYSTEM SET ${name} = ${unlimited}; SELECT pg_reload_conf(); -- or a limit that the migration keeps`,
      ),
    );
  }
  return findings;
}

async function checkSenders(shard: ShardView): Promise<readonly Finding[]> {
  const limitName = "max_wal_senders";
  const result = await shard.client.query<{ used: number }>(
    "SELECT count(*)::int AS used FROM pg_stat_replication WHERE NOT starts_with(application_name, 'sluice')",
  );
  return judgeUsage(result.rows[0]?.used ?? 0, Number(await setting(shard, limitName)), {
    shard,
    what: "WAL senders",
    limitName,
    needed: SLOTS_NEEDED,
    comfortable: SLOTS_COMFORTABLE,
  });
}

/** R37. One origin per shard of the other side, and settlement's (R9, R33); 18 has a limit of its own, before it is that of slots. */
async function checkOrigins(world: World, shard: ShardView): Promise<readonly Finding[]> {
  const separate = await setting(shard, "max_active_replication_origins");
  const limitName = separate === null ? "max_replication_slots" : "max_active_replication_origins";
  const result = await shard.client.query<{ used: number }>(
    `SELECT count(*)::int AS used FROM pg_replication_origin
     WHERE NOT starts_with(roname, $1)`,
    [`${names.publication(world.ref)}_`],
  );
  const other = shard.side === "source" ? world.destination : world.source;
  return judgeUsage(
    result.rows[0]?.used ?? 0,
    Number(separate ?? (await setting(shard, limitName))),
    {
      shard,
      what: "replication origins",
      limitName,
      needed: other.shards.length + 1,
      comfortable: other.shards.length + 1,
    },
  );
}

/** R6: on a standby a snapshot lists no running transaction. */
async function checkPrimary(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ standby: boolean; readOnly: string }>(
    `SELECT pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS "readOnly"`,
  );
  const row = result.rows[0];
  if (row?.standby)
    return [
      failure(
        shard.scope,
        "the server is a standby",
        `Name the primary of this shard in [[databases]] with role = "primary".`,
      ),
    ];
  if (row?.readOnly === "on")
    return [
      failure(
        shard.scope,
        "default_transaction_read_only is on for our role or database",
        `ALTER ROLE ${quoteIdentifier(shard.client.user ?? "")} SET default_transaction_read_only = off;`,
      ),
    ];
  return [];
}

/**
 * R31 is not built: gate, marker and decision are not waited for on standbys. A standby that is promoted
 * right after a switch may not know of it; a client that goes past the proxy could then write the old side.
 */
async function checkStandbys(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ name: string }>(
    `SELECT DISTINCT application_name AS name FROM pg_stat_replication r
      WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
      ORDER BY 1`,
  );
  return result.rows.map(({ name }) =>
    warning(
      shard.scope,
      `standby "${name}": the switch does not wait until it has the gate and the decision`,
      "Name it in synchronous_standby_names, and do not promote it while a switch is under way.",
    ),
  );
}

/** R39 is not built: clients that keep type OIDs over a switch meet other ones on the new side. */
function checkUserTypes({ tables }: World): readonly Finding[] {
  return tables.flatMap(({ facts }) => {
    const columns = facts.columns.filter((column) => column.typeOid >= FIRST_USER_OID);
    if (columns.length === 0) return [];
    return [
      withGist(
        warning(
          `${facts.schema}.${facts.name}`,
          `columns of user-defined types: ${columns.map((column) => column.name).join(", ")}`,
          "Drivers that remember type OIDs over a connection's life must ask again after the switch.",
        ),
        {
          text: "their OIDs are others on each shard: drivers that remember them must ask again after the switch",
          item: `${shortName(facts)}.${columns.map((column) => column.name).join("+")}`,
        },
      ),
    ];
  });
}

/** FirstNormalObjectId: everything below belongs to PostgreSQL (src/include/access/transam.h). */
const FIRST_USER_OID = 16_384;

async function checkDistinct({ shards }: World): Promise<readonly Finding[]> {
  const seen = new Map<string, ShardView>();
  const findings: Finding[] = [];
  for (const shard of shards) {
    const result = await shard.client.query<{ identity: string }>(
      `SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || oid AS identity
       FROM pg_database WHERE datname = current_database()`,
    );
    const identity = result.rows[0]?.identity ?? shard.scope;
    const twin = seen.get(identity);
    if (twin)
      findings.push(
        failure(
          shard.scope,
          `this is the same physical database as ${twin.scope}`,
          "Give every shard of both sides a database of its own in [[databases]].",
        ),
      );
    seen.set(identity, shard);
  }
  return findings;
}

async function checkPrepared(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ gid: string; owner: string; prepared: Date }>(
    `SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared`,
  );
  return result.rows.map(({ gid, owner, prepared }) =>
    warning(
      shard.scope,
      `transaction ${quoteLiteral(gid)} of ${owner} is prepared since ${prepared.toISOString()}; creating the slot and the switch wait for it`,
      `COMMIT PREPARED ${quoteLiteral(gid)}; -- or ROLLBACK PREPARED`,
    ),
  );
}

async function checkOldTransactions(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<OldTransaction>(
    `SELECT pid, usename AS "user", application_name AS application, state,
       extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds
     FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND xact_start < clock_timestamp() - $1 * interval '1 second'
     ORDER BY xact_start`,
    [OLD_TRANSACTION_SECONDS],
  );
  return result.rows.map(({ pid, user, application, state, seconds }) =>
    warning(
      shard.scope,
      `pid ${pid} (${user}, application ${application || "unnamed"}, ${state}) is in a transaction since ${seconds} s; creating the slot waits for it`,
      `SELECT pg_terminate_backend(${pid});`,
    ),
  );
}

interface OldTransaction {
  readonly pid: number;
  readonly user: string;
  readonly application: string;
  readonly state: string;
  readonly seconds: number;
}

/** Databases that compare or store text otherwise. */
export const COLLATION_CHECK: PreflightCheck = {
  id: "collation",
  fine: "encoding and collation are the same everywhere",
  run: async (world) => {
    const [reference, ...others] = world.shards;
    if (!reference || shardsOf(world, "source").length === 0) return [];
    const expected = await readLocale(reference);
    return eachShard(others, async (shard) => {
      const found = await readLocale(shard);
      if (found.encoding !== expected.encoding)
        return [
          failure(
            shard.scope,
            `encoding is ${found.encoding}, on ${reference.scope} ${expected.encoding}`,
            `CREATE DATABASE ... ENCODING ${quoteLiteral(expected.encoding)} TEMPLATE template0;`,
          ),
        ];
      if (found.locale === expected.locale) return [];
      return [
        warning(
          shard.scope,
          `collation is ${found.locale}, on ${reference.scope} ${expected.locale}: text sorts otherwise after the switch`,
          "Create the destination databases with the source's LC_COLLATE, LC_CTYPE and locale provider.",
        ),
      ];
    });
  },
};

/** The provider's column exists from 15 on and its locale's column was renamed in 17. */
async function readLocale(shard: ShardView): Promise<{ encoding: string; locale: string }> {
  const result = await shard.client.query<{ encoding: string; locale: string }>(
    `SELECT pg_encoding_to_char(encoding) AS encoding,
       concat_ws('/', datcollate, datctype, to_jsonb(d) ->> 'datlocprovider',
         coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')) AS locale
     FROM pg_database d WHERE datname = current_database()`,
  );
  return result.rows[0] ?? { encoding: "", locale: "" };
}
