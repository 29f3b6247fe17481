import { afterAll, beforeAll, expect, test } from "vitest";
import { createRouter, type Router } from "../../../src/router/router.js";
import { parseSchemaFacts, SCHEMA_FACTS_SQL } from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { Shards } from "../../support/shards.js";
import { shop } from "../../unit/router/shop.js";

// The operating system's locale says "C", and ICU sorts.
const ICU = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'";
const SCHEMA = `
  CREATE COLLATION either_case (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
  CREATE TABLE orders (
    tenant_id bigint NOT NULL, id bigint, note text, loose text COLLATE either_case, plain text COLLATE "C", raw bytea);`;

let server: PostgresServer;
let whole: Shards;
let shards: Shards;
let router: Router;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["whole", "s0", "s1"]) {
    await server.sql("postgres", `CREATE DATABASE ${name} ${ICU}`);
    await server.sql(name, SCHEMA);
  }
  await loadParser();
  const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
  const database = shop({ shardCount: 2, splitInserts: "rewrite" });
  router = createRouter(database, parseSchemaFacts(String(facts?.facts)));
  whole = await Shards.connect(server, ["whole"]);
  shards = await Shards.connect(server, ["s0", "s1"]);
  const rows = [1, 2, 3, 4, 5, 6].map((tenant) => {
    const letter = "aBbAcC"[tenant - 1];
    // Escaped, 0xff is \377, a backslash is two, and "x" is itself.
    const bytes = ["ff", "5c", "78", "00", "5d61", "5c78"][tenant - 1];
    return `(${tenant}, ${tenant}, '${letter}', '${letter}', '${letter}', '\\x${bytes}')`;
  });
  const insert = `INSERT INTO orders VALUES ${rows.join(", ")}`;
  await server.sql("whole", insert);
  expect((await shards.run(router, insert)).tag).toBe("INSERT 0 6");
});

afterAll(async () => {
  await whole[Symbol.asyncDispose]();
  await shards[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const UNSHARDED: Pick<Router, "route"> = { route: () => ({ kind: "any" }) };

test.each([
  "SELECT id FROM orders ORDER BY plain",
  'SELECT id FROM orders ORDER BY note COLLATE "C"',
  "SELECT note, min(id) FROM orders GROUP BY note ORDER BY 2",
  'SELECT loose COLLATE "C" AS l, count(*) FROM orders GROUP BY l ORDER BY 1',
  "SELECT DISTINCT plain FROM orders ORDER BY plain",
  "SELECT min(plain), max(plain) FROM orders",
])("in an ICU database as one server: %s", async (sql) => {
  const expected = await whole.run(UNSHARDED, sql);
  const actual = await shards.run(router, sql);
  expect(actual.error).toBeNull();
  expect(expected.error).toBeNull();
  expect(actual.rows).toEqual(expected.rows);
});

test.each([
  "SELECT id FROM orders ORDER BY note",
  "SELECT min(note) FROM orders",
  "SELECT id FROM orders ORDER BY loose",
  "SELECT loose, count(*) FROM orders GROUP BY loose",
  "SELECT DISTINCT loose FROM orders",
  "SELECT lower(loose), count(*) FROM orders GROUP BY lower(loose)",
  "SELECT count(*) FROM orders GROUP BY loose",
])("what only its collation could tell is refused: %s", async (sql) => {
  const route = router.route(sql, { values: [], formats: [], typeOids: [] });
  if (route.kind === "refused") return;
  expect((await shards.run(router, sql)).error).toMatchObject({ sqlState: "0A000" });
});

test.each(["hex", "escape"])("bytes sort by themselves as %s", async (output) => {
  for (const { connections } of [whole, shards])
    for (const connection of connections) await connection.query(`SET bytea_output = ${output}`);
  for (const sql of [
    "SELECT id FROM orders ORDER BY raw",
    "SELECT id FROM orders ORDER BY raw DESC LIMIT 2",
    "SELECT raw, count(*) FROM orders GROUP BY raw ORDER BY raw",
  ]) {
    const actual = await shards.run(router, sql);
    expect(actual.error).toBeNull();
    expect(actual.rows).toEqual((await whole.run(UNSHARDED, sql)).rows);
  }
});
