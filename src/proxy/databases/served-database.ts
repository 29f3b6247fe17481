import { describeAddress, type ServerAddress } from "../../backend/address.js";
import { ServerConnection } from "../../backend/server-connection.js";
import { ServerPool } from "../../backend/server-pool.js";
import type { GeneralConfig } from "../../config/model.js";
import { DatabaseUnknown, ServerUnreachable } from "../../core/errors.js";
import type { Log } from "../../observe/log.js";
import { createRouter, type Router } from "../../router/router.js";
import { parseSchemaFacts, SCHEMA_FACTS_SQL } from "../../router/schema-facts.js";
import { loadParser } from "../../sql/parser.js";
import {
  type Database,
  type DatabaseUser,
  FIRST_SHARD,
  type ShardId,
  shardId,
} from "../../topology/topology.js";
import { Greetings } from "./greetings.js";
import { HiddenChanges } from "./hidden-changes.js";

/**
 * A database at one epoch, with the pools to its servers. A topology that moves the database makes a new
 * one; sessions notice by comparing the object.
 */
export class ServedDatabase {
  readonly database: Database;
  readonly general: GeneralConfig;
  /** What servers say of themselves (ParameterStatus); kept so that clients can log in without one. */
  readonly greetings = new Greetings();
  /** Which functions change their session. */
  readonly hiddenChanges = new HiddenChanges();
  /** Raised by DDL that passes through: statements prepared before it are made anew. */
  schemaGeneration = 0;
  readonly #log: Log;
  readonly #pools = new Map<string, ServerPool>();
  #router: Promise<Router> | null = null;
  /** What the tables of these servers are; null: not asked yet, or changed by DDL since. */
  #facts: { readonly generation: number; readonly json: string } | null = null;
  #routerGeneration = -1;
  #pausedUsers = new Set<string | null>();

  constructor(database: Database, general: GeneralConfig, log: Log) {
    this.database = database;
    this.general = general;
    this.#log = log.child({ database: database.name });
  }

  get shards(): readonly ShardId[] {
    return Array.from({ length: this.database.shardCount }, (_, index) => shardId(index));
  }

