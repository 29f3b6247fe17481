import { quoteIdentifier } from "../../core/identifier.js";
import { columnOf, rangeCondition, tableName } from "../copy/range-sql.js";
import { type ComparedSides, destinationsOf, type RangeScope } from "./bucket-compare.js";
import { bucketOf, identityOf, placeOf, rowHash } from "./row-sql.js";
import { allShards, type SideReader, shardsFrom } from "./sides-reader.js";

/** A row's identity as JSON of its key's texts. */
export type RowKey = string;

/** Where rows of one key are, and what they hold: "shard:hash", sorted. Empty: no such row. */
export interface KeyState {
  readonly value: string;
  /** Changes with every version of the row, also when its value comes back (A, B, A). */
  readonly version: string;
}

const ABSENT: KeyState = { value: "", version: "" };

export type KeyStates = ReadonlyMap<RowKey, KeyState>;

export function stateOf(states: KeyStates, key: RowKey): KeyState {
  return states.get(key) ?? ABSENT;
}

/** Which rows to read: those of buckets, or those of keys. */
export type Selection =
  | { readonly kind: "buckets"; readonly buckets: readonly number[] }
  | { readonly kind: "keys"; readonly keys: readonly RowKey[] };

interface KeyRow {
  readonly identity: readonly string[];
  readonly place: number | null;
  readonly hash: string;
  readonly version: string;
}

/** What the from-side says about each key: a row counts for every to-shard that must have it. */
export async function readExpected(
  sides: ComparedSides,
  scope: RangeScope,
  selection: Selection,
): Promise<KeyStates> {
  const rows = await readRows(sides.from, shardsFrom(scope.table, sides.from), {
    scope,
    selection,
    shardCount: sides.to.shardCount,
  });
  return collect(rows.flat(), (row) => destinationsOf(scope.table, row.place, sides.to));
}

/** What the to-side says: a row counts where it lies, wherever it should be. */
export async function readFound(
  sides: ComparedSides,
  scope: RangeScope,
  selection: Selection,
): Promise<KeyStates> {
  const rows = await readRows(sides.to, allShards(sides.to), {
    scope,
    selection,
    shardCount: sides.to.shardCount,
  });
  const located = rows.flatMap((list, shard) => list.map((row) => ({ ...row, shard })));
  return collect(located, (row) => [row.shard]);
}

interface ReadInput {
  readonly scope: RangeScope;
  readonly selection: Selection;
  readonly shardCount: number;
}

async function readRows(
  side: SideReader,
  shards: readonly number[],
  input: ReadInput,
): Promise<readonly (readonly KeyRow[])[]> {
  const { scope, selection, shardCount } = input;
  const { table } = scope;
  const { condition, values } = conditionOf(scope, selection);
  const sql = `SELECT ${identityOf(table)} AS identity, ${placeOf(table, shardCount)} AS place,
      ${rowHash(table)}::text AS hash, t.xmin::text || '@' || t.ctid::text AS version
    FROM ONLY ${tableName(table)} AS t WHERE ${condition}`;
  return await side.read<KeyRow>(table, { shards, sql, values });
}

function conditionOf(
  scope: RangeScope,
  selection: Selection,
): { condition: string; values: unknown[] } {
  const { table } = scope;
  const range = rangeCondition(table, scope.range);
  if (selection.kind === "buckets") {
    const bucket = bucketOf(table, scope.bucketCount);
    return { condition: `${range} AND ${bucket} = ANY ($1)`, values: [selection.buckets] };
  }
  const identities = selection.keys.map(parseKey);
  const { keyColumns } = table;
  if (keyColumns === null) {
    // The row is its own key: only its bucket narrows the scan down.
    const hashes = identities.map(([hash]) => hash);
    return { condition: `${range} AND ${rowHash(table)} = ANY ($1::bigint[])`, values: [hashes] };
  }
  const names = keyColumns.map(quoteIdentifier).join(", ");
  const casts = keyColumns.map((name, index) => `k${index}::${columnOf(table, name).type}`);
  const arrays = keyColumns.map((_, index) => `$${index + 1}::text[]`);
  const aliases = keyColumns.map((_, index) => `k${index}`);
  return {
    condition: `(${names}) IN (SELECT ${casts.join(", ")}
        FROM unnest(${arrays.join(", ")}) AS suspicious (${aliases.join(", ")}))`,
    values: keyColumns.map((_, index) => identities.map((identity) => identity[index])),
  };
}

export function parseKey(key: RowKey): readonly string[] {
  const parsed: unknown = JSON.parse(key);
  return Array.isArray(parsed) ? parsed.map(String) : [];
}

function collect<Row extends KeyRow>(
  rows: readonly Row[],
  shardsOf: (row: Row) => readonly number[],
): KeyStates {
  const values = new Map<RowKey, string[]>();
  const versions = new Map<RowKey, string[]>();
  for (const row of rows) {
    const key = JSON.stringify(row.identity);
    const shards = shardsOf(row);
    // A row that has no place is nowhere, which no to-side can equal if it holds a copy of it.
    append(values, key, ...shards.map((shard) => `${shard}:${row.hash}`));
    append(versions, key, row.version);
  }
  const states = new Map<RowKey, KeyState>();
  for (const [key, list] of values)
    states.set(key, {
      value: list.sort().join(" "),
      version: (versions.get(key) ?? []).sort().join(" "),
    });
  return states;
}

function append(lists: Map<RowKey, string[]>, key: RowKey, ...added: readonly string[]): void {
  const list = lists.get(key);
  if (list) list.push(...added);
  else lists.set(key, [...added]);
}
