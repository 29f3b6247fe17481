import type { ServerConnection } from "../../backend/server-connection.js";
import type { StatementPresence } from "../../backend/server-statements.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { CLOSE_COMPLETE, PARSE_COMPLETE } from "../../wire/backend.js";
import { encodeError } from "../../wire/error-fields.js";
import {
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeRenamedBind,
  SYNC,
} from "../../wire/frontend.js";
import type { BindPart, ParsePart, PipelinePart } from "./decoded-request.js";
import type { PreparedStatement } from "./prepared-statements.js";
import type { Expectation, Relay } from "./relay.js";
import { forgetStatement, type SessionState } from "./session-state.js";
import { type NamingText, namingText } from "./statement-names.js";

type DescribePart = Extract<PipelinePart, { kind: "describe" | "close" }>;

const EXPECT_BIND: Expectation = { kind: "bind" };
const OUR_BIND: Expectation = { kind: "bind", isOurs: true };
const OUR_SYNC: Expectation = { kind: "sync", isOurs: true };
const OUR_CLOSE: Expectation = { kind: "close", isOurs: true };
const BELIEVED_BIND: Expectation = { kind: "bind", isBelieved: true };
const BELIEVED_DESCRIBE: Expectation = { kind: "describe", isBelieved: true };
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
  /** What this request has asked the server to have, or to have no more. */
  readonly #asked = new Map<string, "parse" | "close">();
  /** What it executes may throw statements away without our being told before the next message is written. */
  #isDoubtful = false;
  /** Portals whose statement may do that. */
  readonly #throwing = new Set<string>();

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
        if (this.#throwing.has(part.portal)) this.#isDoubtful = true;
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
      const naming = namingText(statement.sql, statement.effects, this.#state);
      this.#state.statements.set("", statement);
      this.#server.unnamedStatement = statement;
      this.#made.push("");
      const parse = naming ? this.#naming(naming, statement) : frame;
      this.#send(parse, { kind: "parse", undo: () => this.#dropUnnamed(statement) });
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
    if (this.#presence(statement) === "there") {
      this.#relay.expect({ ...ANSWER_PARSE, undo });
      return;
    }
    this.#prepare(statement, false, undo);
  }

  /** The Parse of a text that names statements by SQL, which are there before it. */
  #naming({ sql, statements }: NamingText, { identity }: PreparedStatement): Buffer {
    for (const statement of statements) this.#ensure(statement);
    const types = identity.subarray(identity.indexOf(0));
    return encodeParse("", Buffer.concat([Buffer.from(sql), types]));
  }

  #bind(part: BindPart, expectation = EXPECT_BIND): void {
    const { frame, portal, statementName, valuesAt } = part;
    const statement = this.#state.statements.get(statementName);
    if (!statement) {
      this.#unknown(statementName, frame, expectation);
      return;
    }
    const made = this.#ensure(statement, statementName);
    const renamed =
      made.name === ""
        ? frame
        : encodeRenamedBind(frame, { portal, statement: made.name, valuesAt });
    if (mayThrowAway(statement)) this.#throwing.add(portal);
    else this.#throwing.delete(portal);
    const isPlain = expectation === EXPECT_BIND && !this.#asked.has(made.name);
    this.#send(renamed, isPlain && made.name !== "" ? BELIEVED_BIND : expectation);
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
    const made = this.#ensure(statement, name);
    const isBelieved = made.name !== "" && !this.#asked.has(made.name);
    const expectation = isBelieved ? BELIEVED_DESCRIBE : EXPECT_DESCRIBE;
    this.#send(encodeDescribe({ target, name: made.name }), expectation);
  }

  #close({ frame, target, name }: DescribePart): void {
    // On the server a statement stays: it may be another client's too.
    if (target === "statement" && this.#state.statements.has(name)) {
      forgetStatement(this.#state, name);
      this.#relay.expect(ANSWER_CLOSE);
    } else this.#send(frame, EXPECT_CLOSE);
  }

  /**
   * The server has the statement when what follows is read. Where it has to be made and the session has other settings by
   * now, it is made under these: another statement, which takes its place.
   * @param clientName whose place that is
   */
  #ensure(statement: PreparedStatement, clientName?: string): PreparedStatement {
    if (statement.name === "") {
      if (this.#server.unnamedStatement === statement) return statement;
      this.#server.unnamedStatement = statement;
      const naming = namingText(statement.sql, statement.effects, this.#state);
      const parse = naming ? this.#naming(naming, statement) : statement.parse;
      this.#send(parse, {
        kind: "parse",
        isOurs: true,
        undo: () => {
          this.#server.unnamedStatement = null;
        },
      });
      return statement;
    }
    if (this.#presence(statement) === "there") return statement;
    const { registry, settings, statements } = this.#state;
    const made = registry.under(statement, settings.fingerprint);
    if (made !== statement && clientName !== undefined) {
      registry.take(made);
      registry.drop(statement);
      statements.set(clientName, made);
    }
    if (this.#presence(made) !== "there") this.#prepare(made, true);
    return made;
  }

  #presence({ name }: PreparedStatement): StatementPresence {
    const asked = this.#asked.get(name);
    if (asked !== undefined) return asked === "parse" ? "there" : "absent";
    const presence = this.#server.preparedStatements.presence(name);
    return this.#isDoubtful && presence === "there" ? "doubtful" : presence;
  }

  #prepare(statement: PreparedStatement, isOurs: boolean, undo?: () => void): void {
    const { name, parse } = statement;
    const { preparedStatements } = this.#server;
    const unused = preparedStatements.excess(parse.length, (each) => this.#asked.has(each));
    // Closing what is not there is no error, so that what is doubtful can always be made.
    const closed = this.#presence(statement) === "doubtful" ? [...unused, name] : unused;
    for (const each of closed) {
      this.#asked.set(each, "close");
      this.#send(encodeClose({ target: "statement", name: each }), OUR_CLOSE);
    }
    this.#asked.set(name, "parse");
    this.#send(parse, { kind: "parse", isOurs, ...(undo ? { undo } : {}) });
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

/** Executing it may throw prepared statements away, by its own words or by dynamic SQL. */
function mayThrowAway({ effects }: PreparedStatement): boolean {
  return effects.discards !== "none" || THROWING.has(effects.kind);
}

const THROWING: ReadonlySet<PreparedStatement["effects"]["kind"]> = new Set([
  "deallocate",
  "do",
  "call",
]);
