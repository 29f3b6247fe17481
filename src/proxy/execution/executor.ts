import type { SluiceError } from "../../core/errors.js";
import type { DatabaseUser } from "../../topology/topology.js";
import type { ServedDatabase } from "../databases/served-database.js";
import type { DecodedRequest } from "./decoded-request.js";

/** Where and as whom a request is executed. */
export interface ExecutionContext {
  readonly served: ServedDatabase;
  readonly user: DatabaseUser;
}

/** What came of a request. */
export type Handled =
  /** Nothing of a transaction is left. */
  | "idle"
  /** In a transaction, or before a Sync. */
  | "open"
  /** The gate refused before anything of the transaction had run; servers are given back. */
  | "refusedByGate";

/**
 * Executes one session's requests, one after the other: on the one server of its database, or over its shards.
 * It holds the server connections (`Loan`) as long as PostgreSQL's rules and the pooler mode say, answers the
 * client, and leaves in `SessionState` what the client then believes.
 */
export interface Executor {
  /** In a transaction, or before a Sync: what follows comes here. */
  readonly isOpen: boolean;
  /** The statement at hand is a COPY FROM STDIN that takes the client's data. */
  readonly isCopyIn: boolean;
  /** Process ids of the server connections that it holds, as PostgreSQL told them. */
  readonly serverPids: readonly number[];
  /**
   * @throws SessionEnded when the session cannot go on
   * @throws SluiceError when nothing came of the request: the caller answers it
   */
  handle(request: DecodedRequest, context: ExecutionContext): Promise<Handled>;
  /** CopyData, CopyDone or CopyFail, only while `isCopyIn`. Stops reading the client where it is too fast. */
  copy(type: number, frame: Buffer): void;
  /** The client's socket takes more. */
  clientDrained(): void;
  /** Whatever runs is cancelled at its servers; resolves when they have taken the request. */
  cancel(): Promise<void>;
  /**
   * The client is gone: its servers are given back at once, whatever they do, but for a commit under way over several,
   * which goes to its end. Resolves when nothing of it is in flight any more. Nothing else is called afterwards.
   * @param reason for whoever would still begin something in its name
   */
  abandon(reason: SluiceError): Promise<void>;
  /** The transaction has failed: the servers roll back, or (`isOpen`) wait for the client to go back to a savepoint. */
  fail(): void;
  /**
   * The database is no longer of this executor's kind: a kept connection is given back, or the session ends.
   * @throws SessionEnded
   */
  leave(served: ServedDatabase): Promise<void>;
}
