import type { Config } from "../config/model.js";

/**
 * Messages between a node's main process (the supervisor, which reads decisions) and its data-plane
 * processes, over Node's IPC. Plain JSON. The data plane never decides: it holds, answers, and goes on
 * only when told so.
 */
export type ToDataPlane =
  /** The effective configuration (names already exchanged by committed switches). Replaces everything. */
  | {
      readonly kind: "topology";
      readonly generation: number;
      readonly config: Config;
      /** By database name; missing: 0. */
      readonly epochs: Readonly<Record<string, number>>;
    }
  /**
   * Hold these databases: new transactions wait, open ones finish or, with "end", are ended. Answer
   * "held" when nothing is in flight. Repeats with the same token answer again. Stays in force until
   * "release": no timer of the data plane ends it. After `clientTimeoutMs` a waiting client gets a
   * retryable error instead of waiting on.
   */
  | {
      readonly kind: "hold";
      readonly token: string;
      readonly databases: readonly string[];
      readonly openTransactions: "wait" | "end";
      readonly clientTimeoutMs: number;
      readonly maxClients: number;
      readonly maxBytes: number;
    }
  /** Comes after the "topology" that the waiting clients shall go on with, if it changed. */
  | { readonly kind: "release"; readonly token: string }
  /** Open server connections to these databases' servers now (arm). */
  | { readonly kind: "warm"; readonly databases: readonly string[] }
  /** Answer to "stale": decisions were re-read; a topology or a hold, if one was due, went before. */
  | { readonly kind: "refreshed"; readonly database: string }
  | { readonly kind: "maintenance"; readonly isOn: boolean; readonly database: string | null }
  | {
      readonly kind: "pause";
      readonly isPaused: boolean;
      readonly user: string | null;
      readonly database: string | null;
    }
  | { readonly kind: "reconnect" }
  /** A cancel request that arrived at another data plane: whose client is it? Unknown keys are ignored. */
  | { readonly kind: "cancelRequest"; readonly processId: number; readonly secretHex: string };

export type FromDataPlane =
  /** It can take clients. */
  | { readonly kind: "ready" }
  /** Nothing of these databases is in flight and nothing will be until release. */
  | { readonly kind: "held"; readonly token: string }
  /** What is open and who waits under this hold, for "says why it waits"; sent every 200 ms while either is. */
  | {
      readonly kind: "holding";
      readonly token: string;
      readonly openTransactions: number;
      readonly waitingClients: number;
      /** The oldest of the open ones, a few of them. */
      readonly oldest: readonly OpenTransaction[];
    }
  /** A bound of the hold was passed: the switch should undo itself. */
  | { readonly kind: "holdOverflow"; readonly token: string; readonly reason: string }
  /** A server refused with our gate's SQLSTATE: this database's epoch may be old. */
  | { readonly kind: "stale"; readonly database: string; readonly epoch: number }
  /**
   * A cancel request whose key belongs to no client here: the socket that carried it was handed to any data
   * plane. The supervisor passes it on to all others.
   */
  | { readonly kind: "cancelRequest"; readonly processId: number; readonly secretHex: string };

/** A client's transaction that a hold waits for. No statement, parameter or row of it (R56). */
export interface OpenTransaction {
  /** Of its server connections, as in pg_stat_activity; none while it waits for one. */
  readonly pids: readonly number[];
  /** As PostgreSQL shows it. */
  readonly application: string;
  /** Since it began, the client's own pauses counted. */
  readonly ageMs: number;
}

/** What the main process asks of a data plane, beside the messages. */
export interface DataPlaneCalls {
  show(what: ShowWhat): readonly AdminRow[];
  /** Another plane has changed tables: they are read again before a statement is routed. */
  tablesChanged(database: string): void;
  /** Resolves when no client is left. It goes on refusing new ones until it is ended. */
  shutDown(timeoutMs: number): Promise<void>;
}

export type ShowWhat = "clients" | "pools" | "servers" | "stats";

/** What a data plane asks of the main process. */
export interface MainCalls {
  /** Runs a statement of a client of the admin database; its failure is a result, too. */
  admin(user: string, sql: string): Promise<AdminResult>;
  /** DDL was committed: resolves when the other planes of this node know, or a while has passed. */
  tablesChanged(database: string): Promise<void>;
}

export type AdminValue = string | number | boolean | null;
export type AdminRow = readonly AdminValue[];

/** PostgreSQL type OIDs that the admin database declares; values always travel as text. */
export type AdminType = "text" | "bigint" | "numeric" | "bool";

export type AdminResult =
  | {
      readonly kind: "rows";
      readonly columns: readonly { readonly name: string; readonly type: AdminType }[];
      readonly rows: readonly AdminRow[];
      readonly tag: string;
      readonly notices?: readonly string[];
    }
  | { readonly kind: "done"; readonly tag: string; readonly notices?: readonly string[] }
  /** Never closes the connection. */
  | {
      readonly kind: "error";
      readonly sqlState: string;
      readonly message: string;
      readonly detail: string | null;
      readonly hint: string | null;
    };
