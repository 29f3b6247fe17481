import { RowEvidence } from "./row-evidence.js";
import { parseSqlState, SQLSTATE, type SqlState } from "./sqlstate.js";

/** What PostgreSQL sends with an error. @see https://www.postgresql.org/docs/current/protocol-error-fields.html */
export interface ServerErrorFields {
  readonly message: string;
  readonly code?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  readonly where?: string | undefined;
  readonly internalQuery?: string | undefined;
  readonly schema?: string | undefined;
  readonly table?: string | undefined;
  readonly column?: string | undefined;
  readonly dataType?: string | undefined;
  readonly constraint?: string | undefined;
  /** Of the server's source. */
  readonly file?: string | undefined;
}

/**
 * An error that PostgreSQL sent for a statement of ours. `connectSql` makes one of every such error, so nothing
 * that the engine catches has the server's own words about values in its message, its stack or its cause:
 * those are in `evidence`.
 */
export class SqlError extends Error {
  override readonly name = "SqlError";
  readonly code: SqlState;
  readonly schema: string | undefined;
  readonly table: string | undefined;
  readonly column: string | undefined;
  readonly constraint: string | undefined;
  /** All that the server said, where that may hold values; else undefined. */
  readonly evidence: RowEvidence | undefined;

  constructor(fields: ServerErrorFields) {
    const isTellable = isMessageTellable(fields);
    super(isTellable ? fields.message : messageOf(fields));
    this.code = parseSqlState(fields.code) ?? SQLSTATE.internalError;
    const names = namesOf(fields);
    this.schema = names.schema;
    this.table = names.table;
    this.column = names.column;
    this.constraint = names.constraint;
    const said = [fields.detail, fields.hint, fields.where, fields.internalQuery];
    this.evidence =
      isTellable && said.every((text) => !text) ? undefined : new RowEvidence(everythingOf(fields));
  }
}

/**
 * Conditions whose messages name objects, settings and states, never values. By default a message is withheld:
 * class 22 quotes the value, a user's RAISE says what it likes under any code, and a syntax error quotes the
 * statement, where our literals are bounds of ranges.
 */
const TELLING_CLASSES = ["08", "0A", "25", "28", "3D", "3F", "40", "53", "54", "55", "57", "58"];
const TELLING_STATES = new Set([
  ...["22001", "22012"],
  ...["23001", "23502", "23503", "23505", "23514", "23P01"],
  ...["26000", "2BP01", "34000"],
  ...["42501", "42611", "42701", "42703", "42704", "42710", "42723", "42804", "42809", "42830"],
  ...["42846", "42883", "42939", "42P01", "42P04", "42P06", "42P07", "42P16", "42P17", "42P21"],
  ...["42P22", "XX001", "XX002"],
]);

/** A context means that a function, a row of COPY or a query in a function is where it happened. */
function isMessageTellable({ code = "", where }: ServerErrorFields): boolean {
  if (where) return false;
  return TELLING_STATES.has(code) || TELLING_CLASSES.includes(code.slice(0, 2));
}

/** PostgreSQL's condition names, for what is withheld most. */
const CONDITIONS: Readonly<Record<string, string>> = {
  "21000": "cardinality violation",
  "22001": "string data right truncation",
  "22003": "numeric value out of range",
  "22004": "null value not allowed",
  "22007": "invalid datetime format",
  "22008": "datetime field overflow",
  "22012": "division by zero",
  "22021": "character not in repertoire",
  "22023": "invalid parameter value",
  "2202E": "array subscript error",
  "22P02": "invalid text representation",
  "22P03": "invalid binary representation",
  "22P04": "bad copy file format",
  "22P05": "untranslatable character",
  "23502": "not null violation",
  "23503": "foreign key violation",
  "23505": "unique violation",
  "23514": "check violation",
  "23P01": "exclusion violation",
  "42601": "syntax error",
  P0001: "raise exception",
  P0004: "assert failure",
  SL001: "gate closed",
  XX000: "internal error",
};

const CLASSES: Readonly<Record<string, string>> = {
  "22": "data exception",
  "23": "integrity constraint violation",
  "42": "syntax error or access rule violation",
  P0: "PL/pgSQL error",
  XX: "internal error",
};

function messageOf(fields: ServerErrorFields): string {
  const { code = "" } = fields;
  const condition = CONDITIONS[code] ?? CLASSES[code.slice(0, 2)] ?? "the server refused";
  const { schema, table, column, constraint, dataType } = namesOf(fields);
  const relation = [schema, table].filter((name) => name !== undefined).join(".");
  const places = [
    relation === "" ? "" : `in ${relation}`,
    column === undefined ? "" : `column "${column}"`,
    constraint === undefined ? "" : `constraint "${constraint}"`,
    dataType === undefined ? "" : `type "${dataType}"`,
    lineOf(fields.where),
  ].filter((place) => place !== "");
  return [`${condition} (SQLSTATE ${code})`, ...places].join(", ");
}

/** Which row of a COPY: "COPY orders, line 3, column n". What follows the colon is the value or the row. */
function lineOf(where = ""): string {
  return /^COPY [^:"\n]*, line \d+(?:, column [^:"\n]*)?(?=[:"\n]|$)/u.exec(where)?.[0] ?? "";
}

type Names = Pick<ServerErrorFields, "schema" | "table" | "column" | "dataType" | "constraint">;

/** RAISE ... USING CONSTRAINT = and its like put anything there; their source files are pl_exec.c, plpy_*.c ... */
function namesOf(fields: ServerErrorFields): Names {
  const isOfLanguage = fields.file === undefined || fields.file.startsWith("pl");
  return isOfLanguage ? {} : fields;
}

function everythingOf(fields: ServerErrorFields): string {
  const { message, code = "", detail, hint, where, internalQuery } = fields;
  const lines = [
    `${message} (SQLSTATE ${code})`,
    detail && `detail: ${detail}`,
    hint && `hint: ${hint}`,
    where && `where: ${where}`,
    internalQuery && `query: ${internalQuery}`,
  ];
  return lines.filter(Boolean).join("\n");
}

const LOST_MESSAGES = [
  "Connection terminated",
  "Client has encountered a connection error",
  "Client was closed",
];

/** Whether `pg` says that the connection is gone. Whether the last statement was executed is not known. */
export function isConnectionLost(error: unknown): error is Error {
  if (!(error instanceof Error) || error instanceof SqlError) return false;
  return "syscall" in error || LOST_MESSAGES.some((message) => error.message.startsWith(message));
}
