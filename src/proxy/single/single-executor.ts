import { describeAddress } from "../../backend/address.js";
import { ServerConnectionLost } from "../../backend/errors.js";
import type { ServerConnection } from "../../backend/server-connection.js";
import { forgetSession, type ServerPool } from "../../backend/server-pool.js";
import { SQLSTATE, type SqlState } from "../../core/sqlstate.js";
import type { DatabaseUser, ShardId } from "../../topology/topology.js";
import type { ErrorResponseFields } from "../../wire/error-fields.js";
import type { ClientRequest } from "../client/client-request.js";
import type { Cluster } from "../clusters/cluster.js";
import { SessionEnded, SessionRefused } from "../errors.js";
import { ExtendedTranslation, forgetStatements } from "../session/extended-translation.js";
import { applySettings } from "../session/session-settings.js";
import type { Handled, SessionState } from "../session/session-state.js";
import type { StatementEffects } from "../session/statement-effects.js";
import { Relay, type RelayOutcome } from "./relay.js";

/** A request up to this size is kept, and sent again when the gate refused it. */
const RETRIED_BYTES = 64 * 1024;
const ONLY_SHARD = 0 as ShardId;

// What a server's session holds that cannot be made again elsewhere.
const UNBUILDABLE = `SELECT
  EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()),
  EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()),
  EXISTS (SELECT FROM pg_catalog.pg_listening_channels()),
  EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),
  EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`;

export type SendRequest = Extract<ClientRequest, { kind: "query" | "extended" | "function" }>;

/** Executes a session's requests on one server: its whole traffic where the database has one shard. */
export class SingleExecutor {
  readonly relay: Relay;
  readonly #state: SessionState;
  #server: ServerConnection | null = null;
  #pool: ServerPool | null = null;
  #cluster: Cluster | null = null;
  /** Extended messages were sent and no Sync yet. */
  #isUnsynced = false;
  #isRunning = false;
  #cancelling: Promise<void> | null = null;

  constructor(state: SessionState, onCopyIn: () => void) {
    this.#state = state;
    this.relay = new Relay(state.client, onCopyIn);
  }

