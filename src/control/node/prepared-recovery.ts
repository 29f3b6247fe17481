import { describeAddress, type ServerAddress } from "../../backend/address.js";
import { TwoPhaseUnavailable } from "../../backend/server-errors.js";
import { connectSql, type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import type { Config } from "../../config/model.js";
import { quoteLiteral } from "../../core/identifier.js";
import { PREPARED_PREFIX, type PreparedPart, preparedPartOf } from "../../core/prepared-part.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Log } from "../../observe/log.js";
import { grouped, loginOf, type ShardPlace, shardedDatabases } from "./sharded-places.js";

/** Between two looks: how long what a dead node has left may stay, beside RESTING_MS. */
const LOOK_MS = 2_000;
/** Who has just prepared is about to commit, and ends it sooner than we would. */
const RESTING_MS = 2_000;
/** An undecided one is older than this only where whoever would decide is frozen, or gone without a word. */
const FORSAKEN_MS = 30_000;
const TIMEOUT_MS = 2_000;
const FIRST_SHARD = 0;
const APPLICATION = "sluice recovery";

interface Found {
  readonly place: ShardPlace;
  readonly name: string;
  readonly owner: string;
  readonly ageMs: number;
  readonly part: PreparedPart;
}

type Fate = "committed" | "aborted" | "undecided" | "unknown";

/**
 * Ends what a node has left that was killed between PREPARE and COMMIT PREPARED, whichever node that was, also while
 * others live: the name of a prepared transaction says whose commit decides (`PreparedPart`), and that server says
 * what became of it. So this needs no lease: while a node may still decide, its own transaction is in progress there.
 * Two nodes that do the same at once do it once.
 */
export class PreparedRecovery {
  readonly #config: () => Config;
  readonly #log: Log;
  readonly #clients = new Map<string, SqlClient>();
  /** What was said already: of servers that cannot prepare, and of names that nobody can settle. */
  readonly #said = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #isClosed = false;

  constructor(options: { readonly config: () => Config; readonly log: Log }) {
    this.#config = options.config;
    this.#log = options.log;
  }

  /**
   * Asks the servers that can be reached whether they can prepare. Where they cannot, "auto" says so once.
   * @throws TwoPhaseUnavailable where they must
   */
  async check(config: Config): Promise<void> {
    const mode = config.general.twoPhaseCommit;
    if (mode === false) return;
    const places = [...shardedDatabases(config)].flatMap(([database, shards]) =>
      shards.map((place) => ({ database, place })),
    );
    await Promise.all(
      places.map(async ({ database, place }) => {
        const answer = await this.#ask<{ can: boolean }>(
          place.logins[0],
          "SELECT current_setting('max_prepared_transactions') <> '0' AS can",
        ).catch(() => null);
        const server = place.logins[0] ? describeAddress(place.logins[0]) : "";
        if (answer?.[0]?.can !== false) return;
        if (mode === true) throw new TwoPhaseUnavailable(place.shard, server);
        this.#say(`cannot prepare ${database} ${server}`, () =>
          this.#log.warn(
            "max_prepared_transactions is 0: transactions that write on several shards commit one shard after the other, and a failure between two leaves a part",
            { database, shard: place.shard, server },
          ),
        );
      }),
    );
  }

  /** Looks now, and again until `close`. */
  start(): void {
    void this.look().then(() => this.#schedule());
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#looking;
    await Promise.all([...this.#clients.keys()].map(async (key) => await this.#drop(key)));
  }

  /** One look at all shards of all databases. Servers that are silent are asked again by the next. */
  async look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    await this.#looking;
  }

  #schedule(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => this.start(), LOOK_MS);
  }

  async #look(): Promise<void> {
    const databases = [...shardedDatabases(this.#config())];
    await Promise.all(databases.map(async ([, places]) => await this.#database(places)));
  }

  async #database(places: readonly ShardPlace[]): Promise<void> {
    const listed = await Promise.all(
      places.map(async (place) => await this.#list(place).catch(() => null)),
    );
    const found = listed.flatMap((list) => list ?? []);
    const isWhole = listed.every((list) => list !== null);
    for (const parts of grouped(found, ({ part }) => part.transaction).values()) {
      const oldest = Math.max(...parts.map(({ ageMs }) => ageMs));
      if (oldest < RESTING_MS) continue;
      const fate = await this.#fateOf(parts, places, oldest);
      if (fate === "committed") await this.#commit(parts, isWhole);
      else if (fate === "aborted")
        for (const one of parts) await this.#settle(one, "ROLLBACK PREPARED");
    }
  }

  async #list(place: ShardPlace): Promise<readonly Found[]> {
    const rows = await this.#ask<{ gid: string; owner: string; ageMs: number }>(
      place.logins[0],
      `SELECT gid, owner, (extract(epoch FROM clock_timestamp() - prepared) * 1000)::float8 AS "ageMs"
         FROM pg_prepared_xacts
        WHERE database = current_database() AND starts_with(gid, ${quoteLiteral(PREPARED_PREFIX)})`,
    );
    return rows.flatMap(({ gid, owner, ageMs }) => {
      const part = preparedPartOf(gid);
      // Another database of the configuration may number the same servers otherwise.
      if (part?.shard === place.shard) return [{ place, name: gid, owner, ageMs, part }];
      if (part === null) this.#sayUnsettled(place, gid, "its name does not say who decides");
      return [];
    });
  }

  /** The first shard shows what was done last, as in the commit itself: others may have a part that nobody has seen. */
  async #commit(parts: readonly Found[], isWhole: boolean): Promise<void> {
    const first = parts.filter(({ place }) => place.shard === FIRST_SHARD);
    const others = parts.filter(({ place }) => place.shard !== FIRST_SHARD);
    const done = await Promise.all(
      others.map(async (one) => await this.#settle(one, "COMMIT PREPARED")),
    );
    if (!isWhole || done.includes(false)) return;
    for (const one of first) await this.#settle(one, "COMMIT PREPARED");
  }

  async #fateOf(
    parts: readonly Found[],
    places: readonly ShardPlace[],
    ageMs: number,
  ): Promise<Fate> {
    const [one] = parts;
    const decider = one?.part.decider;
    const place = places.find(({ shard }) => shard === decider?.shard);
    if (!one || !decider || !place) return "unknown";
    try {
      const { status, systemIdentifier, timeline } = await this.#statusOf(place, decider.xid);
      if (decider.systemIdentifier !== null && systemIdentifier !== null)
        if (decider.systemIdentifier !== systemIdentifier) return "unknown";
      const isSameHistory = timeline === decider.timeline;
      if (status === "aborted" || (status === "committed" && isSameHistory)) return status;
      if (status === "in progress" && isSameHistory) {
        if (ageMs > FORSAKEN_MS) await this.#endForsaken(place, one, decider.xid);
        return "undecided";
      }
      // The id may be another transaction's in the new history, or is older than what PostgreSQL remembers.
      for (const part of parts) {
        const said = isSameHistory ? "no longer known" : `${status ?? "unknown"} by a new primary`;
        this.#sayUnsettled(
          part.place,
          part.name,
          `on shard ${place.shard}, which decides, it is ${said}`,
        );
      }
      return "unknown";
    } catch {
      // That shard is silent, or its server starts: the next look asks again.
      return "unknown";
    }
  }

  async #statusOf(place: ShardPlace, xid: string) {
    const identity = await this.#ask<{
      systemIdentifier: string | null;
      timeline: number;
      isTold: boolean;
    }>(
      place.logins[0],
      `SELECT NULL AS "systemIdentifier", has_function_privilege('pg_control_system()', 'EXECUTE') AS "isTold",
              ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline`,
    );
    const told = identity[0]?.isTold
      ? await this.#ask<{ id: string }>(
          place.logins[0],
          "SELECT system_identifier::text AS id FROM pg_control_system()",
        )
      : [];
    const status = await this.#ask<{ status: string | null }>(
      place.logins[0],
      `SELECT pg_xact_status('${xid}') AS status`,
    ).catch((error: unknown) => {
      // It has not come to this server's (new) primary: what was in progress is lost, and cannot be decided any more.
      if (sqlStateOf(error) === SQLSTATE.invalidParameterValue) return [{ status: "aborted" }];
      throw error;
    });
    return {
      status: status[0]?.status ?? null,
      systemIdentifier: told[0]?.id ?? null,
      timeline: identity[0]?.timeline ?? 0,
    };
  }

  /** Its server then rolls it back, and that is the decision: whoever would have decided is told by the lost connection. */
  async #endForsaken(place: ShardPlace, { owner, name }: Found, xid: string): Promise<void> {
    const ended = await this.#ask<{ pid: number }>(
      loginOf(place, owner),
      `SELECT pid FROM pg_stat_activity WHERE backend_xid = (${xid}::numeric % 4294967296)::text::xid
          AND pid <> pg_backend_pid() AND pg_terminate_backend(pid)`,
    );
    for (const { pid } of ended)
      this.#log.warn("ended the server session of a commit that nobody went on with", {
        pid,
        name,
      });
  }

  /** @returns whether there is no such prepared transaction any more */
  async #settle(found: Found, verb: "COMMIT PREPARED" | "ROLLBACK PREPARED"): Promise<boolean> {
    const { place, owner, name } = found;
    try {
      await this.#ask(loginOf(place, owner), `${verb} ${quoteLiteral(name)}`);
    } catch (error) {
      if (sqlStateOf(error) === SQLSTATE.undefinedObject) return true;
      if (sqlStateOf(error) === SQLSTATE.insufficientPrivilege)
        this.#sayUnsettled(
          place,
          name,
          `only ${owner} may end it, who is nobody's server_user any more`,
          verb,
        );
      return false;
    }
    this.#log.info("ended a prepared transaction that a node had left", {
      shard: place.shard,
      name,
      by: verb,
    });
    return true;
  }

  #sayUnsettled(place: ShardPlace, name: string, why: string, verb?: string): void {
    this.#say(`unsettled ${name}`, () =>
      this.#log.error("a prepared transaction of ours waits for a person", {
        error: why,
        shard: place.shard,
        name,
        hint: `${verb ?? "COMMIT PREPARED or ROLLBACK PREPARED"} ${quoteLiteral(name)} on that server, as on the other shards.`,
      }),
    );
  }

  #say(what: string, say: () => void): void {
    if (this.#said.has(what)) return;
    this.#said.add(what);
    say();
  }

  /** @throws ServerUnreachable, SqlError */
  async #ask<R extends object>(address: ServerAddress | undefined, sql: string): Promise<R[]> {
    if (!address) return [];
    const key = JSON.stringify(address);
    const client =
      this.#clients.get(key) ??
      (await connectSql(address, {
        applicationName: APPLICATION,
        connectTimeoutMs: TIMEOUT_MS,
        statementTimeoutMs: TIMEOUT_MS,
      }));
    this.#clients.set(key, client);
    try {
      return (await client.query<R>(sql)).rows;
    } catch (error) {
      if (sqlStateOf(error) === null) await this.#drop(key);
      throw error;
    }
  }

  async #drop(key: string): Promise<void> {
    const client = this.#clients.get(key);
    this.#clients.delete(key);
    await client?.[Symbol.asyncDispose]();
  }
}
