import type { ServerAddress } from "../../backend/address.js";
import { ServerConnection } from "../../backend/server-connection.js";
import { ServerPool } from "../../backend/server-pool.js";
import type { GeneralConfig } from "../../config/model.js";
import { DatabaseUnknown, ServerUnreachable } from "../../core/errors.js";
import type { Log } from "../../observe/log.js";
import type { Router } from "../../router/router.js";
import {
  type Database,
  type DatabaseUser,
  FIRST_SHARD,
  type ShardId,
  shardId,
} from "../../topology/topology.js";
import { CatalogSession } from "./catalog-session.js";
import { DeadlockWatch } from "./deadlock-watch.js";
import { Greetings } from "./greetings.js";
import { HiddenChanges } from "./hidden-changes.js";
import { KnownTables } from "./known-tables.js";
import { ShardOids } from "./shard-oids.js";

/** For crash tests, see `pause-points`: may stand still. */
export type Announce = (step: string) => Promise<void>;

/** Tells the other planes of this node that tables have changed; resolves when they know. */
export type TellPlanes = (database: string) => Promise<void>;

/** What a process gives to all databases that it serves. */
export interface ServedIn {
  readonly log: Log;
  readonly announce: Announce;
  readonly tellPlanes: TellPlanes;
}

/**
 * A database at one epoch, with the pools to its servers. A topology that moves the database makes a new
 * one; sessions notice by comparing the object.
 */
export class ServedDatabase {
  readonly database: Database;
  readonly general: GeneralConfig;
  /** What servers say of themselves (ParameterStatus); kept so that clients can log in without one. */
  readonly greetings = new Greetings();
  readonly #oids = new ShardOids();
  /** Which functions change their session. */
  readonly hiddenChanges = new HiddenChanges();
  /** Raised by DDL: statements prepared before it are made anew. */
  schemaGeneration = 0;
  /** Of a database with several shards. */
  readonly tables: KnownTables;
  /** Why its transactions over shards are committed one shard after the other, though they need not be; null: they are not. */
  onePhaseBecause: string | null = null;
  readonly log: Log;
  /** Told what a commit over shards has come to. */
  readonly announce: Announce;
  readonly deadlocks: DeadlockWatch;
  readonly #pools = new Map<string, ServerPool>();
  readonly #tellPlanes: TellPlanes;
  #pausedUsers = new Set<string | null>();

  constructor(database: Database, general: GeneralConfig, { log, announce, tellPlanes }: ServedIn) {
    this.database = database;
    this.general = general;
    this.announce = announce;
    this.log = log.child({ database: database.name });
    this.#tellPlanes = tellPlanes;
    this.tables = new KnownTables(database, {
      sessions: () => this.#catalogSessions(),
      onChange: () => {
        this.schemaGeneration++;
      },
      onHeard: () => this.tablesChanged(),
      log: this.log,
    });
    this.deadlocks = new DeadlockWatch({
      shards: () => this.shards,
      connect: async (shard, name) => await this.connect(this.#schemaUser(), shard, name),
      log: this.log,
    });
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
        log: this.log,
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
    this.tables.inherit(same.tables);
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
   * Routes statements of a database with several shards, by its tables as they are now.
   * @throws ServerUnreachable when no shard can be asked
   */
  async router(): Promise<Router> {
    return await this.tables.router();
  }

  /** Somebody has changed tables: what is known of them is asked for again before it is used. */
  tablesChanged(): void {
    this.schemaGeneration++;
    this.tables.changed();
  }

  /**
   * A session of this process has changed tables, committed. Resolves when all planes of this node know; those of other
   * nodes are told, and hear of it within milliseconds. Never throws.
   */
  async announceTables(): Promise<void> {
    this.tablesChanged();
    const isListenedTo = this.database.shardCount > 1;
    // Where nobody passes it on, the others ask the servers before long.
    const planes = this.#tellPlanes(this.database.name).catch(() => {});
    await Promise.all([planes, isListenedTo ? this.tables.tellOthers() : null]);
  }

  #catalogSessions(): readonly CatalogSession[] {
    const user = this.#schemaUser();
    const { connectTimeoutMs } = this.general;
    return this.shards.map(
      (shard) => new CatalogSession(this.#addressOf(user, shard), connectTimeoutMs),
    );
  }

  /**
   * A connection past the pools, for who may hold connections of them already; the caller closes it.
   * @throws ServerUnreachable, ServerRefused
   */
  async connect(
    user: DatabaseUser,
    shard: ShardId,
    applicationName: string,
  ): Promise<ServerConnection> {
    const { connectTimeoutMs } = this.general;
    const options = { connectTimeoutMs, applicationName };
    return await ServerConnection.connect(this.#addressOf(user, shard), options);
  }

  /**
   * Makes a connection speak of types and tables by the first shard's numbers.
   * @param server of this shard, idle
   * @throws ServerUnreachable, ServerRefused, ServerConnectionLost
   */
  async translateOids(user: DatabaseUser, shard: ShardId, server: ServerConnection): Promise<void> {
    if (shard === FIRST_SHARD) return;
    const first = async () => await this.connect(user, FIRST_SHARD, "sluice");
    server.oids = await this.#oids.of(shard, this.schemaGeneration, { server, first });
  }

  /** @throws DatabaseUnknown where nobody may log in */
  #schemaUser(): DatabaseUser {
    const users = [...this.database.users.values()];
    const user = users.find(({ schemaAdmin }) => schemaAdmin) ?? users[0];
    if (!user) throw new DatabaseUnknown(this.database.name);
    return user;
  }

  /** The servers may have been changed past us: their tables are read again as well. */
  reconnect(): void {
    this.greetings.forget();
    this.tablesChanged();
    for (const { pool } of this.pools) pool.closeIdle();
  }

  retire(): void {
    this.tables.close();
    for (const { pool } of this.pools) pool.retire();
  }

  destroy(): void {
    this.tables.close();
    this.deadlocks.close();
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
