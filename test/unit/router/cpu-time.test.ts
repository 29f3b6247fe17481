import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { effectsOf } from "../../../src/proxy/execution/statement-effects.js";
import type { ParameterValues } from "../../../src/router/key-value.js";
import { createRouter } from "../../../src/router/router.js";
import { classify } from "../../../src/sql/classify.js";
import { liftLiterals } from "../../../src/sql/literals.js";
import { loadParser, parse } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

const router = createRouter(shop({ splitInserts: "rewrite" }), SHOP_FACTS);

/** What every statement is looked at with, on one shard, too: per megabyte. */
const LOOK_MS_PER_MB = 50;
/** PostgreSQL's parser alone takes 200 to 300, of which nothing is ours to save; with all that follows: */
const ROUTE_MS_PER_MB = 2_000;
/** For the first of its kind, compiled while it runs. */
const START_MS = 150;

const many = (count: number, each: (index: number) => string, between = ",") =>
  Array.from({ length: count }, (_, index) => each(index)).join(between);
const nested = (count: number, open: string, inner: string, close: string) =>
  `${open.repeat(count)}${inner}${close.repeat(count)}`;

/** Texts that a client may write, by how large: each once took a time that grows faster, or the stack. */
const KINDS: Readonly<Record<string, (size: number) => string>> = {
  "the word into": (n) => `UPDATE users SET name = '${"into ".repeat(n)}'`,
  "the word temp": (n) => `SELECT '${"temp ".repeat(n)}'`,
  "blanks before the end of BEGIN": (n) => `BEGIN${" ".repeat(n)}x`,
  "modes of BEGIN": (n) => `BEGIN ${"read only ".repeat(n)}x`,
  "semicolons behind SET": (n) => `SET x = 1${" ;".repeat(n)}x`,
  "blanks behind SET": (n) => `SET x = 1${" ".repeat(n)}x`,
  "calls of set_config": (n) => `SELECT ${many(n, () => "set_config(", " ")}`,
  "statements in one text": (n) => "SELECT 1;".repeat(n),
  "settings in one text": (n) => "SET work_mem = '1MB';".repeat(n),
  "comments within comments": (n) => `${nested(n, "/*", "", "*/")} SELECT 1`,
  "comments between operators": (n) => `SELECT 1 ${"/*x*/+".repeat(n)} 1`,
  "comments of a line": (n) => `SELECT ${"-- x\n".repeat(n)}1`,
  "an operator": (n) => `SELECT 1${"+".repeat(n)}1`,
  sums: (n) => `SELECT * FROM users WHERE id = ${many(n, () => "1", "+")}`,
  signs: (n) => `SELECT ${"- ".repeat(n)}1`,
  negations: (n) => `SELECT * FROM users WHERE ${"NOT ".repeat(n)}true`,
  casts: (n) => `SELECT 1${"::int".repeat(n)}`,
  "postfix tests": (n) => `SELECT 1${" ISNULL".repeat(n)}`,
  parentheses: (n) => `SELECT * FROM users WHERE id = ${nested(n, "(", "1", ")")}`,
  "calls in calls": (n) => `SELECT ${nested(n, "abs(", "1", ")")}`,
  "names that are words": (n) => `SELECT ${nested(n, "f((SELECT 1 END), ", "1", ")")}`,
  "arrays in arrays": (n) => `SELECT ${nested(n, "ARRAY[", "1", "]")}`,
  "CASE in CASE": (n) => `SELECT ${nested(n, "CASE WHEN true THEN ", "1", " END")}`,
  "queries in queries": (n) => nested(n, "SELECT * FROM (", "SELECT * FROM users", ") x"),
  unions: (n) => `SELECT 1${" UNION SELECT 1".repeat(n)}`,
  joins: (n) =>
    `SELECT * FROM orders o0${many(n, (i) => ` JOIN orders o${i + 1} ON o${i}.tenant_id = o${i + 1}.tenant_id`, "")}`,
  "natural joins": (n) =>
    `SELECT * FROM orders o0${many(n, (i) => ` NATURAL JOIN orders o${i}`, "")}`,
  "names in FROM": (n) => `SELECT * FROM ${many(n, (i) => `users u${i}`)}`,
  "queries of WITH": (n) =>
    `WITH ${many(n, (i) => `c${i} AS (SELECT * FROM users WHERE id = ${i})`)} SELECT 1`,
  "a long name": (n) => `SELECT ${"a".repeat(n)}`,
  "dollar quotes": (n) => `SELECT ${many(n, (i) => `$a${i}$`, " ")}`,
  "empty strings": (n) => `SELECT ${many(n, () => "''")}`,
  "strings in parts": (n) => `SELECT ${many(n, () => "'a'", "\n")}`,
  "a list of keys": (n) => `SELECT * FROM users WHERE tenant_id IN (${many(n, String)})`,
  "negative keys": (n) => `SELECT * FROM users WHERE tenant_id IN (${many(n, (i) => `-${i}`)})`,
  "keys behind other letters": (n) =>
    `SELECT 'äöü', * FROM users WHERE tenant_id IN (${many(n, String)})`,
  "an array of keys": (n) =>
    `SELECT * FROM users WHERE tenant_id = ANY (ARRAY[${many(n, String)}])`,
  "keys in OR": (n) => `SELECT * FROM users WHERE ${many(n, (i) => `tenant_id = ${i}`, " OR ")}`,
  "conditions in AND": (n) => `SELECT * FROM users WHERE ${many(n, (i) => `id = ${i}`, " AND ")}`,
  "equal columns": (n) =>
    `SELECT * FROM orders a, orders b WHERE ${many(n, () => "a.tenant_id = b.tenant_id", " AND ")}`,
  "rows of VALUES": (n) =>
    `INSERT INTO orders (tenant_id, id) VALUES ${many(n, (i) => `(${i}, ${i})`)}`,
  "rows that draw a key": (n) => `INSERT INTO members (name) VALUES ${many(n, () => "('x')")}`,
  "rows for every shard": (n) =>
    `INSERT INTO plans (id, name) VALUES ${many(n, (i) => `(${i}, 'x')`)}`,
  "columns set": (n) => `UPDATE users SET ${many(n, (i) => `c${i} = 1`)} WHERE tenant_id = 1`,
  outputs: (n) => `SELECT ${many(n, (i) => `id AS a${i}`)} FROM users`,
  aggregates: (n) => `SELECT ${many(n, () => "count(id)")} FROM users`,
  groups: (n) =>
    `SELECT ${many(n, (i) => `id + ${i}`)} FROM users GROUP BY ${many(n, (i) => `id + ${i}`)}`,
  orders: (n) => `SELECT * FROM users ORDER BY ${many(n, (i) => `id + ${i}`)}`,
};

