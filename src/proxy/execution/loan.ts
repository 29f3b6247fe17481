import type { ServerConnection } from "../../backend/server-connection.js";
import { parseSqlState, SQLSTATE } from "../../core/sqlstate.js";
import type { DatabaseUser, ShardId } from "../../topology/topology.js";
import type { ErrorResponseFields } from "../../wire/error-fields.js";
import type { ServedDatabase } from "../databases/served-database.js";
import { StatementRefused } from "../session-errors.js";
import { applySettings } from "./session-settings.js";
import { newsOf, type SessionState } from "./session-state.js";
import type { StatementEffects } from "./statement-effects.js";

interface LentTo {
  readonly user: DatabaseUser;
  readonly shard: ShardId;
}

/**
 * A server connection lent to one client's session, and made its own: the one place where sessions get connections
 * from the pools. When it is given back, by whomever, is the connection's own and its pool's business (R52).
 */
export class Loan {
  readonly server: ServerConnection;
  /** Whose pool it came from; another object when the database has moved since. */
  readonly served: ServedDatabase;

  readonly #of: LentTo;

  private constructor(served: ServedDatabase, server: ServerConnection, of: LentTo) {
    this.served = served;
    this.server = server;
    this.#of = of;
  }

  /**
   * @throws CheckoutTimedOut, ServerUnreachable, ServerRefused, PoolRetired: nothing was sent
   * @throws SessionEnded when the client is gone, also while it waited: nothing was sent
   */
  static async take(
    { lender }: Pick<SessionState, "lender">,
    served: ServedDatabase,
    to: LentTo,
  ): Promise<Loan> {
    return new Loan(served, await lender.take(served.pool(to.user, to.shard)), to);
  }

  /**
   * For a short question of our own, which does not wait for a server of the pool to be free.
   * @throws as `take`
   */
  static async takeAside(
    { lender }: Pick<SessionState, "lender">,
    served: ServedDatabase,
    to: LentTo,
  ): Promise<Loan> {
    return new Loan(served, await lender.takeAside(served.pool(to.user, to.shard)), to);
  }

  /**
   * Makes the connection this client's: its settings, and its transaction where BEGIN was put off.
   * @throws StatementRefused with the server's SQLSTATE when it takes them not
   * @throws ServerConnectionLost
   */
  async prepare(served: ServedDatabase, state: SessionState): Promise<void> {
    await this.configure(served, state);
    if (state.transaction !== "begun") return;
    const { error } = await this.server.query(state.beginSql);
    if (error) throw refusedByServer(error);
    state.transaction = "open";
  }

  /**
   * The same without the transaction, for what stands beside it.
   * @throws StatementRefused, ServerConnectionLost as `prepare`
   */
  async configure(served: ServedDatabase, state: SessionState): Promise<void> {
    const { server } = this;
    if (server.schemaGeneration !== served.schemaGeneration) {
      if (server.preparedStatements.size > 0 && state.tie === null) {
        await server.query("DEALLOCATE ALL");
      }
      server.schemaGeneration = served.schemaGeneration;
    }
    await served.translateOids(this.#of.user, this.#of.shard, server);
    await served.hiddenChanges.learn(server, served.schemaGeneration);
    const refused = await applySettings(server, state.settings.wantedOn(server));
    if (refused) throw refusedByServer(refused);
    // What an open transaction has set is not on a server that joins it yet.
    const news = state.settings.hasTouched ? null : newsOf(state, server);
    if (news) state.client.write(news);
  }

  /**
   * After statements with these effects, while their transaction can go on: what the server has put back to its own
   * defaults goes back to what the client's login gave, and the client is told.
   * @throws ServerConnectionLost
   */
  async restore(state: SessionState, effects: readonly StatementEffects[]): Promise<void> {
    const { server } = this;
    if (server.transactionStatus === "E") return;
    if (effects.some(({ discards }) => discards === "all")) {
      await this.configure(this.served, state);
      return;
    }
    const sql = state.settings.restoring(effects, server);
    if (sql === null) return;
    const { error } = await server.query(sql);
    if (error) server.isSoiled = true;
    const news = state.parameters.news(server.parameters, () => false);
    if (news) state.client.write(news);
  }

  /** What runs is cancelled; resolves when the server has taken the request. Never throws. */
  async cancel(): Promise<void> {
    await this.server.cancel();
  }

  /** A cancel request is on its way, and could hit what is sent next; resolves when that cannot be any more. */
  get cancelling(): Promise<void> | null {
    return this.server.cancelling;
  }

  /** The session has done with it. */
  giveBack(): void {
    this.server.giveBack();
  }
}

function refusedByServer(fields: ErrorResponseFields): StatementRefused {
  const detail = fields.get("D");
  const hint = fields.get("H");
  const sqlState = parseSqlState(fields.get("C")) ?? SQLSTATE.internalError;
  return new StatementRefused(sqlState, fields.get("M") ?? "refused by the server", {
    ...(detail ? { detail } : {}),
    ...(hint ? { hint } : {}),
  });
}
