import { RowEvidence } from "./row-evidence.js";
import { parseSqlState, SQLSTATE, type SqlState } from "./sqlstate.js";
import { conditionName, isTelling } from "./sqlstate-conditions.js";

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

/** A context means that a function, a row of COPY or a query in a function is where it happened. */
function isMessageTellable({ code = "", where }: ServerErrorFields): boolean {
  if (where) return false;
  return isTelling(code);
}

function messageOf(fields: ServerErrorFields): string {
  const { code = "" } = fields;
  const condition = conditionName(code);
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
