import type { SqlState } from "../core/sqlstate.js";
import type { ShardId } from "../topology/topology.js";
import type { RenumberedText, Span } from "./clauses.js";

/** What the rows of several shards become, in the order of the fields. */
export interface MergePlan {
  /** Sort keys as positions in the shard's row; empty: rows in arrival order. */
  readonly orderBy: readonly OrderKey[];
  /**
   * What becomes of each column where the shards' rows are made into one, per group; null: rows stay rows.
   * Without a "group": one row in all.
   */
  readonly aggregates: readonly Fold[] | null;
  /** Of each column of the shards' rows: what it may hold, if it is an enum. Absent: none is known to be one. */
  readonly enums?: readonly (EnumLabels | null)[];
  /** Text sorts by its bytes in every column, as min and max need it. */
  readonly isBytewise: boolean;
  /** HAVING over groups that no shard has all rows of; absent: all are kept. */
  readonly having?: readonly GroupCondition[];
  readonly limit: number | null;
  readonly offset: number;
  /**
   * What `*` was taken to stand for, where positions were counted by it: names of the client's columns, null for those
   * that it writes itself. Absent: no `*`, or nothing was counted.
   */
  readonly columns?: readonly (string | null)[] | undefined;
  /** Leading columns that are there for the merge and that the client has not asked for. */
  readonly hidden?: number;
}

/** `looseGroup`: by values that may be equal though their texts differ. */
export type Fold = "group" | "looseGroup" | "count" | "sum" | "min" | "max" | Average;

/** Made of a sum and a count, which are in these columns. */
export interface Average {
  readonly sum: number;
  readonly count: number;
}

/** Groups are kept where this column, a count, compares so. */
export interface GroupCondition {
  readonly column: number;
  readonly operator: "=" | "<>" | "<" | "<=" | ">" | ">=";
  readonly value: number;
}

/** Labels of an enum, in its order. */
export type EnumLabels = readonly string[];

export interface OrderKey {
  readonly column: number;
  readonly isDescending: boolean;
  readonly nullsFirst: boolean;
  /** Text of this column sorts by its bytes; else it cannot be merged by us. */
  readonly isBytewise: boolean;
}

/** One piece of a statement that was taken apart. Parameters are re-numbered from 1. */
export interface StatementPart {
  readonly shard: ShardId;
  readonly sql: string;
  /** Positions (from 0) of the client's parameters that this part binds, in order. */
  readonly parameters: readonly number[];
  /** Which of the statement's rows of VALUES it has, from 0, in their order. */
  readonly rows: readonly number[];
}

/** Where a statement goes. */
export type Route =
  /** One shard, known. */
  | { readonly kind: "one"; readonly shard: ShardId; readonly isWrite: boolean }
  /** Any one shard: only omnisharded tables are read, or no table at all. */
  | { readonly kind: "any" }
  /**
   * Several shards, or all. `rows` says whose rows the client sees: merged ones, or those of the first
   * shard alone (omnisharded writes). `count` says the same of the command tag's number.
   */
  | {
      readonly kind: "many";
      readonly shards: readonly ShardId[] | "all";
      readonly isWrite: boolean;
      readonly merge: MergePlan;
      readonly rows: "merged" | "first";
      readonly count: "sum" | "first";
      /**
       * An UPDATE that assigns the sharding key, and so a value that belongs to this shard: rows that it finds on
       * another would have to move, which cannot be done. Absent: rows may be anywhere.
       */
      readonly home?: { readonly shard: ShardId; readonly refusal: RefusedRoute };
      /** Sent instead of the client's text where LIMIT/OFFSET must be widened; null: as it is. */
      readonly rewrittenSql: string | null;
      /** Asked of the first shard before it, in its transaction, so that it meets the same rows on every shard. */
      readonly lockSql?: string;
      /** The client is told when it has been done. */
      readonly notice?: RouteNotice;
    }
  /** A multi-row INSERT taken apart by shard. Counts add up, RETURNING rows come as the statement has them. */
  | { readonly kind: "split"; readonly parts: readonly StatementPart[] }
  /** An UPDATE that assigns the sharding key: read the row, delete it there, insert it where it belongs. */
  | { readonly kind: "moveRow"; readonly plan: RowMove }
  /** A write to an omnisharded table: the first shard runs it, the others are given the rows that came of it. */
  | { readonly kind: "replayed"; readonly plan: ReplayPlan; readonly notice?: RouteNotice }
  /** COPY ... FROM STDIN into a sharded table: every row goes where its key says. */
  | { readonly kind: "copyIn"; readonly plan: CopyInPlan }
  /** An INSERT that leaves the sharding key to a default: drawn first, then `Router.routeDrawn`. */
  | { readonly kind: "draw"; readonly plan: DrawPlan }
  /** A write to an omnisharded table: these selects are run first, and their rows stand in their place. */
  | { readonly kind: "computed"; readonly selects: readonly Span[] }
  | {
      readonly kind: "refused";
      readonly sqlState: SqlState;
      readonly reason: string;
      readonly hint: string;
    };

export interface RouteNotice {
  readonly message: string;
  readonly hint: string;
}

/**
 * Rows stay on `to` where the client's own statement finds them there. On every other shard they are locked, and one
 * statement takes them out and gives them as they shall be; then they go in on `to`.
 */