/** The least of several, as the machine has other things to do. */
function cpuMs(run: () => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3 && best > 20; attempt++) {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / 1_000);
  }
  return best;
}

function expectWithin(sql: string, run: (text: string) => unknown, msPerMb: number): void {
  let count = 0;
  // Another text each time: what was seen before is remembered.
  const spent = cpuMs(() => run(`${sql} `.padEnd(sql.length + ++count)));
  const mb = Buffer.byteLength(sql) / 1_000_000;
  expect(spent, `${spent.toFixed(0)} ms for ${mb.toFixed(2)} MB: ${sql.slice(0, 80)}`).toBeLessThan(
    START_MS + mb * msPerMb,
  );
}

function expectCheap(sql: string): void {
  expectWithin(
    sql,
    (text) => [effectsOf(text), classify(text), liftLiterals(text)],
    LOOK_MS_PER_MB,
  );
  expectWithin(sql, (text) => router.route(text, null), ROUTE_MS_PER_MB);
}

describe("no statement holds a process longer than its length allows", () => {
  beforeAll(loadParser);

  test.each(Object.keys(KINDS))("%s", (kind) => {
    for (const size of [300, 1_600, 12_000]) expectCheap(KINDS[kind]?.(size) ?? "");
  });

  test("65,535 parameters", () => {
    const sql = `SELECT * FROM users WHERE tenant_id IN (${many(65_535, (i) => `$${i + 1}`)})`;
    const parameters: ParameterValues = {
      values: Array.from({ length: 65_535 }, (_, index) => Buffer.from(String(index))),
      formats: [],
      typeOids: [],
    };
    expectWithin(sql, (text) => router.route(text, parameters), ROUTE_MS_PER_MB);
    const rows = many(20_000, (i) => `($${2 * i + 1}, $${2 * i + 2})`);
    const insert = `INSERT INTO orders (tenant_id, id) VALUES ${rows}`;
    expectWithin(insert, (text) => router.route(text, parameters), ROUTE_MS_PER_MB);
  });

  test("whatever is repeated within anything else", () => {
    const piece = fc.constantFrom(
      ...["(", ")", "[", "]", "/*", "*/", "--", "\n", "'", "''", "$$", "$a$", "$1", ",", ";", " "],
      ...[
        "+",
        "-",
        "::int",
        ".",
        "1",
        "1e",
        "E'\\'",
        "U&'",
        '"',
        "a",
        "ä",
        "NOT ",
        "CASE ",
        "END ",
      ],
      ...["WHEN ", "SELECT ", "FROM users ", "JOIN ", "UNION ", "AND ", "INTO ", "TEMP ", "WITH "],
      ...["SET ", "BEGIN ", "ATOMIC ", "VALUES ", "INSERT ", "set_config(", "tenant_id=1 ", "IN "],
    );
    const repeated = fc
      .tuple(fc.array(piece, { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 8_000 }))
      .map(([pieces, count]) => pieces.join("").repeat(count));
    const text = fc
      .tuple(
        fc.constantFrom(
          "",
          "SELECT ",
          "SELECT * FROM users WHERE ",
          "UPDATE users SET name = ",
          "SET ",
        ),
        fc.array(repeated, { minLength: 1, maxLength: 3 }),
      )
      .map(([start, parts]) => (start + parts.join(" ")).slice(0, 40_000));
    fc.assert(fc.property(text, expectCheap), { numRuns: 40 });
  });

  test("what is too deep is refused, as PostgreSQL does, and nothing is lost by it", () => {
    const route = router.route(`SELECT ${many(20_000, () => "1", "+")}`, null);
    expect(route).toMatchObject({ kind: "refused", sqlState: "54001" });
    const fine = `SELECT * FROM users WHERE tenant_id = ${many(400, () => "1", "+")}`;
    expect(router.route(fine, null).kind).toBe("many");
  });

  test("places in the tree are those of the text, whatever its comments are", () => {
    const sql = "SELECT /* ä /* 𝄞 */ */ * FROM users -- é\n WHERE tenant_id = /* */ 5";
    const plain = "SELECT * FROM users WHERE tenant_id = 5";
    expect(router.route(sql, null)).toEqual(router.route(plain, null));
    expect(parse(sql).kind).toBe("parsed");
  });
});
