import type { Node } from "libpg-query";
import { lastName } from "../sql/ast.js";
import { type LiftedText, literalText } from "../sql/literals.js";
import { type KeyType, shardOfBinary, shardOfText } from "../topology/hash.js";
import { parseArrayBinary, parseArrayText } from "./array-value.js";

/** Values of one Bind, as they lie in the message. */
export interface ParameterValues {
  readonly values: readonly (Uint8Array | null)[];
  /** None: all text; one: of all; else one each. 0 text, 1 binary. */
  readonly formats: readonly number[];
  /** Of Parse; missing or 0: the server infers it. */
  readonly typeOids: readonly number[];
}

/** A statement at the moment of its routing. */
export interface StatementValues {
  readonly sql: string;
  readonly lifted: LiftedText;
  /** null: not known yet (Describe before Bind). */
  readonly parameters: ParameterValues | null;
  /** Keys were put in by us. */
  readonly isDrawn: boolean;
}

/** Where a statement says the value of a key. */
export type ValueRef =
  /** `$n`, from 0. `isText`: cast to text at once, so that a binary value is text too. */
  | { readonly kind: "parameter"; readonly index: number; readonly isText: boolean }
  | { readonly kind: "literal"; readonly index: number; readonly isNegative: boolean }
  | { readonly kind: "constant"; readonly text: string | null };

/** One value, or each of an array's. */
export interface KeyTerm {
  readonly value: ValueRef;
  readonly isArray: boolean;
}

/** Values that are no shard's number. */
export const UNREADABLE = -1;
export const NULL_KEY = -2;
export const UNKNOWN = -3;

const INTEGER_CASTS = new Set(["int2", "int4", "int8", "numeric", "text", "varchar"]);
const TEXT_CASTS = new Set(["text", "varchar"]);
const UUID_CASTS = new Set(["uuid", "text", "varchar"]);

/** Reads constants out of the tree as places in the text, so that the analysis holds for others too. */
export class ValueReader {
  readonly #lifted: LiftedText;
  readonly #toUnit: (byte: number) => number;
  readonly #sql: string;
  readonly pinned = new Set<number>();

  constructor(sql: string, lifted: LiftedText) {
    this.#sql = sql;
    this.#lifted = lifted;
    this.#toUnit = byteToUnit(sql);
  }

  /** UTF-16 position of a location in the tree. */
  position(location: number | undefined): number {
    return this.#toUnit(location ?? 0);
  }

  /** The analysis depends on every constant. */
  pinAll(): void {
    for (let index = 0; index * 2 < this.#lifted.spans.length; index++) this.pinned.add(index);
  }

  /** The value of a key of this type, or null: an expression whose value only the server knows. */
  key(node: Node | undefined, type: KeyType): ValueRef | null {
    return this.#value(node, castsFor(type), false);
  }

  /** The same for an array of keys: `$1`, `'{1,2}'`, with `::bigint[]` or without. */
  keyArray(node: Node | undefined, type: KeyType): readonly KeyTerm[] | null {
    if (node === undefined) return null;
    if ("A_ArrayExpr" in node) {
      const terms: KeyTerm[] = [];
      for (const element of node.A_ArrayExpr.elements ?? []) {
        const value = this.key(element, type);
        if (value === null) return null;
        terms.push({ value, isArray: false });
      }
      return terms;
    }
    if (
      "TypeCast" in node &&
      node.TypeCast.arg !== undefined &&
      "A_ArrayExpr" in node.TypeCast.arg
    ) {
      return this.#isArrayCast(node, type) ? this.keyArray(node.TypeCast.arg, type) : null;
    }
    const value = this.#value(node, castsFor(type), true);
    return value === null ? null : [{ value, isArray: true }];
  }

  #isArrayCast(node: Node, type: KeyType): boolean {
    if (!("TypeCast" in node)) return false;
    const name = node.TypeCast.typeName;
    const isArray = (name?.arrayBounds ?? []).length > 0;
    return (
      isArray && castsFor(type).has(lastName(name?.names)) && (name?.typmods ?? []).length === 0
    );
  }

