import { randomUUID } from "node:crypto";
import { PoolRetired } from "../../backend/errors.js";
import type { QueryOutcome, ServerConnection } from "../../backend/server-connection.js";
import type { ServerPool } from "../../backend/server-pool.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { DatabaseUser, ShardId } from "../../topology/topology.js";
import { encodeErrorFields } from "../../wire/error-fields.js";
import type { Cluster } from "../clusters/cluster.js";
import { SessionRefused, StatementFailed } from "../errors.js";
import type { SessionState } from "../session/session-state.js";
import { prepareSession } from "../single/single-executor.js";
import type { ShardServers } from "./execution.js";

interface Used {
  readonly server: ServerConnection;
  readonly pool: ServerPool;
}

/**
 * One client's servers on several shards, each joined when it is first needed. In a transaction all of them
 * commit or roll back one after the other: with `two_phase_commit` each is prepared first, so that what can
 * be refused is refused before any has committed.
 *
 * Limit, stated: without two-phase commit a failure between two commits leaves the first committed (the
 * client gets 40003). With it, a crash of this process between PREPARE and COMMIT PREPARED leaves prepared
 * transactions named `sluice_...` for a person to settle: nothing here remembers them.
 */
export class ShardTransaction implements ShardServers {
  readonly #state: SessionState;
  readonly #used = new Map<ShardId, Used>();
  #cluster: Cluster | null = null;
  #user: DatabaseUser | null = null;
  /** null: statements commit by themselves. */
  #beginSql: string | null = null;
  /** SET and SAVEPOINT so far, for shards that join later. */
  #joined: string[] = [];

  /** A shard could not be joined because the topology has moved on; kept until `release`. */
  metRetired: PoolRetired | null = null;

  constructor(state: SessionState) {
    this.#state = state;
  }

  get shards(): readonly ShardId[] {
    return this.#cluster?.shards ?? [];
  }

  get used(): readonly ServerConnection[] {
    return [...this.#used.values()].map(({ server }) => server);
  }

  get usedShards(): readonly ShardId[] {
    return [...this.#used.keys()];
  }

  get isBegun(): boolean {
    return this.#beginSql !== null;
  }

  /** @param beginSql sent to each server as it joins; null: none */
  use(cluster: Cluster, user: DatabaseUser, beginSql: string | null): void {
    this.#cluster = cluster;
    this.#user = user;
    if (beginSql !== null) this.#beginSql = beginSql;
  }

  async acquire(shard: ShardId): Promise<ServerConnection> {
    const known = this.#used.get(shard);
    if (known) return known.server;
    const cluster = this.#cluster;
    const user = this.#user;
    if (!cluster || !user) throw new SessionRefused(SQLSTATE.internalError, "no cluster in use");
    const pool = cluster.pool(user, shard);
    const server = pool.tryAcquire() ?? (await this.#wait(pool));
    this.#used.set(shard, { server, pool });
    await prepareSession(server, cluster, this.#state);
    for (const sql of this.#beginSql === null ? [] : [this.#beginSql, ...this.#joined])
      await must(server, sql);
    return server;
  }

  async #wait(pool: ServerPool): Promise<ServerConnection> {
    try {
      return await pool.acquire();
    } catch (error) {
      if (error instanceof PoolRetired) this.metRetired = error;
      throw error;
    }
  }

  /** SET, SAVEPOINT and the like: on every server of the transaction, and on those that join later. */
  async everywhere(sql: string): Promise<QueryOutcome> {
    if (this.#used.size === 0) await this.acquire(0 as ShardId);
    let outcome: QueryOutcome | null = null;
    for (const { server } of this.#used.values()) outcome = await must(server, sql);
    this.#joined.push(sql);
    return outcome ?? { rows: [], tag: "", error: null };
  }

  /**
   * @throws StatementFailed when a shard refuses: all are rolled back
   * @throws SessionRefused 40003 when some had committed by then
   */
  async commit(isTwoPhase: boolean): Promise<void> {
    const servers = this.used;
    if (isTwoPhase && servers.length > 1) await this.#commitPrepared(servers);
    else await this.#commitEach(servers, () => "COMMIT");
  }

  async #commitPrepared(servers: readonly ServerConnection[]): Promise<void> {
    const id = `sluice_${randomUUID()}`;
    const prepared: number[] = [];
    const settle = async (verb: "COMMIT" | "ROLLBACK", index: number) => {
      const server = servers[index];
      if (server) await must(server, `${verb} PREPARED '${id}_${index}'`);
    };
    try {
      for (const [index, server] of servers.entries()) {
        const { tag } = await must(server, `PREPARE TRANSACTION '${id}_${index}'`);
        // A failed transaction is rolled back by it, without an error.
        if (tag !== "PREPARE TRANSACTION") throw rolledBack();
        prepared.push(index);
      }
    } catch (error) {
      for (const index of prepared) await settle("ROLLBACK", index);
      throw error;
    }
    for (const index of prepared) await settle("COMMIT", index);
  }

  async #commitEach(servers: readonly ServerConnection[], sql: () => string): Promise<void> {
    let committed = 0;
    for (const server of servers) {
      try {
        const { tag } = await must(server, sql());
        if (tag !== "COMMIT") throw rolledBack();
        committed++;
      } catch (error) {
        if (committed === 0) throw error;
        const reason = error instanceof Error ? error.message : String(error);
        throw new SessionRefused(
          SQLSTATE.statementCompletionUnknown,
          `committed on ${committed} of ${servers.length} shards only: ${reason}`,
          { hint: "Look at the data. two_phase_commit = true makes this rarer." },
        );
      }
    }
  }

  /** Gives all servers back; what is open is rolled back there. */
  release(): void {
    for (const { server, pool } of this.#used.values()) {
      server.use(null);
      pool.release(server);
    }
    this.#used.clear();
    this.metRetired = null;
    this.#beginSql = null;
    this.#joined = [];
  }

  /** For a client that is gone in the middle of a statement. */
  destroy(): void {
    for (const { server } of this.#used.values()) server.destroy();
  }
}

/** @throws StatementFailed with the server's error */
async function must(server: ServerConnection, sql: string): Promise<QueryOutcome> {
  const outcome = await server.query(sql);
  if (outcome.error) throw new StatementFailed(encodeErrorFields("E", outcome.error));
  return outcome;
}

function rolledBack(): SessionRefused {
  return new SessionRefused(
    SQLSTATE.inFailedSqlTransaction,
    "the transaction had failed on a shard and was rolled back",
  );
}