  /** In a transaction, or before a Sync: what follows goes to the same server. */
  get isOpen(): boolean {
    if (!this.#server) return false;
    return this.#isUnsynced || this.#server.transactionStatus !== "I";
  }

  get server(): ServerConnection | null {
    return this.#server;
  }

  /**
   * @throws SessionEnded when the session cannot go on
   * @throws SluiceError when nothing came of the request: the caller answers it
   */
  async handle(
    request: SendRequest,
    context: {
      readonly cluster: Cluster;
      readonly user: DatabaseUser;
      readonly effects: readonly StatementEffects[];
    },
  ): Promise<Handled> {
    const isFresh = !this.isOpen;
    const server = await this.#attach(context.cluster, context.user);
    for (const each of context.effects) this.#noteBefore(each, server);
    const canRetry =
      isFresh &&
      request.bytes <= RETRIED_BYTES &&
      (request.kind !== "extended" || request.end === "sync");
    this.#isRunning = true;
    let translation: ExtendedTranslation | null = null;
    let outcome: RelayOutcome;
    try {
      if (request.kind === "extended") {
        this.relay.begin("extended", canRetry);
        translation = new ExtendedTranslation(this.#state, this.relay, server);
        this.#send(server, translation.translate(request.messages));
        if (request.end === "part") {
          this.#isUnsynced = true;
          this.relay.injectAnswered();
          return "open";
        }
      } else {
        this.relay.begin("simple", canRetry);
        server.unnamedStatement = null;
        // As in PostgreSQL: a simple query destroys the unnamed statement.
        this.#state.statements.delete("");
        this.#send(server, request.frame);
      }
      outcome = await this.relay.outcome();
    } finally {
      this.#isRunning = false;
    }
    if (outcome.kind === "refusedByGate") translation?.rewind();
    return await this.#settle(outcome, server, context.effects);
  }

  /** Whatever runs is cancelled at the server. */
  async cancel(): Promise<void> {
    const server = this.#server;
    if (!server || !this.#isRunning) return;
    // The connection is not given to another before the server has taken the request.
    this.#cancelling = server.cancel();
    await this.#cancelling;
    this.#cancelling = null;
  }

  /** The client is gone, or its transaction is to be ended: the server is freed for others. */
  async abandon(): Promise<void> {
    const server = this.#server;
    if (server && this.#isRunning) {
      await this.cancel();
      // Ends the relay as well, and with it whoever waits for its outcome; unless that came meanwhile.
      if (this.#isStillWith(server)) server.destroy();
    }
    if (!this.#isRunning) this.#detach();
  }

  #isStillWith(server: ServerConnection): boolean {
    return this.#server === server && this.#isRunning;
  }

  /** The transaction is given up: the server rolls back. */
  fail(): void {
    this.#detach();
  }

  /**
   * The database has several shards now: a kept connection is given back, or the session ends.
   * @throws SessionEnded
   */
  async leaveForShards(cluster: Cluster): Promise<void> {
    if (this.#server) await this.#leave(cluster);
  }

  #send(server: ServerConnection, bytes: Buffer): void {
    if (bytes.length > 0 && !server.send(bytes)) this.#state.client.socket.pause();
  }

  async #attach(cluster: Cluster, user: DatabaseUser): Promise<ServerConnection> {
    if (this.#server && this.isOpen) return this.#server;
    if (this.#server && (this.#cluster !== cluster || this.#server.isLost))
      await this.#leave(cluster);
    if (!this.#server) {
      const pool = cluster.pool(user, ONLY_SHARD);
      this.#server = pool.tryAcquire() ?? (await pool.acquire());
      this.#pool = pool;
      this.#cluster = cluster;
      this.relay.attach(this.#server);
    }
    const server = this.#server;
    try {
      await prepareSession(server, cluster, this.#state);
    } catch (error) {
      this.#detach();
      throw error;
    }
    return server;
  }

  /** R38: the session is rebuilt on other servers, or ended; never silently changed. */
  async #leave(cluster: Cluster): Promise<void> {
    const server = this.#server;
    if (!server) return;
    const hasMoved = this.#cluster !== cluster;
    const reason = this.#state.tie ?? (server.isLost ? null : await unbuildableState(server));
    const address = describeAddress(server.address);
    this.#detach();
    if (!hasMoved)
      throw new SessionEnded(SQLSTATE.connectionFailure, `connection to server ${address} lost`, {
        hint: "The state of the session is lost with it. Connect again.",
      });
    if (reason === null) return;
    throw new SessionEnded(
      SQLSTATE.adminShutdown,
      `database "${cluster.database.name}" has moved to other servers, and this session's ${reason} cannot move`,
      { hint: "Connect again and set the session up anew." },
    );
  }

  #noteBefore(effects: StatementEffects, server: ServerConnection): void {
    this.#state.settings.note(effects);
    if (effects.tie === null) return;
    this.#state.tie ??= effects.tie;
    server.isSoiled = true;
  }

  async #settle(
    outcome: RelayOutcome,
    server: ServerConnection,
    effects: readonly StatementEffects[],
  ): Promise<Handled> {
    switch (outcome.kind) {
      case "lost":
        return this.#lost(outcome);
      case "refusedByGate":
        this.#backOff(server);
        return "refusedByGate";
      case "answered":
        this.#isUnsynced = true;
        return "open";
      case "ready":
        this.#isUnsynced = false;
    }
    if (!this.relay.hasSeenError) this.#noteAfter(effects, server);
    if (server.transactionStatus !== "I") {
      this.#state.transaction = "open";
      return "open";
    }
    this.#state.transaction = "none";
    if (this.#state.settings.hasTouched) await this.#state.settings.readBack(server);
    if (this.#cancelling) await this.#cancelling;
    if (this.#state.mode !== "session" && this.#state.tie === null) this.#detach();
    return "idle";
  }

  #noteAfter(effects: readonly StatementEffects[], server: ServerConnection): void {
    for (const { discards, changesSchema } of effects) {
      if (changesSchema && this.#cluster) this.#cluster.schemaGeneration++;
      if (discards === "none") continue;
      forgetStatements(this.#state);
      server.preparedStatements.clear();
      if (discards === "statements") continue;
      forgetSession(server);
      this.#state.settings.restart();
      this.#state.tie = null;
    }
  }

  /** Nothing ran: the client's BEGIN, if there was one, is sent again with the statement. */
  #backOff(server: ServerConnection): void {
    if (this.#state.transaction === "open") this.#state.transaction = "begun";
    if (this.#state.mode !== "session" && this.#state.tie === null) this.#detach();
    else if (server.transactionStatus !== "I") this.#detach();
  }

  #lost(outcome: Extract<RelayOutcome, { kind: "lost" }>): never {
    const hadState = this.#state.mode === "session" || this.#state.tie !== null;
    this.#detach();
    if (hadState) {
      const sqlState = outcome.fatal?.get("C") as SqlState | undefined;
      throw new SessionEnded(sqlState ?? SQLSTATE.connectionFailure, outcome.error.message, {
        ...(outcome.error.detail ? { detail: outcome.error.detail } : {}),
        hint: "Connect again.",
      });
    }
    throw outcome.error;
  }

  #detach(): void {
    const server = this.#server;
    if (!server) return;
    this.#server = null;
    this.#isUnsynced = false;
    this.#state.tie = null;
    this.relay.detach();
    if (this.#state.mode === "session") server.isSoiled = true;
    const pool = this.#pool;
    if (this.#cancelling) void this.#cancelling.then(() => pool?.release(server));
    else pool?.release(server);
  }
}

/**
 * Makes a connection that was just handed out this client's: its settings, and its transaction where BEGIN
 * was put off.
 * @throws SessionRefused with the server's SQLSTATE when it takes them not
 */
export async function prepareSession(
  server: ServerConnection,
  cluster: Cluster,
  state: SessionState,
): Promise<void> {
  if (server.schemaGeneration !== cluster.schemaGeneration) {
    if (server.preparedStatements.size > 0 && state.tie === null) {
      await server.query("DEALLOCATE ALL");
      server.preparedStatements.clear();
    }
    server.schemaGeneration = cluster.schemaGeneration;
  }
  const refused = await applySettings(server, state.settings.current);
  if (refused) throw refusedByServer(refused);
  if (state.transaction !== "begun") return;
  const { error } = await server.query(state.beginSql);
  if (error) throw refusedByServer(error);
  state.transaction = "open";
}

function refusedByServer(fields: ErrorResponseFields): SessionRefused {
  const detail = fields.get("D");
  const hint = fields.get("H");
  const sqlState = (fields.get("C") as SqlState | undefined) ?? SQLSTATE.internalError;
  return new SessionRefused(sqlState, fields.get("M") ?? "refused by the server", {
    ...(detail ? { detail } : {}),
    ...(hint ? { hint } : {}),
  });
}

async function unbuildableState(server: ServerConnection): Promise<string | null> {
  const names = ["advisory lock", "temporary table", "LISTEN", "cursor WITH HOLD", "PREPARE"];
  try {
    const { rows } = await server.query(UNBUILDABLE);
    const found = rows[0]?.indexOf("t") ?? -1;
    return found < 0 ? null : (names[found] ?? null);
  } catch (error) {
    // Gone with its server meanwhile: what statements told us (`tie`) must do.
    if (error instanceof ServerConnectionLost) return null;
    throw error;
  }
}