export interface RowMove {
  readonly table: string;
  /** Where the condition's rows may be. */
  readonly shards: readonly ShardId[] | "all";
  readonly to: ShardId;
  readonly hasReturning: boolean;
  /** What comes before rows are taken out; null: nothing acts on it. */
  readonly before: BeforeMove | null;
  /** Their names, sorted by bytes: a column that was not known would be left behind. */
  readonly columns: string;
  /** `DELETE ... RETURNING` the new row's columns, and behind them the names of those that the row has, as `columns`. */
  readonly take: RenumberedText;
  /** `INSERT ... VALUES ($1, ...)`: those columns in text format, types left to the server; the client's RETURNING. */
  readonly insertSql: string;
}

export interface BeforeMove {
  /** Gives each row's place, see `take.sql` and `heldRows`, and lets nobody refer to it any more. */
  readonly lock: RenumberedText;
  /** Names of tables whose rows refer to them, and would be changed, deleted or in the way; null: there are none. */
  readonly referring: RenumberedText | null;
  /** Fires the triggers of an UPDATE on them, and gives their new places; null: there are none. */
  readonly touch: RenumberedText | null;
}

/** A route with nothing left to draw. */
export type SettledRoute = Exclude<Route, { kind: "draw" }>;

/** A default as an expression that a server can be asked for by itself. */
export interface KeyDefault {
  /** Of the column's own type. */
  readonly sql: string;
  /**
   * Where it must be asked. `nowhere`: any session gives as good a value (a sequence, a random uuid).
   * `transaction`: in the client's, as it reads the clock, settings or the user. `counter`: in the client's
   * and always on the first shard, as it may keep a count of its own there.
   */
  readonly binding: "nowhere" | "transaction" | "counter";
}

/** Values that are drawn before the statement is routed. */
export interface DrawPlan {
  /** In the order in which the text takes their values. */
  readonly draws: readonly { readonly key: KeyDefault; readonly count: number }[];
  /** The statement as it is sent; null: the next value stands here. */
  readonly text: readonly (string | null)[];
  /** Rows that RETURNING may give; 0: it has none. */
  readonly mostRows: number;
}

export type ReplayPlan = ReturnedReplay | CapturedReplay | DefinedReplay | CopiedReplay;

/** The statement itself returns the rows. */
export interface ReturnedReplay {
  readonly kind: "returned";
  readonly table: string;
  /**
   * The client's statement, which returns two columns more, both text: the row, and why its text is not the
   * row itself (empty: it is). Binds the client's parameters as they are.
   */
  readonly ownerSql: string;
  /** The client wants to see rows: those without the two columns. */
  readonly hasReturning: boolean;
  /** For the other shards; binds one array of rows as text. */
  readonly replay: RowReplay;
  /** Triggers are told to leave the rows as they are. */
  readonly isGuarded: boolean;
}

export interface RowReplay {
  readonly sql: string;
  /** What must be true: it returns the rows that were bound, it is about as many, or nothing. */
  readonly checks: "rows" | "count" | "nothing";
}

/** What triggers and foreign keys write as well: `ROW_GUARDS` note every row in the order of the writes. */
export interface CapturedReplay {
  readonly kind: "captured";
  readonly hasReturning: boolean;
  readonly table: string;
  /** For the other shards; null: of this table nothing is known. */
  readonly replayOf: (table: CapturedTable) => CapturedRowReplay | null;
  /** As the second column of `ownerSql`, asked before the statement. */
  readonly obstacleSql: string;
}

/** The client's statement runs on every shard, one after the other. */
export interface DefinedReplay {
  readonly kind: "defined";
  /** Runs before it on each; null or absent: nothing. */
  readonly beforeSql?: string | null;
  /** Runs behind it on each, of a list by shard; null: nothing. */
  readonly afterSql: string | readonly string[] | null;
  /** Then rows of the first take the place of the others'; null: there are none. */
  readonly rows: DefinedRows | null;
}

export interface DefinedRows extends Omit<ReturnedReplay, "kind" | "hasReturning"> {
  /** Takes the rows away that the statement has made on another shard, if it has made any; null: they stay. */
  readonly emptySql: string | null;
}

/** COPY ... FROM STDIN whose rows are not all in the data: it is read here, and inserted on the first shard. */
export interface CopiedReplay {
  readonly kind: "copied";
  readonly hasReturning: false;
  readonly table: string;
  readonly data: CopyInPlan;
  /** Of the data, in its order. */
  readonly columns: readonly string[];
  /** Of each of the table's columns among those; null: it is left to its default. */
  readonly places: readonly (number | null)[];
  /** Binds one array of rows as text. */
  readonly insertSql: string;
  /** The same for no rows; binds nothing. */
  readonly emptySql: string;
  /** What becomes of `insertSql`. */
  readonly replay: ReturnedReplay | CapturedReplay;
}

export interface CapturedTable {
  readonly schema: string;
  readonly name: string;
}

/** Each binds arrays of one row as text: the old one, the new one, or both in this order. */
export interface CapturedRowReplay {
  readonly INSERT: string;
  readonly UPDATE: string;
  readonly DELETE: string;
}

export interface CopyInPlan {
  readonly format: "text" | "csv" | "binary";
  /** Position of the sharding key among the statement's columns, or -1: all rows to all shards. */
  readonly keyColumn: number;
  readonly keyType: "bigint" | "uuid" | "varchar";
  readonly delimiter: string;
  readonly nullText: string;
  readonly quote: string;
  readonly escape: string;
  readonly hasHeader: boolean;
  /** The rows come without the key, which is drawn and put before their first column; null: they have it. */
  readonly drawn: DrawnCopy | null;
}

export interface DrawnCopy {
  readonly key: KeyDefault;
  /** The key's column, and behind it the client's list. */
  readonly columns: readonly string[];
  /** The client's COPY with the key's column before its own. */
  readonly sql: string;
}

export type RefusedRoute = Extract<Route, { kind: "refused" }>;
