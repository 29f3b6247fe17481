import type { DatabaseUser } from "../../topology/topology.js";
import type { ClientConnection } from "../client/client-connection.js";
import type { PreparedStatement, PreparedStatements } from "./prepared-statements.js";
import type { SessionSettings } from "./session-settings.js";

/** What a client's session holds, wherever its statements are executed. */
export interface SessionState {
  readonly client: ClientConnection;
  readonly userName: string;
  readonly settings: SessionSettings;
  /** By the client's names; "" is the unnamed one. */
  readonly statements: Map<string, PreparedStatement>;
  readonly registry: PreparedStatements;
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

/** What came of a request. */
export type Handled =
  /** Nothing of a transaction is left. */
  | "idle"
  /** In a transaction, or before a Sync. */
  | "open"
  /** The gate refused before anything of the transaction had run; servers are given back. */
  | "refusedByGate";
