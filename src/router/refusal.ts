import { SQLSTATE, type SqlState } from "../core/sqlstate.js";
import type { Route } from "./route.js";

interface RefusalText {
  readonly sqlState: SqlState;
  readonly reason: (subject: string) => string;
  readonly hint: string;
}

const unsupported = (reason: (subject: string) => string, hint: string): RefusalText => ({
  sqlState: SQLSTATE.featureNotSupported,
  reason,
  hint,
});

const NAME_KEY = "Name the sharding key with = or IN, so that one shard has all the rows.";

/** Everything that routing refuses, with what to do instead. */
export const REFUSALS = {
  ambiguousTable: unsupported(
    (table) => `table name "${table}" is in several schemas that are sharded differently`,
    "Write the schema before the name.",
  ),
  unfitKey: unsupported(
    (key) => `sharding key ${key}`,
    "Values that PostgreSQL takes for equal would be on different shards. Correct data_type of the rule in [[sharded_tables]], or the column's type or collation.",
  ),
  unknownTable: {
    sqlState: SQLSTATE.undefinedTable,
    reason: (table) => `relation "${table}" does not exist`,
    hint: "The shards were asked just now. Make the table on each of them, or through this proxy.",
  },
  unlikeShards: unsupported(
    (name) => `"${name}" is one thing on one shard and another on another`,
    "Make it the same on every shard; what differs is in the log.",
  ),
  foreignTable: unsupported(
    (table) => `"${table}" is, or has a part that is, a foreign table that no rule names`,
    "Name the foreign table in [[sharded_tables]] if each shard has rows of its own there, or in [[omnisharded_tables]] if all have the same.",
  ),
  viewOverShards: unsupported(
    (view) =>
      `view "${view}" needs rows of several shards at once: a LIMIT, DISTINCT, aggregate or join in it`,
    "Name the sharding key in the view's query, or write the query in its place by the key.",
  ),
  viewWrite: unsupported(
    (view) => `view "${view}" cannot be written to: it is more than one table's rows, or has rules`,
    "Write to the table itself.",
  ),
  columnAliases: unsupported(
    (alias) => `column aliases of "${alias}" hide its sharding key`,
    "Leave the list of column aliases out.",
  ),
  malformed: {
    sqlState: SQLSTATE.syntaxError,
    reason: (message) => message,
    hint: "The statement is parsed to find its shard; PostgreSQL's own grammar refused it.",
  },
  tooComplex: {
    sqlState: SQLSTATE.statementTooComplex,
    reason: (what) => `the statement is too complex to be routed: ${what}`,
    hint: "Write it with fewer or shorter chains: IN or = ANY in the place of many OR, VALUES in the place of many UNION.",
  },
  multipleStatements: unsupported(
    () => "several statements in one text need different shards",
    "Send them one by one, within BEGIN and COMMIT if they belong together.",
  ),
  unreadableKey: {
    // PostgreSQL's own for text that is no number.
    sqlState: SQLSTATE.invalidTextRepresentation,
    reason: (key) => `cannot read the value of sharding key ${key}`,
    hint: "Give a plain literal or a parameter of the key's own type.",
  },
  computedKey: unsupported(
    (key) => `sharding key ${key} must be a literal or a parameter`,
    "Compute the value in the application, then send it.",
  ),
  nullKey: {
    sqlState: SQLSTATE.notNullViolation,
    reason: (key) => `sharding key ${key} must not be null`,
    hint: "A row without its sharding key belongs to no shard; make the column NOT NULL.",
  },
  missingKey: unsupported(
    (key) => `INSERT does not give the sharding key ${key}, which has no default`,
    "Name the key's column and give its value in every row.",
  ),
  drawnSelect: unsupported(
    (key) => `INSERT ... SELECT leaves the sharding key ${key} to its default`,
    "Read the rows first and insert them with VALUES, or select a value of the key.",
  ),
  drawnShape: unsupported(
    (what) => `a drawn sharding key cannot be combined with ${what}`,
    "Name the key's column and give its value in every row.",
  ),
  explicitAlways: {
    sqlState: SQLSTATE.generatedAlways,
    reason: (column) => `cannot insert a non-DEFAULT value into column "${column}"`,
    hint: "Use OVERRIDING SYSTEM VALUE to override.",
  },
  unknownColumns: unsupported(
    (table) => `the columns of "${table}" are not known`,
    "Write the list of columns.",
  ),
  splitInsert: unsupported(
    (table) => `rows of one INSERT into "${table}" belong to different shards`,
    'Send a statement per row, or set [rewrite] split_inserts = "rewrite" in pgdog.toml.',
  ),
  splitInsertWith: unsupported(
    () => "an INSERT with WITH cannot be taken apart by shard",
    "Send a statement per shard, or leave WITH out.",
  ),
  insertSelect: unsupported(
    (key) =>
      `INSERT ... SELECT does not take the sharding key ${key} from a constant or an equal key`,
    "Select the key's own column, or a literal in its place.",
  ),
  insertColumns: unsupported(
    (table) => `INSERT ... SELECT into "${table}" does not say which columns its values are for`,
    "Write the list of columns behind the table's name.",
  ),
  keyUpdate: unsupported(
    (key) => `UPDATE of the sharding key ${key} is forbidden`,
    'Set [rewrite] shard_key = "rewrite" in pgdog.toml to have rows moved.',
  ),
  keyUpdateShape: unsupported(
    (what) => `UPDATE of the sharding key cannot be combined with ${what}`,
    "Move the row with a plain UPDATE ... SET ... WHERE first.",
  ),
  keyUpdateOnConflict: unsupported(
    (key) => `ON CONFLICT must not assign the sharding key ${key}`,
    "Leave the key out of DO UPDATE SET: it is the same already, or belongs elsewhere.",
  ),
  crossShardJoin: unsupported(
    () => "the statement joins tables whose rows may be on different shards",
    "Join on the sharding keys of all sharded tables, or give each the same key value.",
  ),
  outerJoin: unsupported(
    () => "an outer join keeps rows of a table that every shard has",
    `${NAME_KEY} Or exchange the sides of the join.`,
  ),
  crossShardSubquery: unsupported(
    () => "a subquery or CTE reads a sharded table on more than one shard",
    "Name the same key value inside of it, or compare its key with that of the table outside.",
  ),
  crossShardSetOperation: unsupported(
    () => "UNION, INTERSECT and EXCEPT over several shards are not supported",
    NAME_KEY,
  ),
  crossShardDistinct: unsupported(
    () => "DISTINCT over several shards is not supported without the sharding key in the output",
    NAME_KEY,
  ),
  crossShardWindow: unsupported(
    () => "window functions over several shards are not supported",
    NAME_KEY,
  ),
  crossShardHaving: unsupported(
    () => "HAVING over several shards compares count(...) with whole numbers, joined by AND",
    `Write it so, or group by the sharding key. ${NAME_KEY}`,
  ),
  crossShardLock: unsupported(() => "FOR UPDATE and FOR SHARE need the sharding key", NAME_KEY),
  crossShardAggregate: unsupported(
    (call) => `${call} over several shards is not supported`,
    "count, sum, avg, min and max are, each as an output column of its own; else name the sharding key.",
  ),
  crossShardGroup: unsupported(
    () => "GROUP BY over several shards takes plain expressions and an output without *",
    "Group by columns or expressions, without ROLLUP, CUBE or GROUPING SETS; else name the sharding key.",
  ),
  crossShardOrder: unsupported(
    () => "ORDER BY over several shards needs columns of the output",
    "Add the expression to the output and order by its name or position.",
  ),
  crossShardLimit: unsupported(
    (clause) => `${clause} over several shards needs a literal or a parameter`,
    "Write LIMIT and OFFSET with plain numbers or parameters.",
  ),
  crossShardFunction: unsupported(
    (name) => `function ${name} may give something else on each shard`,
    NAME_KEY,
  ),
  crossShardInto: unsupported(
    () => "a table made from a sharded table's rows would differ on every shard",
    "Create the table first, then fill it with INSERT ... SELECT by the sharding key.",
  ),
  omnishardedFunction: unsupported(
    (what) => `${what} would give every shard another value in an omnisharded table`,
    "Write the table itself, with its schema, and give it a primary key; else send the value as a parameter.",
  ),
  omnishardedDefault: unsupported(
    (column) => `the default of omnisharded column ${column} would differ on every shard`,
    "Write the table itself, with its schema, and give it a primary key; else give the column a value.",
  ),
  omnishardedCall: unsupported(
    (call) =>
      `${call} in a write to an omnisharded table may itself write, or read a part of a sharded table`,
    "Call it by itself first and send the value, or mark it IMMUTABLE if it is.",
  ),
  omnishardedFromSharded: unsupported(
    (table) => `a write to omnisharded table "${table}" must not read a sharded table`,
    "Subqueries that name nothing outside of them are computed first; else read the rows, then write them.",
  ),
  omnishardedAddress: unsupported(
    (table) => `ctid, xmin and the like of omnisharded table "${table}" are others on every shard`,
    "Name the rows by their key, or compare with a subquery of the same statement.",
  ),
  omnishardedKey: unsupported(
    (table) => `ON CONFLICT must not assign the primary key of omnisharded table "${table}"`,
    "Leave the key out of DO UPDATE SET, or let the conflict be about the key.",
  ),
  omnishardedCopy: unsupported(
    (what) => `COPY into an omnisharded table whose rows are not all in the data, with ${what}`,
    "Send text or CSV with plain options, or INSERT: several rows in one are as fast for tables of this kind.",
  ),
  omnishardedUnguarded: unsupported(
    (trigger) => `what trigger ${trigger} makes would differ on every shard`,
    "Omnisharded tables with triggers need guards: run sluice guard add for this database, then RELOAD.",
  ),
  omnishardedTrigger: unsupported(
    (trigger) => `what an omnisharded row is after trigger ${trigger}, may differ on every shard`,
    "Delete and insert rows instead of changing their keys; a table without a primary key needs one.",
  ),
  unknownFunction: unsupported(
    (name) => `function ${name} may write, and no shard is known for it`,
    "Call it in a statement that names a sharded table and its key, or mark it IMMUTABLE if it is.",
  ),
  procedural: unsupported(
    (what) => `${what} has no shard that can be known`,
    "Connect to the shard's own database for it, or send its statements themselves.",
  ),
  sqlPrepare: unsupported(
    (what) => `${what} is not routed by shard`,
    "Prepare with the protocol's own messages, as drivers do.",
  ),
  cursor: unsupported(() => "a cursor over several shards is not supported", NAME_KEY),
  explain: unsupported(
    () => "EXPLAIN of a statement that is taken apart is not supported",
    "Explain it with one row or one key.",
  ),
  copyFormat: unsupported(
    (what) => `COPY ${what} over several shards is not supported`,
    "Use a format without HEADER, or copy from each shard.",
  ),
  copyKey: unsupported(
    (key) => `COPY does not name the sharding key ${key} among its columns, and it has no default`,
    "Add the key's column to the list.",
  ),
  copyServer: unsupported(
    () => "COPY with a file or a program of the server has no shard",
    "Use COPY ... FROM STDIN or TO STDOUT.",
  ),
  unsupported: unsupported(
    (what) => `${what} is not supported on a sharded database`,
    "Connect to the shard's own database for it.",
  ),
} as const satisfies Record<string, RefusalText>;

export type RefusalKind = keyof typeof REFUSALS;

export function refused(kind: RefusalKind, subject = ""): Route {
  const { sqlState, reason, hint } = REFUSALS[kind];
  return { kind: "refused", sqlState, reason: reason(subject), hint };
}

/** Ends an analysis: the statement is refused whatever its values. Never leaves the router. */
export class Refusal extends Error {
  readonly route: Route;
  constructor(kind: RefusalKind, subject = "") {
    super(kind);
    this.route = refused(kind, subject);
  }
}
