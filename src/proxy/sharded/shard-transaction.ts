import type { QueryOutcome, ServerConnection } from "../../backend/server-connection.js";
import { PoolRetired } from "../../backend/server-errors.js";
import type { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { SCHEMA_FACTS_SQL } from "../../router/schema-facts.js";
import {
  type Database,
  type DatabaseUser,
  FIRST_SHARD,
  type ShardId,
} from "../../topology/topology.js";
import { encodeThrown } from "../../wire/error-fields.js";
import type { ServedDatabase } from "../databases/served-database.js";
import { Loan } from "../execution/loan.js";
import type { SessionState } from "../execution/session-state.js";
import { StatementRefused } from "../session-errors.js";
import { must } from "./commit/commit-part.js";
import { commitTogether } from "./commit/commit-together.js";
import type { ShardServers } from "./scatter/contract.js";
import { TransactionPast } from "./transaction-past.js";

/**
 * One client's servers on several shards, each joined when it is first needed. In a transaction all of them
 * commit or roll back.
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

  /** It is being committed, which goes on to its end whoever leaves. */
  #isPassed = false;

  /** Raised when a transaction ends. */
  number = 0;

  /** Raised when a commit begins: from then on nobody knows what was done. */
  commits = 0;

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

  get sessions(): readonly { readonly shard: ShardId; readonly pid: number }[] {
    return [...this.#loans].map(([shard, { server }]) => ({ shard, pid: server.processId }));
  }

  /** Which shard's a connection of the transaction is; null: none of its own. */
  shardOf(server: ServerConnection): ShardId | null {
    for (const [shard, loan] of this.#loans) if (loan.server === server) return shard;
    return null;
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

  /** A statement has changed tables. Outside of a transaction everybody sees that at once, and is told. */
  async noteSchemaChange(): Promise<void> {
    if (this.isBegun) this.#changesSchema = true;
    else await this.#served?.announceTables();
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
   * On all shards, or on none; see `commitTogether`.
   * @throws StatementFailed, SluiceError: nothing is committed
   * @throws StatementRefused 40003 when some had committed, or nobody knows
   */
  async commit(mode: Database["twoPhaseCommit"]): Promise<void> {
    this.commits++;
    const committing = this.#commit(mode);
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

  async #commit(mode: Database["twoPhaseCommit"]): Promise<void> {
    const served = this.#served;
    const user = this.#user;
    if (!served || !user) return;
    const changesSchema = this.#changesSchema;
    try {
      const isTwoPhase = await commitTogether({
        parts: [...this.#loans].map(([shard, { server }]) => ({ shard, server })),
        served,
        user,
        mode,
        cancel: () => void this.cancel(),
        onPassed: () => {
          this.#isPassed = true;
        },
      });
      if (isTwoPhase) this.#state.counters.twoPhaseTransactions++;
    } catch (error) {
      // It is over, whatever savepoints there were.
      this.release();
      throw error;
    } finally {
      this.#isPassed = false;
      // Whatever came of it: who reads the tables anew reads the truth.
      if (changesSchema) await served.announceTables();
    }
  }

  /** Whatever runs is cancelled; resolves when all servers have taken the request. */
  async cancel(): Promise<void> {
    if (this.#isPassed) return;
    await Promise.all(this.#lent.map((loan) => loan.cancel()));
  }

  /** Cancels what runs, for a reason that the client hears in the place of the server's. */
  async giveUp(reason: SluiceError): Promise<void> {
    const frame = encodeThrown(reason);
    for (const { server } of this.#loans.values()) server.cancelReason = frame;
    await this.cancel();
  }

  /** As `Loan.cancelling`, of all. */
  cancelling(): Promise<unknown> | null {
    const under = this.#lent.flatMap(({ cancelling }) => cancelling ?? []);
    return under.length > 0 ? Promise.all(under) : null;
  }

  /** Gives all servers back; what is open is rolled back there. */
  release(): void {
    for (const loan of this.#loans.values()) {
      loan.server.cancelReason = null;
      loan.giveBack();
    }
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