  #value(node: Node | undefined, casts: ReadonlySet<string>, isArray: boolean): ValueRef | null {
    if (node === undefined) return null;
    if ("ParamRef" in node) {
      return { kind: "parameter", index: (node.ParamRef.number ?? 0) - 1, isText: false };
    }
    if ("A_Const" in node) {
      const isText = casts === TEXT_CASTS;
      return isText && node.A_Const.sval === undefined && node.A_Const.isnull !== true
        ? this.#numberAsText(node.A_Const)
        : this.#constant(node.A_Const);
    }
    if (!("TypeCast" in node)) return null;
    const { arg, typeName } = node.TypeCast;
    const name = lastName(typeName?.names);
    if (!casts.has(name) || (typeName?.typmods ?? []).length > 0) return null;
    if ((typeName?.arrayBounds ?? []).length > 0 !== isArray) return null;
    const value = this.#value(arg, casts, isArray);
    const isInnermost = arg !== undefined && "ParamRef" in arg;
    if (value?.kind !== "parameter" || !isInnermost) return value;
    return { ...value, isText: TEXT_CASTS.has(name) };
  }

  /** 007 as text is "7"; of other numbers it is the server's to say. */
  #numberAsText(constant: ConstantNode): ValueRef | null {
    if (constant.ival === undefined) return null;
    this.pinAll();
    return { kind: "constant", text: String(constant.ival.ival ?? 0) };
  }

  #constant(constant: ConstantNode): ValueRef | null {
    const text = constantText(constant);
    if (text === undefined) return null;
    if (text === null) return { kind: "constant", text };
    const at = this.#toUnit(constant.location ?? 0);
    const index = this.#literalAt(at);
    if (index >= 0) return { kind: "literal", index, isNegative: false };
    const isNegative = text.startsWith("-") && this.#sql.charCodeAt(at) === 45;
    const following = isNegative ? this.#literalAfter(at) : -1;
    if (following >= 0) return { kind: "literal", index: following, isNegative };
    this.pinAll();
    return { kind: "constant", text };
  }

  #literalAt(at: number): number {
    const index = this.#firstFrom(at);
    return this.#lifted.spans[index * 2] === at ? index : -1;
  }

  /** The number of the first constant that begins at a position or behind it. */
  #firstFrom(at: number): number {
    const { spans } = this.#lifted;
    let low = 0;
    let high = spans.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((spans[middle * 2] ?? 0) < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** `- 5` is one constant in the tree, which lies at the sign. */
  #literalAfter(at: number): number {
    const index = this.#firstFrom(at + 1);
    const start = this.#lifted.spans[index * 2];
    if (start === undefined) return -1;
    return /^-\s*$/.test(this.#sql.slice(at, start)) ? index : -1;
  }

  /** A whole number that the analysis itself needs (ORDER BY 1): pinned. */
  pinnedInteger(node: Node | undefined): number | null {
    if (node === undefined || !("A_Const" in node)) return null;
    const value = this.#constant(node.A_Const);
    if (value?.kind === "literal") this.pinned.add(value.index);
    const constant: ConstantNode = node.A_Const;
    return constant.ival === undefined ? null : (constant.ival.ival ?? 0);
  }
}

interface ConstantNode {
  readonly ival?: { readonly ival?: number };
  readonly fval?: { readonly fval?: string };
  readonly sval?: { readonly sval?: string };
  readonly boolval?: unknown;
  readonly bsval?: unknown;
  readonly isnull?: boolean;
  readonly location?: number;
}

function constantText(constant: ConstantNode): string | null | undefined {
  if (constant.isnull === true) return null;
  if (constant.ival !== undefined) return String(constant.ival.ival ?? 0);
  if (constant.fval !== undefined) return constant.fval.fval ?? "0";
  if (constant.sval !== undefined) return constant.sval.sval ?? "";
  return undefined;
}

function castsFor(type: KeyType): ReadonlySet<string> {
  switch (type) {
    case "bigint":
      return INTEGER_CASTS;
    case "uuid":
      return UUID_CASTS;
    case "varchar":
      return TEXT_CASTS;
  }
}

/** The tree counts bytes of UTF-8. */
function byteToUnit(sql: string): (byte: number) => number {
  const bytes = Buffer.from(sql, "utf8");
  if (bytes.length === sql.length) return (byte) => byte;
  // Positions at every so many bytes: no question reads the text from its start.
  const units: number[] = [0];
  let unit = 0;
  for (let at = 0; at < bytes.length; at++) {
    unit += unitsBegunBy(bytes[at] ?? 0);
    if ((at + 1) % STRIDE === 0) units.push(unit);
  }
  return (byte) => {
    const stride = Math.min(Math.floor(byte / STRIDE), units.length - 1);
    let found = units[stride] ?? 0;
    for (let at = stride * STRIDE; at < byte; at++) found += unitsBegunBy(bytes[at] ?? 0);
    return found;
  };
}

const STRIDE = 64;

/** Units of UTF-16 of the character that a byte of UTF-8 begins: none, one, or a pair. */
function unitsBegunBy(byte: number): number {
  if ((byte & 0xc0) === 0x80) return 0;
  return byte >= 0xf0 ? 2 : 1;
}

export interface KeySpace {
  readonly type: KeyType;
  readonly shardCount: number;
}

