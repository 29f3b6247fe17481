import type { ServerConnection } from "../../backend/server-connection.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { CLOSE_COMPLETE, PARSE_COMPLETE } from "../../wire/backend.js";
import { encodeError } from "../../wire/error-fields.js";
import {
  decodeBindNames,
  decodeParse,
  decodeTarget,
  encodeDescribe,
  encodeExecute,
  encodeRenamedBind,
  FRONTEND,
  SYNC,
} from "../../wire/frontend.js";
import type { Message } from "../client/client-request.js";
import type { Expectation, Relay } from "../single/relay.js";
import { type PreparedStatement, unnamedStatement } from "./prepared-statements.js";
import type { SessionState } from "./session-state.js";

const EXPECT_BIND: Expectation = { kind: "bind" };
const OUR_BIND: Expectation = { kind: "bind", isOurs: true };
const OUR_SYNC: Expectation = { kind: "sync", isOurs: true };
const EXPECT_CLOSE: Expectation = { kind: "close" };
const EXPECT_DESCRIBE: Expectation = { kind: "describe" };
const EXPECT_EXECUTE: Expectation = { kind: "execute" };
const EXPECT_SYNC: Expectation = { kind: "sync" };
const ANSWER_PARSE: Expectation = { kind: "answered", bytes: PARSE_COMPLETE };
const ANSWER_CLOSE: Expectation = { kind: "answered", bytes: CLOSE_COMPLETE };

// Makes the server fail at this place of the pipeline, as it would for the client's own mistake; what the
// client sees is our text.
const FAILING_MESSAGE = encodeExecute({ portal: "sluice: no such portal", maxRows: 0 });

/**
 * Rewrites a client's extended messages for one server connection: statements get their proxy-wide names,
 * those that this server lacks are prepared on the way. Tells the relay what answers to expect.
 */
export class ExtendedTranslation {
  readonly #state: SessionState;
  readonly #relay: Relay;
  readonly #server: ServerConnection;
  readonly #out: Buffer[] = [];
  /** The client's names that this request made, for the case that it is sent again elsewhere. */
  readonly #made: string[] = [];

  constructor(state: SessionState, relay: Relay, server: ServerConnection) {
    this.#state = state;
    this.#relay = relay;
    this.#server = server;
  }

  translate(messages: readonly Message[]): Buffer {
    for (const message of messages) this.#message(message);
    const [only] = this.#out;
    return this.#out.length === 1 && only ? only : Buffer.concat(this.#out);
  }

  /** Our own request for one portal, of which the client has got BindComplete already. */
  portal(portal: {
    /** null: bound here before. */
    readonly bind: Buffer | null;
    readonly describe: Buffer | null;
    readonly execute: Buffer;
  }): Buffer {
    if (portal.bind) this.#bind(portal.bind, OUR_BIND);
    if (portal.describe) this.#describe(portal.describe);
    this.#send(portal.execute, EXPECT_EXECUTE);
    this.#send(SYNC, OUR_SYNC);
    return Buffer.concat(this.#out);
  }

  /** Our own request for what a statement takes and gives. */
  description(describe: Buffer): Buffer {
    this.#describe(describe);
    this.#send(SYNC, OUR_SYNC);
    return Buffer.concat(this.#out);
  }

  /** The request will be repeated from the start: what it prepared is forgotten. */
  rewind(): void {
    for (const name of this.#made) forgetStatement(this.#state, name);
  }

  #message({ type, frame }: Message): void {
    switch (type) {
      case FRONTEND.parse:
        this.#parse(frame);
        return;
      case FRONTEND.bind:
        this.#bind(frame);
        return;
      case FRONTEND.describe:
        this.#describe(frame);
        return;
      case FRONTEND.close:
        this.#close(frame);
        return;
      case FRONTEND.execute:
        this.#send(frame, EXPECT_EXECUTE);
        return;
      case FRONTEND.sync:
        this.#send(frame, EXPECT_SYNC);
        return;
      default:
        this.#out.push(frame);
    }
  }

  #parse(frame: Buffer): void {
    const message = decodeParse(frame);
    const { name } = message;
    if (name === "") {
      const statement = unnamedStatement(message);
      this.#state.statements.set("", statement);
      this.#server.unnamedStatement = statement;
      this.#made.push("");
      this.#send(frame, { kind: "parse", undo: () => this.#dropUnnamed(statement) });
      return;
    }
    if (this.#state.statements.has(name)) {
      this.#fail(
        SQLSTATE.duplicatePreparedStatement,
        `prepared statement "${name}" already exists`,
      );
      return;
    }
    const statement = this.#state.registry.take(message);
    this.#state.statements.set(name, statement);
    this.#made.push(name);
    const undo = () => forgetStatement(this.#state, name);
    if (this.#server.preparedStatements.has(statement.name)) {
      this.#relay.expect({ ...ANSWER_PARSE, undo });
      return;
    }
    this.#prepare(statement, false, undo);
  }

  #bind(frame: Buffer, expectation = EXPECT_BIND): void {
    const names = decodeBindNames(frame);
    const statement = this.#state.statements.get(names.statement);
    if (!statement) {
      this.#unknown(names.statement, frame, expectation);
      return;
    }
    this.#ensure(statement);
    const renamed =
      statement.name === ""
        ? frame
        : encodeRenamedBind(frame, { ...names, statement: statement.name });
    this.#send(renamed, expectation);
  }