  get pools(): readonly {
    readonly user: string;
    readonly shard: ShardId;
    readonly pool: ServerPool;
  }[] {
    return [...this.#pools].map(([key, pool]) => {
      const [shard = "0", user = ""] = key.split(/:(.*)/s);
      return { user, shard: shardId(Number(shard)), pool };
    });
  }

  /** @throws ServerUnreachable when the shard has no primary */
  pool(user: DatabaseUser, shard: ShardId): ServerPool {
    const key = `${shard}:${user.name}`;
    let pool = this.#pools.get(key);
    if (!pool) {
      const { checkoutTimeoutMs, connectTimeoutMs, idleTimeoutMs, minPoolSize } = this.general;
      const { serverLifetimeMs, serverLifetimeJitterMs, preparedStatementsLimit } = this.general;
      pool = new ServerPool({
        address: this.#addressOf(user, shard),
        size: user.poolSize,
        minIdle: Math.min(minPoolSize, user.poolSize),
        checkoutTimeoutMs,
        connectTimeoutMs,
        idleTimeoutMs,
        lifetime: { ms: serverLifetimeMs, jitterMs: serverLifetimeJitterMs },
        statementsLimit: preparedStatementsLimit,
        log: this.#log,
      });
      if (this.#pausedUsers.has(null) || this.#pausedUsers.has(user.name)) pool.setPaused(true);
      this.#pools.set(key, pool);
    }
    return pool;
  }

  /** Opens the connections that clients will ask for first, and learns the tables. */
  async warm(): Promise<void> {
    const jobs: Promise<unknown>[] = [];
    // A failure is met again, and told, by the first statement that needs it.
    if (this.database.shardCount > 1) jobs.push(this.router().catch(() => null));
    for (const user of this.database.users.values())
      for (const shard of this.shards) {
        const pool = this.pool(user, shard);
        jobs.push(pool.warm(Math.max(1, Math.ceil(user.poolSize / 2))));
      }
    await Promise.all(jobs);
  }

  /**
   * Takes over what was warmed for the same servers under another name: a switch exchanges names, and the
   * clients that it held shall not wait for logins. `retired` end.
   */
  inherit(retired: readonly ServedDatabase[]): void {
    for (const user of this.database.users.values()) {
      for (const shard of this.shards) {
        const address = JSON.stringify(this.#addressOf(user, shard));
        const pools = retired.flatMap((served) => served.pools.map(({ pool }) => pool));
        for (const pool of pools)
          if (pool.idleCount > 0 && JSON.stringify(pool.options.address) === address)
            this.pool(user, shard).inherit(pool);
      }
    }
    const servers = JSON.stringify(this.database.servers);
    const same = retired.find((served) => JSON.stringify(served.database.servers) === servers);
    if (!same) return;
    this.greetings.inherit(same.greetings);
    if (same.#facts?.generation === same.schemaGeneration)
      this.#facts = { generation: this.schemaGeneration, json: same.#facts.json };
  }

  /** @param user null: all */
  setPaused(user: string | null, isPaused: boolean): void {
    if (isPaused) this.#pausedUsers.add(user);
    else if (user === null) this.#pausedUsers = new Set();
    else this.#pausedUsers.delete(user);
    for (const entry of this.pools)
      if (user === null || entry.user === user) entry.pool.setPaused(isPaused);
  }

  /**
   * Routes statements of a database with several shards. Made anew after DDL, as it knows the tables.
   * @throws ServerUnreachable when shard 0 cannot be asked
   */
  async router(): Promise<Router> {
    if (this.#router && this.#routerGeneration === this.schemaGeneration) return await this.#router;
    this.#routerGeneration = this.schemaGeneration;
    const router = this.#makeRouter();
    this.#router = router;
    router.catch(() => {
      if (this.#router === router) this.#router = null;
    });
    return await router;
  }

  /** The same by other tables, as a transaction that has changed some sees them. @param facts its answer to SCHEMA_FACTS_SQL */
  async routerOf(facts: string): Promise<Router> {
    await loadParser();
    return createRouter(this.database, parseSchemaFacts(facts));
  }

  async #makeRouter(): Promise<Router> {
    const generation = this.schemaGeneration;
    const json = this.#facts?.generation === generation ? this.#facts.json : await this.#askFacts();
    this.#facts = { generation, json };
    return await this.routerOf(json);
  }

  async #askFacts(): Promise<string> {
    const users = [...this.database.users.values()];
    const user = users.find(({ schemaAdmin }) => schemaAdmin) ?? users[0];
    if (!user) throw new DatabaseUnknown(this.database.name);
    // Not from the pool: whoever asks may hold connections of it already.
    const { connectTimeoutMs } = this.general;
    const server = await ServerConnection.connect(this.#addressOf(user, FIRST_SHARD), {
      connectTimeoutMs,
    });
    try {
      const { rows, error } = await server.query(SCHEMA_FACTS_SQL);
      const facts = rows[0]?.[0];
      if (error || !facts)
        throw new ServerUnreachable(describeAddress(server.address), {
          detail: error?.get("M") ?? "it says nothing of its tables",
        });
      return facts;
    } finally {
      server.giveBack();
    }
  }

  /** The servers may have been changed past us: their tables are read again as well. */
  reconnect(): void {
    this.schemaGeneration++;
    this.greetings.forget();
    for (const { pool } of this.pools) pool.closeIdle();
  }

  retire(): void {
    for (const { pool } of this.pools) pool.retire();
  }

  destroy(): void {
    for (const { pool } of this.pools) pool.destroy();
  }

  #addressOf(user: DatabaseUser, shard: ShardId): ServerAddress {
    const server = this.database.servers.find(
      (each) => each.shard === shard && each.role === "primary",
    );
    const login = user.logins.get(shard);
    if (!server || !login)
      throw new ServerUnreachable(`shard ${shard} of "${this.database.name}"`, {
        detail: "It has no primary in the configuration.",
      });
    return {
      host: server.host,
      port: server.port,
      database: server.database,
      ...login,
    };
  }
}
