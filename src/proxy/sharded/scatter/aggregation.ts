import type { Average, GroupCondition, MergePlan } from "../../../router/route.js";
import type { ColumnDescription } from "../../../wire/backend.js";
import {
  addDecimals,
  averageOf,
  compareDecimals,
  type Decimal,
  decodeDecimal,
  encodeDecimal,
  formatDecimal,
  parseDecimal,
} from "./decimal.js";
import { ScatterLimitExceeded, UnmergeableResult } from "./scatter-errors.js";
import {
  compareValues,
  type Decoder,
  decoderOf,
  FLOAT_OIDS,
  groupKeyOf,
  INTEGER_OIDS,
  looseGroupKeyOf,
  NUMERIC_OID,
  SUM_OIDS,
} from "./value.js";

/** Rows of groups that are held at once, in bytes of their messages. */
export const LARGEST_GROUPS_BYTES = 64 * 1024 * 1024;

type Values = (Buffer | null)[];
type Combine = (one: Buffer, other: Buffer) => Buffer;

/** Makes one row of the shards' partial rows, per group. */
export class Aggregation {
  /** Of each column: null, it does not group. */
  readonly #groupKeys: readonly (((bytes: Buffer) => string) | null)[];
  /** Of each column: null, it groups, or is made of others when all are there. */
  readonly #combine: readonly (Combine | null)[];
  readonly #averages: readonly (readonly [
    column: number,
    average: (row: Values) => Buffer | null,
  ])[];
  readonly #having: readonly ((row: Values) => boolean)[];
  readonly #groups = new Map<string, Values>();
  #bytes = 0;

  /** @throws UnmergeableResult for a type whose values we cannot combine as PostgreSQL does */
  constructor(plan: MergePlan, columns: readonly ColumnDescription[]) {
    const labelsOf = (index: number) => plan.enums?.[index] ?? null;
    this.#groupKeys = columns.map((column, index) => {
      const fold = plan.aggregates?.[index];
      if (fold === "looseGroup") return looseGroupKeyOf(column, labelsOf(index));
      return fold === "group" ? groupKeyOf(column, labelsOf(index)) : null;
    });
    this.#combine = columns.map((column, index) => {
      const fold = plan.aggregates?.[index];
      if (fold === "group" || fold === "looseGroup" || typeof fold === "object") return null;
      if (fold !== "min" && fold !== "max") return adder(column);
      const decode = decoderOf(column, plan.isBytewise, labelsOf(index));
      return extreme(decode, fold === "min" ? -1 : 1);
    });
    this.#averages = (plan.aggregates ?? []).flatMap((fold, column) =>
      typeof fold === "object" ? [[column, averager(fold, column, columns)] as const] : [],
    );
    this.#having = (plan.having ?? []).map((condition) => keeper(condition, columns));
  }

  /** @throws ScatterLimitExceeded */
  add(values: Values): void {
    const key = this.#keyOf(values);
    const group = this.#groups.get(key);
    if (group === undefined) {
      this.#bytes += values.reduce((sum, value) => sum + (value?.length ?? 0), 64 + key.length);
      if (this.#bytes > LARGEST_GROUPS_BYTES) {
        throw new ScatterLimitExceeded("groups over several shards", LARGEST_GROUPS_BYTES);
      }
      this.#groups.set(key, values);
      return;
    }
    for (const [at, combine] of this.#combine.entries()) {
      if (combine === null) continue;
      const one = group[at] ?? null;
      const other = values[at] ?? null;
      // NULL is what an aggregate over no rows gives: it adds nothing.
      group[at] = one === null ? other : other === null ? one : combine(one, other);
    }
  }

  /** Of the groups that HAVING keeps, whole. */
  *rows(): IterableIterator<Values> {
    for (const row of this.#groups.values()) {
      if (!this.#having.every((isKept) => isKept(row))) continue;
      for (const [column, average] of this.#averages) row[column] = average(row);
      yield row;
    }
  }

  #keyOf(values: Values): string {
    let key = "";
    for (const [index, keyOf] of this.#groupKeys.entries()) {
      if (keyOf === null) continue;
      const value = values[index] ?? null;
      const text = value === null ? "" : keyOf(value);
      key += value === null ? "n" : `${text.length}:${text}`;
    }
    return key;
  }
}