/** @returns a shard, or UNREADABLE, NULL_KEY, UNKNOWN */
export function shardOfValue(ref: ValueRef, values: StatementValues, space: KeySpace): number {
  if (ref.kind !== "parameter") return shardOfTextValue(constantOf(ref, values), space);
  const { parameters } = values;
  if (parameters === null) return UNKNOWN;
  const bytes = parameters.values[ref.index];
  // The server says how many parameters it wanted.
  if (bytes === undefined) return UNKNOWN;
  if (bytes === null) return NULL_KEY;
  if (!isBinary(parameters, ref.index)) {
    if (!TEXT_OIDS[space.type].has(parameters.typeOids[ref.index] ?? 0)) return UNREADABLE;
    return shardOfTextValue(
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"),
      space,
    );
  }
  const isText = isTextType(parameters.typeOids[ref.index] ?? 0, ref.isText, space.type);
  if (isText === null) return UNREADABLE;
  if (!isText) return shardOfBinary(bytes, 0, bytes.length, space.type, space.shardCount);
  return shardOfTextValue(Buffer.from(bytes).toString("utf8"), space);
}

/** Every element of an array value; null: not an array that we can read. */
export function shardsOfArray(
  ref: ValueRef,
  values: StatementValues,
  space: KeySpace,
): readonly number[] | null {
  if (ref.kind === "parameter") {
    const { parameters } = values;
    if (parameters === null) return [UNKNOWN];
    const bytes = parameters.values[ref.index];
    if (bytes === undefined) return [UNKNOWN];
    if (bytes === null) return [];
    if (isBinary(parameters, ref.index)) return shardsOfBinaryArray(bytes, space);
    if (!TEXT_ARRAY_OIDS[space.type].has(parameters.typeOids[ref.index] ?? 0)) return null;
    return shardsOfTextArray(Buffer.from(bytes).toString("utf8"), space);
  }
  const text = constantOf(ref, values);
  if (text === undefined) return null;
  return text === null ? [] : shardsOfTextArray(text, space);
}

function shardsOfTextArray(text: string, space: KeySpace): readonly number[] | null {
  const elements = parseArrayText(text);
  return elements?.map((element) => shardOfTextValue(element, space)) ?? null;
}

function shardsOfBinaryArray(bytes: Uint8Array, space: KeySpace): readonly number[] | null {
  const array = parseArrayBinary(bytes);
  if (array === null) return null;
  const isText = isTextType(array.elementOid, false, space.type);
  if (isText === null) return null;
  return array.elements.map((element) => {
    if (element === null) return NULL_KEY;
    if (isText) return shardOfTextValue(Buffer.from(element).toString("utf8"), space);
    return shardOfBinary(element, 0, element.length, space.type, space.shardCount);
  });
}

function shardOfTextValue(text: string | null | undefined, space: KeySpace): number {
  if (text === undefined) return UNREADABLE;
  if (text === null) return NULL_KEY;
  return shardOfText(text, space.type, space.shardCount);
}

/** undefined: written in a way that we do not read. */
export function constantOf(
  ref: Exclude<ValueRef, { kind: "parameter" }>,
  values: StatementValues,
): string | null | undefined {
  if (ref.kind === "constant") return ref.text;
  const text = literalText(values.sql, values.lifted, ref.index) ?? undefined;
  return text !== undefined && ref.isNegative ? `-${text}` : text;
}

export function isBinary(parameters: ParameterValues, index: number): boolean {
  const { formats } = parameters;
  return (formats.length === 1 ? formats[0] : formats[index]) === 1;
}

const OID = {
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  oid: 26,
  name: 19,
  varchar: 1043,
  uuid: 2950,
  numeric: 1700,
};
const INTEGER_OIDS = new Set([OID.int2, OID.int4, OID.int8]);

const ANY_TEXT = [0, 705, OID.text, OID.varchar] as const;
/**
 * Declared types under which the text of a value is hashed as the key's would be. Under another the server compares
 * otherwise: 'a ' as character(n) is 'a'; a double has many whole numbers equal.
 */
const TEXT_OIDS: Readonly<Record<KeyType, ReadonlySet<number>>> = {
  bigint: new Set([...ANY_TEXT, ...INTEGER_OIDS, OID.oid, OID.numeric]),
  uuid: new Set([...ANY_TEXT, OID.uuid]),
  varchar: new Set(ANY_TEXT),
};
const ANY_TEXT_ARRAY = [...ANY_TEXT, 1009, 1015];
const TEXT_ARRAY_OIDS: Readonly<Record<KeyType, ReadonlySet<number>>> = {
  bigint: new Set([...ANY_TEXT_ARRAY, 1005, 1007, 1016, 1231]),
  uuid: new Set([...ANY_TEXT_ARRAY, 2951]),
  varchar: new Set(ANY_TEXT_ARRAY),
};

/** Whether a binary value is text; null: of a type whose binary form is not the key's. */
function isTextType(oid: number, isCastToText: boolean, type: KeyType): boolean | null {
  if (oid === 0) return isCastToText || type === "varchar";
  if (oid === OID.text || oid === OID.varchar) return true;
  if (type === "bigint" && INTEGER_OIDS.has(oid)) return false;
  if (type === "uuid" && oid === OID.uuid) return false;
  return null;
}
