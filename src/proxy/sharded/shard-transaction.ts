import { randomUUID } from "node:crypto";
import type { QueryOutcome, ServerConnection } from "../../backend/server-connection.js";
import { PoolRetired } from "../../backend/server-errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { SCHEMA_FACTS_SQL } from "../../router/schema-facts.js";
import { type DatabaseUser, FIRST_SHARD, type ShardId } from "../../topology/topology.js";
import { encodeErrorFields } from "../../wire/error-fields.js";
import type { ServedDatabase } from "../databases/served-database.js";
import { Loan } from "../execution/loan.js";
import type { SessionState } from "../execution/session-state.js";
import { StatementFailed, StatementRefused } from "../session-errors.js";
import type { ShardServers } from "./scatter/contract.js";
import { TransactionPast } from "./transaction-past.js";

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
  readonly #loans = new Map<ShardId, Loan>();
  /** Lent for one question beside the transaction. */
  #aside: Loan | null = null;
  #committing: Promise<void> | null = null;
  #served: ServedDatabase | null = null;
  #user: DatabaseUser | null = null;
  /** null: statements commit by themselves. */
  #beginSql: string | null = null;
  /** SET and SAVEPOINT so far, for shards that join later. */
  #joined = new TransactionPast();

  /** It has changed tables, which nobody else sees before it is committed. */
  #changesSchema = false;

  /** Raised when a transaction ends. */
  number = 0;

  /** A shard could not be joined because the topology has moved on; kept until `release`. */
  metRetired: PoolRetired | null = null;

  constructor(state: SessionState) {
    this.#state = state;
  }

  get shards(): readonly ShardId[] {
    return this.#served?.shards ?? [];
  }

  get used(): readonly ServerConnection[] {
    return [...this.#loans.values()].map(({ server }) => server);
  }

  get usedShards(): readonly ShardId[] {
    return [...this.#loans.keys()];
  }

  get isUsed(): boolean {
    return this.#loans.size > 0;
  }

  /**
   * A statement has failed, and the client may go back to a savepoint: every server is in the transaction still,
   * with what it did before.
   */
  get canGoBack(): boolean {
    return (
      this.#joined.hasSavepoint &&
      this.used.length > 0 &&
      this.used.every((server) => !server.isLost && server.isIdleInTransaction)
    );
  }

  get changesSchema(): boolean {
    return this.#changesSchema;
  }

  /** A statement has changed tables. Outside of a transaction everybody sees that at once. */
  noteSchemaChange(): void {
    if (this.isBegun) this.#changesSchema = true;
    else if (this.#served) this.#served.schemaGeneration++;
  }

  /**
   * What the tables are within it, as SCHEMA_FACTS_SQL says it.
   * @throws StatementFailed, SluiceError
   */
  async tables(): Promise<string> {
    // It sets the search path for itself; going back takes that with it.
    const { rows } = await this.ask(
      FIRST_SHARD,
      `SAVEPOINT sluice_tables; ${SCHEMA_FACTS_SQL}; ROLLBACK TO sluice_tables; RELEASE sluice_tables`,
    );
    return rows[0]?.[0] ?? "";
  }

  get isBegun(): boolean {
    return this.#beginSql !== null;
  }

  /** @param beginSql sent to each server as it joins; null: none */
  use(served: ServedDatabase, user: DatabaseUser, beginSql: string | null): void {
    this.#served = served;
    this.#user = user;
    if (beginSql !== null) this.#beginSql = beginSql;
  }

  async acquire(shard: ShardId): Promise<ServerConnection> {
    const known = this.#loans.get(shard);
    if (known) return known.server;
    const served = this.#served;
    const user = this.#user;
    if (!served || !user) throw new StatementRefused(SQLSTATE.internalError, "no database in use");
    const loan = await this.#take(served, user, shard);
    const { server } = loan;
    this.#loans.set(shard, loan);
    await loan.prepare(served, this.#state);
    if (this.#state.settings.hasTouched) server.areSettingsUnknown = true;
    for (const sql of this.#beginSql === null ? [] : [this.#beginSql, ...this.#joined.statements])
      await must(server, sql);
    return server;
  }

  /**
   * One question of ours, in the transaction.
   * @throws StatementFailed with the server's error, SluiceError
   */
  async ask(shard: ShardId, sql: string): Promise<QueryOutcome> {
    return await must(await this.acquire(shard), sql);
  }

  /**
   * One question of ours to whose answer a transaction is nothing (`nextval`), so that the shard asked does not
   * become a part of it. Where it is one already its own server is asked: another would wait for what that has
   * locked, and not see what it has made.
   * @throws StatementFailed with the server's error, SluiceError
   */
  async askAside(shard: ShardId, sql: string): Promise<QueryOutcome> {
    const served = this.#served;
    const user = this.#user;
    if (this.#loans.has(shard) || !served || !user) return await this.ask(shard, sql);
    const loan = await this.#take(served, user, shard);
    this.#aside = loan;
    try {
      await loan.configure(served, this.#state);
      return await must(loan.server, sql);
    } finally {
      this.#aside = null;
      loan.giveBack();
    }
  }

  async #take(served: ServedDatabase, user: DatabaseUser, shard: ShardId): Promise<Loan> {
    try {
      return await Loan.take(this.#state, served, { user, shard });
    } catch (error) {
      if (error instanceof PoolRetired) this.metRetired = error;
      throw error;
    }
  }

  /** SET, SAVEPOINT and the like: on every server of the transaction, and on those that join later. */
  async everywhere(sql: string): Promise<QueryOutcome> {
    if (this.#loans.size === 0) await this.acquire(FIRST_SHARD);
    let outcome: QueryOutcome | null = null;
    for (const { server } of this.#loans.values()) outcome = await must(server, sql);
    this.#joined.add(sql);
    return outcome ?? { rows: [], tag: "", error: null };
  }

  /**
   * @throws StatementFailed when a shard refuses: all are rolled back
   * @throws StatementRefused 40003 when some had committed by then
   */
  async commit(isTwoPhase: boolean): Promise<void> {
    const committing = this.#commit(isTwoPhase);
    this.#committing = committing.catch(() => {});
    try {
      await committing;
    } finally {
      this.#committing = null;
    }
  }

  /** A commit is under way; resolves when it is over, however it went. */
  get committing(): Promise<void> | null {
    return this.#committing;
  }

  async #commit(isTwoPhase: boolean): Promise<void> {
    const servers = this.#firstShardLast();
    try {
      if (isTwoPhase && servers.length > 1) await this.#commitPrepared(servers);
      else await this.#commitEach(servers, () => "COMMIT");
    } finally {
      // Whatever came of it: who reads the tables anew reads the truth.
      if (this.#changesSchema && this.#served) this.#served.schemaGeneration++;
    }
  }

  /**
   * The first shard decides about rows that all shards have (see `executeReplay`): who sees there what this
   * transaction has done must find it done on the others.
   */
  #firstShardLast(): readonly ServerConnection[] {
    const first = this.#loans.get(FIRST_SHARD)?.server;
    if (!first) return this.used;
    return [...this.used.filter((server) => server !== first), first];
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
    this.#state.counters.twoPhaseTransactions++;
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
        throw new StatementRefused(
          SQLSTATE.statementCompletionUnknown,
          `committed on ${committed} of ${servers.length} shards only: ${reason}`,
          { hint: "Look at the data. two_phase_commit = true makes this rarer." },
        );
      }
    }
  }

  /** Whatever runs is cancelled; resolves when all servers have taken the request. */
  async cancel(): Promise<void> {
    await Promise.all(this.#lent.map((loan) => loan.cancel()));
  }

  /** As `Loan.cancelling`, of all. */
  cancelling(): Promise<unknown> | null {
    const under = this.#lent.flatMap(({ cancelling }) => cancelling ?? []);
    return under.length > 0 ? Promise.all(under) : null;
  }

  /** Gives all servers back; what is open is rolled back there. */
  release(): void {
    for (const loan of this.#loans.values()) loan.giveBack();
    this.#loans.clear();
    this.metRetired = null;
    this.number++;
    this.#changesSchema = false;
    this.#beginSql = null;
    this.#joined = new TransactionPast();
  }

  get #lent(): readonly Loan[] {
    return this.#aside === null
      ? [...this.#loans.values()]
      : [...this.#loans.values(), this.#aside];
  }
}

/** @throws StatementFailed with the server's error */
async function must(server: ServerConnection, sql: string): Promise<QueryOutcome> {
  const outcome = await server.query(sql);
  if (outcome.error) throw new StatementFailed(encodeErrorFields("E", outcome.error));
  return outcome;
}

function rolledBack(): StatementRefused {
  return new StatementRefused(
    SQLSTATE.inFailedSqlTransaction,
    "the transaction had failed on a shard and was rolled back",
  );
}
