import type { ServerConnection } from "../../../backend/server-connection.js";
import type { Route } from "../../../router/route.js";
import type { ShardId } from "../../../topology/topology.js";
import type { Phase } from "./shard-statement.js";

/**
 * Contract between a session's sharded executor and the execution of one statement over several servers
 * (`executeScatter`). The executor does transactions, settings and ReadyForQuery; the scatter sends the statement
 * and makes one answer of several.
 */

/** One statement with everything that it binds. */
export interface StatementRequest {
  readonly protocol: "simple" | "extended";
  readonly sql: string;
  readonly parameterTypes: readonly number[];
  /** As in Bind: none, one for all, or one each; 0 text, 1 binary. */
  readonly parameterFormats: readonly number[];
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly number[];
  /** RowDescription, or NoData in the extended protocol, goes before the rows. */
  readonly wantsDescription: boolean;
}

/** The client's end. Whole messages only. */
export interface ClientSink {
  /** @returns false when the caller should wait for `drained` (and pause its servers) before more */
  write(frames: Buffer): boolean;
  drained(): Promise<void>;
}

/**
 * The servers of the session's transaction. A connection that is handed out has the client's settings,
 * is inside the transaction where there is one, has nothing in flight, and is this session's until the
 * statement ends. Only the unnamed statement and portal may be used on it. After use nothing is in flight:
 * ReadyForQuery was seen.
 */
export interface ShardServers {
  readonly shards: readonly ShardId[];
  /** @throws SluiceError when no connection comes about: then nothing was sent there */
  acquire(shard: ShardId): Promise<ServerConnection>;
  /** Whatever runs is cancelled. Never throws. */
  cancel(): Promise<void>;
}

/** The client's messages during COPY FROM STDIN, in order. */
export interface CopySource {
  /** `next` need not wait for the client. */
  readonly hasMore: boolean;
  /**
   * `data` may hold several CopyData messages one behind the other, headers included. It waits for the
   * client. The session sends CopyInResponse's answer to nobody: the scatter writes it to the sink.
   */
  next(): Promise<
    | { readonly kind: "data"; readonly frames: Buffer }
    | { readonly kind: "done" }
    | { readonly kind: "failed"; readonly reason: string }
  >;
}

export type ScatterRoute = Extract<Route, { kind: "many" | "split" | "moveRow" | "copyIn" }>;

export interface ScatterInput {
  readonly route: ScatterRoute;
  readonly request: StatementRequest;
  readonly servers: ShardServers;
  readonly sink: ClientSink;
  readonly copySource: CopySource;
}

/**
 * What is left to tell the client. The scatter has written description and rows, but neither CommandComplete
 * nor ErrorResponse nor ReadyForQuery: a commit may come between, and may fail.
 */
export type ScatterOutcome =
  | { readonly kind: "complete"; readonly tag: string }
  /**
   * An ErrorResponse frame, a server's own where there is one, and which message of the client's it answers; absent:
   * Execute, or a Query.
   */
  | { readonly kind: "failed"; readonly error: Buffer; readonly phase?: Phase };

/** Signature of `executeScatter`. Never throws for what a server or client does. */
export type ExecuteScatter = (input: ScatterInput) => Promise<ScatterOutcome>;
