import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { ParameterValues } from "../../../src/router/key-value.js";
import type { Route } from "../../../src/router/route.js";
import { createRouter } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import { combinedHash, type KeyType } from "../../../src/topology/hash.js";
import { cases } from "../../support/cases.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

const router = createRouter(shop(), SHOP_FACTS, { cacheBytes: 64 * 1024 });

const quote = (text: string) => `'${text.replaceAll("'", "''")}'`;
const bound = (value: Buffer, format: 0 | 1): ParameterValues => ({
  values: [value],
  formats: [format],
  typeOids: [],
});

function shardOf(route: Route): number {
  if (route.kind !== "one") throw new Error(JSON.stringify(route));
  return route.shard;
}

interface Kind {
  readonly type: KeyType;
  readonly table: string;
  readonly column: string;
  readonly keys: fc.Arbitrary<string>;
  readonly literals: (key: string) => readonly string[];
  readonly binary: (key: string) => Buffer;
}

// A zero byte cannot be in PostgreSQL's text, nor half of a surrogate pair.
const texts = fc.string({ unit: "grapheme", maxLength: 40 }).filter((text) => !text.includes("\0"));

const KINDS: readonly Kind[] = [
  {
    type: "bigint",
    table: "orders",
    column: "tenant_id",
    keys: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String),
    literals: (key) => [key, quote(key), `${quote(key)}::bigint`, `CAST(${quote(key)} AS int8)`],
    binary: (key) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64BE(BigInt(key));
      return bytes;
    },
  },
  {
    type: "uuid",
    table: "sessions",
    column: "id",
    keys: fc.uuid(),
    literals: (key) => [quote(key), quote(key.toUpperCase()), `${quote(key)}::uuid`],
    binary: (key) => Buffer.from(key.replaceAll("-", ""), "hex"),
  },
  {
    type: "varchar",
    table: "codes",
    column: "code",
    keys: texts,
    literals: (key) => [quote(key), `${quote(key)}::text`, `CAST(${quote(key)} AS varchar)`],
    binary: (key) => Buffer.from(key),
  },
];

describe("a row is where the reader looks for it", () => {
  test.each(KINDS)("$type", ({ type, table, column, keys, literals, binary }) => {
    fc.assert(
      fc.property(keys, (key) => {
        const expected = Number(combinedHash(key, type) % 4n);
        const insert = `INSERT INTO ${table} (${column}) VALUES`;
        const select = `SELECT * FROM ${table} WHERE ${column}`;
        const routes = [
          ...literals(key).flatMap((literal) => [
            router.route(`${insert} (${literal})`, null),
            router.route(`${select} = ${literal}`, null),
            router.route(`${select} IN (${literal})`, null),
            router.route(`DELETE FROM ${table} WHERE ${literal} = ${column}`, null),
          ]),
          ...[`${insert} ($1)`, `${select} = $1`].flatMap((sql) => [
            router.route(sql, bound(Buffer.from(key), 0)),
            router.route(sql, bound(binary(key), 1)),
          ]),
        ];
        for (const route of routes) expect(shardOf(route)).toBe(expected);
      }),
    );
  });
});

describe("the cache", () => {
  test("a statement routes as it does in a router that has seen nothing", () => {
    const statements = fc.constantFrom(
      (a: string, b: string) => `SELECT * FROM orders WHERE tenant_id = ${a} AND id = ${b}`,
      (a: string, b: string) => `SELECT * FROM orders WHERE tenant_id = - ${a} OR tenant_id = ${b}`,
      (a: string, b: string) => `SELECT id, total FROM orders ORDER BY ${a} LIMIT ${b}`,
      (a: string, b: string) => `SELECT id, total FROM orders ORDER BY 1 LIMIT ${a} OFFSET ${b}`,
      (a: string, b: string) => `SELECT id + ${a}, count(*) FROM orders GROUP BY id + ${b}`,
      (a: string, b: string) => `SELECT coalesce(sum(id), ${a}), sum(id) FROM orders LIMIT ${b}`,
      (a: string, b: string) => `SELECT * FROM codes WHERE code = '${a}'\n'${b}'`,
      (a: string, b: string) =>
        `/* ${a} */ INSERT INTO orders (id, tenant_id) VALUES (${a}, ${b}) -- é`,
    );
    const numbers = fc.integer({ min: 0, max: 3 }).map(String);
    const shared = createRouter(shop(), SHOP_FACTS, { cacheBytes: 16 * 1024 });
    fc.assert(
      fc.property(statements, numbers, numbers, (make, one, other) => {
        const sql = make(one, other);
        expect(shared.route(sql, null)).toEqual(createRouter(shop(), SHOP_FACTS).route(sql, null));
      }),
      { numRuns: cases(300) },
    );
  });

  test("never throws, whatever the text", () => {
    const pieces = fc.constantFrom(
      ..."SELECT * FROM orders WHERE tenant_id = 1 AND ( ) , ; $1 'a' $$x$$ -- /* */ INSERT INTO VALUES LIMIT E'\\' U&'\\0041' \" é 1e5 UPDATE SET".split(
        " ",
      ),
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 14 }), (words) => {
        expect(router.route(words.join(" "), null).kind).toBeTypeOf("string");
      }),
      { numRuns: cases(500) },
    );
  });
});
