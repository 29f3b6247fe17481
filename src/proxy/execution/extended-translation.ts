import type { ServerConnection } from "../../backend/server-connection.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { CLOSE_COMPLETE, PARSE_COMPLETE } from "../../wire/backend.js";
import { encodeError } from "../../wire/error-fields.js";
import { encodeDescribe, encodeExecute, encodeRenamedBind, SYNC } from "../../wire/frontend.js";
import type { BindPart, ParsePart, PipelinePart } from "./decoded-request.js";
import type { PreparedStatement } from "./prepared-statements.js";
import type { Expectation, Relay } from "./relay.js";
import { forgetStatement, type SessionState } from "./session-state.js";

type DescribePart = Extract<PipelinePart, { kind: "describe" | "close" }>;

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

  translate(parts: readonly PipelinePart[]): Buffer {
    for (const part of parts) this.#part(part);
    const [only] = this.#out;
    return this.#out.length === 1 && only ? only : Buffer.concat(this.#out);
  }

  /** Our own request for one portal, of which the client has got BindComplete already. */
  portal(portal: {
    /** null: bound here before. */
    readonly bind: BindPart | null;
    /** A Describe of the portal. */
    readonly describe: Buffer | null;
    readonly execute: Buffer;
  }): Buffer {
    if (portal.bind) this.#bind(portal.bind, OUR_BIND);
    if (portal.describe) this.#send(portal.describe, EXPECT_DESCRIBE);
    this.#send(portal.execute, EXPECT_EXECUTE);
    this.#send(SYNC, OUR_SYNC);
    return Buffer.concat(this.#out);
  }

  /** Our own request for what a statement takes and gives. */
  description(part: DescribePart): Buffer {
    this.#describe(part);
    this.#send(SYNC, OUR_SYNC);
    return Buffer.concat(this.#out);
  }

  /** The request will be repeated from the start: what it prepared is forgotten. */
  rewind(): void {
    for (const name of this.#made) forgetStatement(this.#state, name);
  }

  #part(part: PipelinePart): void {
    switch (part.kind) {
      case "parse":
        this.#parse(part);
        return;
      case "bind":
        this.#bind(part);
        return;
      case "describe":
        this.#describe(part);
        return;
      case "close":
        this.#close(part);
        return;
      case "execute":
        this.#send(part.frame, EXPECT_EXECUTE);
        return;
      case "sync":
        this.#send(part.frame, EXPECT_SYNC);
        return;
      case "flush":
        this.#out.push(part.frame);
        return;
      default:
        assertNever(part, "part of a pipeline");
    }
  }

  #parse({ name, statement, frame }: ParsePart): void {
    if (name === "") {
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
    this.#state.registry.take(statement);
    this.#state.statements.set(name, statement);
    this.#made.push(name);
    const undo = () => forgetStatement(this.#state, name);
    if (this.#server.preparedStatements.has(statement.name)) {
      this.#relay.expect({ ...ANSWER_PARSE, undo });
      return;
    }
    this.#prepare(statement, false, undo);
  }

  #bind(part: BindPart, expectation = EXPECT_BIND): void {
    const { frame, portal, statementName, valuesAt } = part;
    const statement = this.#state.statements.get(statementName);
    if (!statement) {
      this.#unknown(statementName, frame, expectation);
      return;
    }
    this.#ensure(statement);
    const renamed =
      statement.name === ""
        ? frame
        : encodeRenamedBind(frame, { portal, statement: statement.name, valuesAt });
    this.#send(renamed, expectation);
  }

  #describe({ frame, target, name }: DescribePart): void {
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

  #close({ frame, target, name }: DescribePart): void {
    // On the server a statement stays: it may be another client's too.
    if (target === "statement" && this.#state.statements.has(name)) {
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