function averager(
  { sum, count }: Average,
  column: number,
  columns: readonly ColumnDescription[],
): (row: Values) => Buffer | null {
  const shown = columns[column];
  if (shown?.typeId !== NUMERIC_OID)
    throw new UnmergeableResult(
      `avg of column "${shown?.name}" over several shards is not one of exact numbers`,
      "Cast what is averaged to numeric, or name the sharding key.",
    );
  const sumOf = exactReader(columns[sum]);
  const countOf = exactReader(columns[count]);
  return (row) => {
    const [total, rows] = [row[sum] ?? null, row[count] ?? null];
    const number = rows === null ? null : countOf(rows);
    if (total === null || number?.kind !== "finite" || number.unscaled === 0n) return null;
    const average = averageOf(sumOf(total), number.unscaled);
    return shown.format === 1 ? encodeDecimal(average) : Buffer.from(formatDecimal(average));
  };
}

/** Of a column of integers or numerics. */
function exactReader(column: ColumnDescription | undefined): (bytes: Buffer) => Decimal {
  const isExact =
    column !== undefined && (INTEGER_OIDS.has(column.typeId) || column.typeId === NUMERIC_OID);
  if (!isExact)
    throw new UnmergeableResult("a sum is not one of exact numbers", "Cast it to numeric.");
  const decode = decoderOf(column, true, null);
  return (bytes) => {
    const value = decode(bytes);
    if (typeof value === "number" || typeof value === "bigint")
      return { kind: "finite", unscaled: BigInt(value), scale: 0 };
    return value as Decimal;
  };
}

function keeper(
  { column, operator, value }: GroupCondition,
  columns: readonly ColumnDescription[],
): (row: Values) => boolean {
  const read = exactReader(columns[column]);
  const wanted: Decimal = { kind: "finite", unscaled: BigInt(value), scale: 0 };
  return (row) => {
    const found = row[column] ?? null;
    return found !== null && HOLDS[operator](compareDecimals(read(found), wanted));
  };
}

const HOLDS: Readonly<Record<GroupCondition["operator"], (difference: number) => boolean>> = {
  "=": (difference) => difference === 0,
  "<>": (difference) => difference !== 0,
  "<": (difference) => difference < 0,
  "<=": (difference) => difference <= 0,
  ">": (difference) => difference > 0,
  ">=": (difference) => difference >= 0,
};

function extreme(decode: Decoder, wanted: -1 | 1): Combine {
  return (one, other) => {
    const difference = compareValues(decode(other), decode(one));
    return Math.sign(difference) === wanted ? other : one;
  };
}

function adder(column: ColumnDescription): Combine {
  const { typeId } = column;
  const isBinary = column.format === 1;
  if (INTEGER_OIDS.has(typeId)) return isBinary ? binaryIntegers(typeId) : textIntegers;
  if (typeId === NUMERIC_OID) return isBinary ? binaryDecimals : textDecimals;
  if (FLOAT_OIDS.has(typeId)) return isBinary ? binaryFloats : textFloats;
  throw new UnmergeableResult(
    `sums of column "${column.name}" (type OID ${typeId}) cannot be added up between shards`,
    "Cast the sum to numeric, or name the sharding key.",
  );
}

const textIntegers: Combine = (one, other) =>
  Buffer.from(String(BigInt(one.toString("latin1")) + BigInt(other.toString("latin1"))));

function binaryIntegers(typeId: number): Combine {
  const size = typeId === SUM_OIDS.int8 ? 8 : typeId === SUM_OIDS.int4 ? 4 : 2;
  const read = (bytes: Buffer) =>
    size === 8 ? bytes.readBigInt64BE(0) : BigInt(bytes.readIntBE(0, size));
  return (one, other) => {
    const sum = read(one) + read(other);
    if (BigInt.asIntN(size * 8, sum) !== sum) {
      throw new UnmergeableResult("a count is out of its type's range", "Cast it to bigint.");
    }
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(sum);
    return bytes.subarray(8 - size);
  };
}

const textDecimals: Combine = (one, other) => {
  const left = parseDecimal(one.toString("latin1"));
  const right = parseDecimal(other.toString("latin1"));
  if (left === null || right === null) {
    throw new UnmergeableResult("a numeric value cannot be read", "Name the sharding key.");
  }
  return Buffer.from(formatDecimal(addDecimals(left, right)));
};

const binaryDecimals: Combine = (one, other) =>
  encodeDecimal(addDecimals(decodeDecimal(one), decodeDecimal(other)));

const textFloats: Combine = (one, other) =>
  Buffer.from(String(Number(one.toString("latin1")) + Number(other.toString("latin1"))));

const binaryFloats: Combine = (one, other) => {
  const bytes = Buffer.alloc(one.length);
  if (one.length === 4) bytes.writeFloatBE(one.readFloatBE(0) + other.readFloatBE(0));
  else bytes.writeDoubleBE(one.readDoubleBE(0) + other.readDoubleBE(0));
  return bytes;
};
