import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { PLACEMENT_GUARD } from "../../core/placement-guard.js";
import { type DumpStatement, parseDump } from "./dump-text.js";

/**
 * pre: before the copy. post: after the copy and before the lanes apply. cutover: after catch-up, when the
 * destination's rows are consistent over tables, which copied ranges alone are not.
 */
export type SchemaPhase = "pre" | "post" | "cutover";

interface QualifiedName {
  readonly schema: string;
  readonly name: string;
}

/** What a statement makes, to be compared when it exists already. */
export type SchemaObject =
  | { readonly kind: "relation"; readonly name: QualifiedName }
  | { readonly kind: "type"; readonly name: QualifiedName }
  | { readonly kind: "index"; readonly name: QualifiedName }
  | { readonly kind: "constraint"; readonly table: QualifiedName; readonly name: string }
  | { readonly kind: "trigger"; readonly table: QualifiedName; readonly name: string }
  | { readonly kind: "identity"; readonly table: QualifiedName; readonly column: string }
  | { readonly kind: "attachment"; readonly child: QualifiedName }
  /** PostgreSQL's own "already exists" says enough: a cast, an operator, a policy of this name. */
  | { readonly kind: "other" };

export interface SchemaStatement {
  /** In more than one: tried in the first, tolerated when its data does not fit yet, and due in the last. */
  readonly phases: readonly SchemaPhase[];
  /** As SHOW SCHEMA_SYNC tells. */
  readonly kind: "table" | "index" | "statement";
  readonly table: QualifiedName | null;
  readonly sql: string;
  readonly accessMethod: string | null;
  readonly object: SchemaObject;
  /** Ownership, grants and the like: a role that does not exist here is a warning. */
  readonly isAccess: boolean;
}

