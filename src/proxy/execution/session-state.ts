import type { Lender } from "../../backend/lender.js";
import type { ServerConnection } from "../../backend/server-connection.js";
import type { DatabaseUser } from "../../topology/topology.js";
import type { ClientConnection } from "../client/client-connection.js";
import type { ClientParameters } from "./client-parameters.js";
import type { PreparedStatement, PreparedStatements } from "./prepared-statements.js";
import type { SessionSettings } from "./session-settings.js";

/** What a client's session holds, wherever its statements are executed. */
export interface SessionState {
  readonly client: ClientConnection;
  readonly userName: string;
  /** All its servers come from here, and go back when the client goes. */
  readonly lender: Lender;
  readonly settings: SessionSettings;
  /** What the client was told of them. */
  readonly parameters: ClientParameters;
  /** By the client's names; "" is the unnamed one. */
  readonly statements: Map<string, PreparedStatement>;
  readonly registry: PreparedStatements;
  readonly counters: SessionCounters;
  /**
   * none: outside of one. begun: BEGIN was answered, no server knows yet. open: servers are in one.
   * failed: it was lost with its server, or refused; only ROLLBACK helps.
   */
  transaction: "none" | "begun" | "open" | "failed";
  /** The client's BEGIN, with its modes. */
  beginSql: string;
  /** Why the session keeps its server connection (R38); null: it does not. */
  tie: string | null;
  /** A kept pooler mode: of the user at the last transaction's start. */
  mode: DatabaseUser["poolerMode"];
}

/** What SHOW CLIENTS tells of a session. */
export interface SessionCounters {
  queries: number;
  transactions: number;
  /** Committed by PREPARE TRANSACTION on more than one shard. */
  twoPhaseTransactions: number;
  errors: number;
  /** In holds. */
  waitMs: number;
  /** From a request that may go to its end, holds not counted. */
  queryMs: number;
  /** From a transaction's start to its end, the client's own pauses counted. */
  transactionMs: number;
  lastRequestAtMs: number;
}

export function newCounters(): SessionCounters {
  return {
    queries: 0,
    transactions: 0,
    twoPhaseTransactions: 0,
    errors: 0,
    waitMs: 0,
    queryMs: 0,
    transactionMs: 0,
    lastRequestAtMs: 0,
  };
}

/** ParameterStatus messages that a client is to get, as it has this server; null: none. */
export function newsOf(
  { parameters, settings }: SessionState,
  server: ServerConnection,
): Buffer | null {
  return parameters.news(server.parameters, (name) => settings.isResetting(name));
}

/** The client closed it, or making it failed. */
export function forgetStatement(state: SessionState, name: string): void {
  const statement = state.statements.get(name);
  if (!statement) return;
  state.statements.delete(name);
  if (statement.name !== "") state.registry.drop(statement);
}

/** All of them, as after DEALLOCATE ALL. */
export function forgetStatements(state: SessionState): void {
  for (const name of [...state.statements.keys()]) forgetStatement(state, name);
}