  #describe(frame: Buffer): void {
    const { target, name } = decodeTarget(frame);
    if (target === "portal") {
      this.#send(frame, EXPECT_DESCRIBE);
      return;
    }
    const statement = this.#state.statements.get(name);
    if (!statement) {
      this.#unknown(name, frame, EXPECT_DESCRIBE);
      return;
    }
    this.#ensure(statement);
    this.#send(encodeDescribe({ target, name: statement.name }), EXPECT_DESCRIBE);
  }

  #close(frame: Buffer): void {
    const { target, name } = decodeTarget(frame);
    if (target === "portal") {
      this.#send(frame, EXPECT_CLOSE);
      return;
    }
    // On the server it stays: it may be another client's too.
    if (this.#state.statements.has(name)) {
      forgetStatement(this.#state, name);
      this.#relay.expect(ANSWER_CLOSE);
    } else this.#send(frame, EXPECT_CLOSE);
  }

  #ensure(statement: PreparedStatement): void {
    if (statement.name === "") {
      if (this.#server.unnamedStatement === statement) return;
      this.#server.unnamedStatement = statement;
      this.#send(statement.parse, {
        kind: "parse",
        isOurs: true,
        undo: () => {
          this.#server.unnamedStatement = null;
        },
      });
    } else if (!this.#server.preparedStatements.has(statement.name)) this.#prepare(statement, true);
  }

  #prepare(statement: PreparedStatement, isOurs: boolean, undo?: () => void): void {
    const { preparedStatements } = this.#server;
    preparedStatements.add(statement.name);
    this.#send(statement.parse, {
      kind: "parse",
      isOurs,
      undo: () => {
        preparedStatements.delete(statement.name);
        undo?.();
      },
    });
  }

  /** A kept server connection may know statements that we do not (SQL's PREPARE). */
  #unknown(name: string, frame: Buffer, expectation: Expectation): void {
    const isKept = this.#state.tie !== null || this.#state.mode === "session";
    if (isKept && name !== "") {
      this.#send(frame, expectation);
      return;
    }
    const shown = name === "" ? "unnamed prepared statement" : `prepared statement "${name}"`;
    this.#fail(SQLSTATE.invalidSqlStatementName, `${shown} does not exist`);
  }

  #fail(sqlState: string, message: string): void {
    const bytes = encodeError({ sqlState, message });
    this.#send(FAILING_MESSAGE, { kind: "failing", bytes });
  }

  #dropUnnamed(statement: PreparedStatement): void {
    if (this.#state.statements.get("") === statement) this.#state.statements.delete("");
    this.#server.unnamedStatement = null;
  }

  #send(bytes: Buffer, expectation: Expectation): void {
    this.#out.push(bytes);
    this.#relay.expect(expectation);
  }
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
