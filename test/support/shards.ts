import { serialize } from "pg-protocol";
import { ServerConnection } from "../../src/backend/server-connection.js";
import { executeReplay } from "../../src/proxy/sharded/replay/execute.js";
import type {
  ClientSink,
  CopySource,
  ScatterOutcome,
  ShardServers,
  StatementRequest,
} from "../../src/proxy/sharded/scatter/contract.js";
import { executeScatter } from "../../src/proxy/sharded/scatter/execute.js";
import { statementMessages } from "../../src/proxy/sharded/scatter/shard-messages.js";
import { ShardStatement } from "../../src/proxy/sharded/scatter/shard-statement.js";
import type { Route } from "../../src/router/route.js";
import type { Router } from "../../src/router/router.js";
import { shardId } from "../../src/topology/topology.js";
import { BACKEND, decodeDataRow, decodeRowDescription } from "../../src/wire/backend.js";
import { decodeErrorFields } from "../../src/wire/error-fields.js";
import { Framer } from "../../src/wire/framer.js";
import type { PostgresServer } from "./postgres.js";

export interface StatementResult {
  readonly route: Route;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
  readonly tag: string | null;
  /** SQLSTATE and message. */
  readonly error: { readonly sqlState: string; readonly message: string } | null;
  /** What COPY TO STDOUT sent. */
  readonly copied: Buffer;
  /** Letters of the frames that the client got. */
  readonly frames: string;
}

export interface RunOptions {
  readonly parameters?: readonly (Buffer | string | null)[];
  readonly parameterFormats?: readonly number[];
  readonly resultFormats?: readonly number[];
  readonly protocol?: "simple" | "extended";
  /** Pieces of COPY FROM STDIN; null at the end: CopyFail. */
  readonly copyData?: readonly (Buffer | null)[];
  /** The sink says "full" after every write and is free a moment later. */
  readonly isSlow?: boolean;
}

/** Databases of one server as shards, one connection each, and one statement at a time over them. */
export class Shards implements AsyncDisposable {
  readonly connections: readonly ServerConnection[];

  private constructor(connections: readonly ServerConnection[]) {
    this.connections = connections;
  }

  static async connect(server: PostgresServer, databases: readonly string[]): Promise<Shards> {
    const connections: ServerConnection[] = [];
    for (const database of databases) {
      connections.push(
        await ServerConnection.connect(server.address(database), { connectTimeoutMs: 5_000 }),
      );
    }
    return new Shards(connections);
  }

  /** In a transaction of its own on all shards: committed everywhere, or nowhere. */
  async run(
    router: Pick<Router, "route">,
    sql: string,
    options: RunOptions = {},
  ): Promise<StatementResult> {
    const request = requestOf(sql, options);
    const route = router.route(sql, {
      values: request.parameters,
      formats: request.parameterFormats,
      typeOids: request.parameterTypes,
    });
    await this.#everywhere("BEGIN");
    const sink = new RecordingSink(options.isSlow === true);
    const outcome = await this.#execute(route, request, { sink, copySource: copySource(options) });
    await this.#everywhere(outcome.kind === "complete" ? "COMMIT" : "ROLLBACK");
    return result(route, sink, outcome);
  }

  async #execute(
    route: Route,
    request: StatementRequest,
    ends: { readonly sink: RecordingSink; readonly copySource: CopySource },
  ): Promise<ScatterOutcome> {
    const servers = this.#servers();
    switch (route.kind) {
      case "refused":
        throw new Error(`refused: ${route.reason}`);
      case "draw":
        throw new Error("values are drawn by a session");
      case "one":
      case "any":
        return await this.#single(route.kind === "one" ? route.shard : 0, request, ends.sink);
      case "computed":
        throw new Error("the session computes selects");
      case "replayed":
        return await executeReplay({ plan: route.plan, request, ...ends, servers });
      default:
        return await executeScatter({ route, request, ...ends, servers });
    }
  }

  #servers(): ShardServers {
    return {
      shards: this.connections.map((_, index) => shardId(index)),
      acquire: async (shard) => {
        const connection = this.connections[shard];
        if (connection === undefined) throw new Error(`no shard ${shard}`);
        return connection;
      },
      cancel: async () => {
        await Promise.all(this.connections.map(async (connection) => await connection.cancel()));
      },
    };
  }

  async #single(
    shard: number,
    request: StatementRequest,
    sink: ClientSink,
  ): Promise<ScatterOutcome> {
    const connection = this.connections[shard];
    if (connection === undefined) throw new Error(`no shard ${shard}`);
    const write = (frame: Buffer) => void sink.write(Buffer.from(frame));
    const statement = new ShardStatement(connection, {
      description: write,
      rows: (buffer, start, end) => write(buffer.subarray(start, end)),
      notice: write,
      copyIn: () => {},
      drained: () => {},
    });
    const end = await statement.run(statementMessages(request, request.sql, null));
    return end.kind === "failed" ? end : { kind: "complete", tag: end.tags.at(-1) ?? "" };
  }

  async #everywhere(sql: string): Promise<void> {
    for (const connection of this.connections) await connection.query(sql);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.connections) connection.giveBack();
  }
}

function requestOf(sql: string, options: RunOptions): StatementRequest {
  const parameters = (options.parameters ?? []).map((value) =>
    typeof value === "string" ? Buffer.from(value) : value,
  );
  return {
    protocol: options.protocol ?? (parameters.length > 0 ? "extended" : "simple"),
    sql,
    parameterTypes: [],
    parameterFormats: options.parameterFormats ?? [],
    parameters,
    resultFormats: options.resultFormats ?? [],
    wantsDescription: true,
  };
}

class RecordingSink implements ClientSink {
  readonly frames: Buffer[] = [];
  readonly #isSlow: boolean;

  constructor(isSlow: boolean) {
    this.#isSlow = isSlow;
  }

  write(frames: Buffer): boolean {
    this.frames.push(Buffer.from(frames));
    return !this.#isSlow;
  }

  async drained(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function copySource({ copyData = [] }: RunOptions): CopySource {
  const pieces = [...copyData];
  return {
    hasMore: true,
    next: async () => {
      const piece = pieces.shift();
      if (piece === undefined) return { kind: "done" };
      if (piece === null) return { kind: "failed", reason: "the client gave up" };
      return { kind: "data", frames: serialize.copyData(piece) };
    },
  };
}

function result(route: Route, sink: RecordingSink, outcome: ScatterOutcome): StatementResult {
  const framer = new Framer();
  const rows: (string | null)[][] = [];
  const copied: Buffer[] = [];
  let columns: readonly string[] = [];
  let frames = "";
  framer.push(Buffer.concat(sink.frames));
  while (framer.next()) {
    const frame = framer.buffer.subarray(framer.start, framer.end);
    frames += String.fromCharCode(framer.type);
    if (framer.type === BACKEND.rowDescription) {
      columns = decodeRowDescription(frame).map((column) => column.name);
    } else if (framer.type === BACKEND.dataRow) {
      rows.push(decodeDataRow(frame).map((value) => value?.toString("latin1") ?? null));
    } else if (framer.type === BACKEND.copyData) {
      rows.push([frame.toString("utf8", 5)]);
      copied.push(frame.subarray(5));
    }
  }
  const fields = outcome.kind === "failed" ? decodeErrorFields(outcome.error) : null;
  return {
    route,
    columns,
    rows,
    tag: outcome.kind === "complete" ? outcome.tag : null,
    error: fields && { sqlState: fields.get("C") ?? "", message: fields.get("M") ?? "" },
    frames,
    copied: Buffer.concat(copied),
  };
}
