import {
  type BindValues,
  decodeBindNames,
  decodeBindValues,
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeTarget,
  FRONTEND,
} from "../../wire/frontend.js";
import type { ClientRequest, Message } from "../client/client-request.js";
import { type PreparedStatement, unnamedStatement } from "./prepared-statements.js";
import type { SessionState } from "./session-state.js";
import { effectsOf, type StatementEffects } from "./statement-effects.js";

/** Requests that a server answers. */
export type ServerRequest = Extract<ClientRequest, { kind: "query" | "extended" | "function" }>;

/**
 * A request whose messages were decoded once, for everyone who looks at it afterwards: session, executor, and
 * the same again when it is repeated elsewhere.
 */
export type DecodedRequest =
  | {
      readonly kind: "query";
      readonly frame: Buffer;
      readonly bytes: number;
      readonly sql: string;
      readonly effects: readonly StatementEffects[];
    }
  | DecodedPipeline
  | {
      readonly kind: "function";
      readonly frame: Buffer;
      readonly bytes: number;
      readonly effects: readonly [];
    };

export interface DecodedPipeline {
  readonly kind: "extended";
  readonly parts: readonly PipelinePart[];
  readonly end: "sync" | "flush" | "part";
  readonly bytes: number;
  /** Of the statements that are bound, in order. */
  readonly effects: readonly StatementEffects[];
}

/** The texts that it runs. */
export function textsOf(request: Exclude<DecodedRequest, { kind: "function" }>): readonly string[] {
  if (request.kind === "query") return [request.sql];
  return request.parts.flatMap((part) =>
    part.kind === "bind" && part.statement ? [part.statement.sql] : [],
  );
}

/** One message of the extended protocol. */
export type PipelinePart =
  | ParsePart
  | BindPart
  | {
      readonly kind: "describe" | "close";
      readonly frame: Buffer;
      readonly target: "statement" | "portal";
      readonly name: string;
    }
  | ExecutePart
  | { readonly kind: "sync" | "flush"; readonly frame: Buffer };

export interface ParsePart {
  readonly kind: "parse";
  readonly frame: Buffer;
  /** The client's name for it. */
  readonly name: string;
  readonly statement: PreparedStatement;
}

export interface ExecutePart {
  readonly kind: "execute";
  readonly frame: Buffer;
  readonly portal: string;
  /** 0: all. */
  readonly maxRows: number;
}

/** A Bind: its names at once, its values when somebody needs them, as a server is given the bytes. */
export class BindPart {
  readonly kind = "bind";
  readonly frame: Buffer;
  readonly portal: string;
  /** The client's name. */
  readonly statementName: string;
  readonly valuesAt: number;
  /** What that name means when nothing before it fails; null: unknown here. */
  readonly statement: PreparedStatement | null;
  #values: BindValues | null = null;

  constructor(frame: Buffer, statementNamed: (name: string) => PreparedStatement | null) {
    const { portal, statement, valuesAt } = decodeBindNames(frame);
    this.frame = frame;
    this.portal = portal;
    this.statementName = statement;
    this.valuesAt = valuesAt;
    this.statement = statementNamed(statement);
  }

  /** @throws ProtocolViolation */
  get values(): BindValues {
    this.#values ??= decodeBindValues(this.frame, this.valuesAt);
    return this.#values;
  }
}

/** @throws ProtocolViolation */
export function decodeRequest(request: ServerRequest, state: SessionState): DecodedRequest {
  if (state.transaction === "none") state.settings.endTransaction();
  switch (request.kind) {
    case "query": {
      const { kind, frame, bytes } = request;
      const sql = decodeQuery(frame);
      return { kind, frame, bytes, sql, effects: [effectsOf(sql)] };
    }
    case "function":
      return { kind: request.kind, frame: request.frame, bytes: request.bytes, effects: [] };
    case "extended":
      return decodePipeline(request, state);
  }
}

function decodePipeline(
  { messages, end, bytes }: Extract<ServerRequest, { kind: "extended" }>,
  state: SessionState,
): DecodedPipeline {
  const effects: StatementEffects[] = [];
  let made: Map<string, PreparedStatement> | null = null;
  const statementNamed = (name: string) => made?.get(name) ?? state.statements.get(name) ?? null;
  const parts = messages.map((message) => {
    const part = decodePart(message, state, statementNamed);
    if (part.kind === "parse") {
      made ??= new Map();
      made.set(part.name, part.statement);
    } else if (part.kind === "bind" && part.statement) effects.push(part.statement.effects);
    return part;
  });
  return { kind: "extended", parts, end, bytes, effects };
}

function decodePart(
  { type, frame }: Message,
  { registry, settings }: SessionState,
  statementNamed: (name: string) => PreparedStatement | null,
): PipelinePart {
  switch (type) {
    case FRONTEND.parse: {
      const message = decodeParse(frame);
      const { name } = message;
      const statement =
        name === ""
          ? unnamedStatement(message, frame)
          : registry.find(message, settings.fingerprint);
      return { kind: "parse", frame, name, statement };
    }
    case FRONTEND.bind:
      return new BindPart(frame, statementNamed);
    case FRONTEND.describe:
    case FRONTEND.close: {
      const { target, name } = decodeTarget(frame);
      return { kind: type === FRONTEND.close ? "close" : "describe", frame, target, name };
    }
    case FRONTEND.execute: {
      const { portal, maxRows } = decodeExecute(frame);
      return { kind: "execute", frame, portal, maxRows };
    }
    case FRONTEND.sync:
      return { kind: "sync", frame };
    default:
      // What the collector takes besides these is Flush alone.
      return { kind: "flush", frame };
  }
}