const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[^\s".(),;]+)`;
const QUALIFIED = String.raw`(${IDENTIFIER})\.(${IDENTIFIER})`;
const pattern = (source: string) =>
  new RegExp(`^${source.replaceAll("<q>", QUALIFIED).replaceAll("<i>", `(${IDENTIFIER})`)}`);

const CREATE_RELATION = pattern(
  "CREATE (?:UNLOGGED )?(?:FOREIGN )?(TABLE|SEQUENCE|VIEW|MATERIALIZED VIEW) <q>",
);
const CREATE_TYPE = pattern("CREATE (?:TYPE|DOMAIN) <q>");
const CREATE_INDEX = pattern("CREATE (UNIQUE )?INDEX <i> ON (?:ONLY )?<q>");
const ADD_CONSTRAINT = pattern(
  String.raw`ALTER (?:FOREIGN )?TABLE (ONLY )?<q>\s+ADD CONSTRAINT <i> ([A-Z]+)`,
);
const ADD_IDENTITY = pattern("ALTER TABLE (?:ONLY )?<q> ALTER COLUMN <i> ADD GENERATED ");
const ATTACH_TABLE = pattern("ALTER TABLE (?:ONLY )?<q> ATTACH PARTITION <q>");
const ATTACH_INDEX = pattern("ALTER INDEX <q> ATTACH PARTITION <q>");
const ALTER_TABLE = pattern("ALTER (?:FOREIGN )?TABLE (?:ONLY )?<q>");
const USE_IDENTITY_INDEX = pattern("ALTER TABLE (?:ONLY )?<q> REPLICA IDENTITY USING INDEX <i>$");
const CREATE_TRIGGER = new RegExp(
  String.raw`^CREATE (?:CONSTRAINT )?TRIGGER (${IDENTIFIER}) [\s\S]*? ON ${QUALIFIED}`,
);
const GATE =
  /^(?:CREATE (?:CONSTRAINT )?TRIGGER|ALTER TABLE [\s\S]* TRIGGER|COMMENT ON TRIGGER) "?(?:sluice_gate_|[!~]sluice_)/;
const GUARD_LINE = new RegExp(
  String.raw`(?:,|(?<=\())\n {4}CONSTRAINT ${PLACEMENT_GUARD} CHECK \(\(.*\)\)(?: NO INHERIT)?(?=,?\n)`,
);
const OWNER = new RegExp(String.raw`^ALTER [\s\S]* OWNER TO ${IDENTIFIER}$`);
const ACCESS_TYPES = new Set(["ACL", "DEFAULT ACL", "SECURITY LABEL"]);
const LATE_COMMENT =
  /^COMMENT ON (?:INDEX|CONSTRAINT|TRIGGER|RULE|POLICY|STATISTICS|EVENT TRIGGER) /;
const NEVER = new Set(["PUBLICATION", "PUBLICATION TABLE", "SUBSCRIPTION", "DATABASE"]);
const POST_TYPES = new Set([
  "INDEX",
  "INDEX ATTACH",
  "CONSTRAINT",
  "CHECK CONSTRAINT",
  "FK CONSTRAINT",
  "TRIGGER",
  "EVENT TRIGGER",
  "RULE",
  "POLICY",
  "ROW SECURITY",
  "STATISTICS",
  "DEFAULT ACL",
]);

/**
 * The statements of a dump with the phases they belong to, in an order that works within each phase.
 * Views stay in `pre`, where pg_dump has them: functions and policies may depend on their row types.
 * Nothing is rewritten but for idempotence (`OR REPLACE`, `IF NOT EXISTS`) and `NOT VALID` of foreign keys.
 */
export function planStatements(dump: string): readonly SchemaStatement[] {
  const statements = parseDump(dump)
    .filter(({ sql, entryType }) => !isOurs(sql) && !NEVER.has(entryType))
    .map((statement) => ({ ...statement, sql: withoutGuard(statement.sql) }));
  const early = earlyIndexes(statements);
  const planned = statements.flatMap((statement) => planStatement(statement, early));
  return [
    ...planned.filter(({ sql }) => !isValidate(sql)),
    ...planned.filter(({ sql }) => isValidate(sql)),
  ];
}

function isValidate(sql: string): boolean {
  return sql.includes(" VALIDATE CONSTRAINT ") && sql.startsWith("ALTER TABLE ");
}

function isOurs(sql: string): boolean {
  const constraint = ADD_CONSTRAINT.exec(sql);
  return GATE.test(sql) || (constraint !== null && unquote(constraint[4]) === PLACEMENT_GUARD);
}

/** The placement guard is of one number of shards: the other side gets its own. pg_dump has it on a line of its own. */
function withoutGuard(sql: string): string {
  if (!CREATE_RELATION.test(sql)) return sql;
  return sql.replace(GUARD_LINE, "").replace(/^(CREATE TABLE [^(\n]+ OF [^(\n]+) \(\n\)/, "$1");
}

/** Primary keys and the indexes of replica identities: the lanes find rows by them. */
function earlyIndexes(statements: readonly DumpStatement[]): ReadonlySet<string> {
  const early = new Set<string>();
  for (const { sql } of statements) {
    const constraint = ADD_CONSTRAINT.exec(sql);
    if (constraint?.[5] === "PRIMARY")
      early.add(keyOf({ schema: unquote(constraint[2]), name: unquote(constraint[4]) }));
    const identity = USE_IDENTITY_INDEX.exec(sql);
    if (identity) early.add(keyOf({ schema: unquote(identity[1]), name: unquote(identity[3]) }));
  }
  return early;
}

function keyOf({ schema, name }: QualifiedName): string {
  return JSON.stringify([schema, name]);
}

function planStatement(
  { entryType, sql, accessMethod }: DumpStatement,
  early: ReadonlySet<string>,
): readonly SchemaStatement[] {
  const object = objectOf(sql);
  const plan = (text: string, phases: readonly SchemaPhase[]): SchemaStatement => ({
    phases,
    kind:
      object.kind === "index"
        ? "index"
        : /^CREATE (?:UNLOGGED )?TABLE /.test(sql)
          ? "table"
          : "statement",
    table: tableOf(sql),
    sql: text,
    accessMethod,
    object,
    isAccess:
      ACCESS_TYPES.has(entryType) || OWNER.test(sql) || sql.startsWith("COMMENT ON EXTENSION "),
  });
  if (object.kind === "constraint" && entryType === "FK CONSTRAINT")
    return planForeignKey(sql, object, plan);
  return [plan(repeatable(sql), phasesOf(entryType, sql, early))];
}

/**
 * Ranges are copied at different snapshots, so a row may be there before the one it refers to; a check of the
 * existing rows has to wait for the stream. NOT VALID is no option for a partitioned table (before 18).
 */
function planForeignKey(
  sql: string,
  { table, name }: { readonly table: QualifiedName; readonly name: string },
  plan: (text: string, phases: readonly SchemaPhase[]) => SchemaStatement,
): readonly SchemaStatement[] {
  const isPartitioned = ADD_CONSTRAINT.exec(sql)?.[1] === undefined;
  if (isPartitioned) return [plan(sql, ["cutover"])];
  if (/ NOT VALID$/.test(sql)) return [plan(sql, ["post", "cutover"])];
  const validate = `ALTER TABLE ${quoteQualified(table.schema, table.name)} VALIDATE CONSTRAINT ${quoteIdentifier(name)}`;
  return [
    plan(`${sql} NOT VALID`, ["post", "cutover"]),
    { ...plan(validate, ["cutover"]), object: { kind: "other" } },
  ];
}

function phasesOf(
  entryType: string,
  sql: string,
  early: ReadonlySet<string>,
): readonly SchemaPhase[] {
  if (sql.startsWith("COMMENT ON ")) return LATE_COMMENT.test(sql) ? ["post", "cutover"] : ["pre"];
  if (!POST_TYPES.has(entryType)) return ["pre"];
  if (isEarly(sql, early)) return ["pre"];
  const isConstraining =
    CREATE_INDEX.exec(sql)?.[1] !== undefined ||
    (ADD_CONSTRAINT.test(sql) && entryType === "CONSTRAINT") ||
    ATTACH_INDEX.test(sql);
  // A range copied before a value moved from one row to another, and one after, hold it twice for a while.
  return isConstraining ? ["post", "cutover"] : ["post"];
}

function isEarly(sql: string, early: ReadonlySet<string>): boolean {
  const constraint = ADD_CONSTRAINT.exec(sql);
  if (constraint)
    return early.has(keyOf({ schema: unquote(constraint[2]), name: unquote(constraint[4]) }));
  const index = CREATE_INDEX.exec(sql);
  if (index) return early.has(keyOf({ schema: unquote(index[3]), name: unquote(index[2]) }));
  const attach = ATTACH_INDEX.exec(sql);
  if (attach) return early.has(keyOf({ schema: unquote(attach[3]), name: unquote(attach[4]) }));
  return USE_IDENTITY_INDEX.test(sql);
}

function objectOf(sql: string): SchemaObject {
  const relation = CREATE_RELATION.exec(sql);
  if (relation) return { kind: "relation", name: qualified(relation[2], relation[3]) };
  const type = CREATE_TYPE.exec(sql);
  if (type) return { kind: "type", name: qualified(type[1], type[2]) };
  const index = CREATE_INDEX.exec(sql);
  if (index) return { kind: "index", name: qualified(index[3], index[2]) };
  const constraint = ADD_CONSTRAINT.exec(sql);
  if (constraint)
    return {
      kind: "constraint",
      table: qualified(constraint[2], constraint[3]),
      name: unquote(constraint[4]),
    };
  const identity = ADD_IDENTITY.exec(sql);
  if (identity)
    return {
      kind: "identity",
      table: qualified(identity[1], identity[2]),
      column: unquote(identity[3]),
    };
  const attachment = ATTACH_TABLE.exec(sql);
  if (attachment) return { kind: "attachment", child: qualified(attachment[3], attachment[4]) };
  const trigger = CREATE_TRIGGER.exec(sql);
  if (trigger)
    return {
      kind: "trigger",
      table: qualified(trigger[2], trigger[3]),
      name: unquote(trigger[1]),
    };
  return { kind: "other" };
}

function tableOf(sql: string): QualifiedName | null {
  const relation = CREATE_RELATION.exec(sql);
  if (relation) return qualified(relation[2], relation[3]);
  const index = CREATE_INDEX.exec(sql);
  if (index) return qualified(index[3], index[4]);
  const trigger = CREATE_TRIGGER.exec(sql);
  if (trigger) return qualified(trigger[2], trigger[3]);
  const alter = ALTER_TABLE.exec(sql);
  return alter ? qualified(alter[1], alter[2]) : null;
}

function repeatable(sql: string): string {
  return sql
    .replace(/^CREATE (FUNCTION|PROCEDURE) /, "CREATE OR REPLACE $1 ")
    .replace(/^CREATE SCHEMA (?!IF NOT EXISTS)/, "CREATE SCHEMA IF NOT EXISTS ");
}

function qualified(schema: string | undefined, name: string | undefined): QualifiedName {
  return { schema: unquote(schema), name: unquote(name) };
}

function unquote(identifier: string | undefined): string {
  if (identifier === undefined) return "";
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier;
}
