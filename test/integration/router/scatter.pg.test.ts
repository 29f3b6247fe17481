import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  averageOf,
  formatDecimal,
  parseDecimal,
} from "../../../src/proxy/sharded/scatter/decimal.js";
import { createRouter, type Router } from "../../../src/router/router.js";
import { parseSchemaFacts, SCHEMA_FACTS_SQL } from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { type RunOptions, Shards, type StatementResult } from "../../support/shards.js";
import { until } from "../../support/until.js";
import { shop } from "../../unit/router/shop.js";

const SCHEMA = `
  CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE TABLE orders (
    tenant_id bigint NOT NULL, id bigint NOT NULL, total numeric, note varchar(40), at timestamptz,
    ratio float8, mood mood, doc jsonb, tags text[], twice numeric GENERATED ALWAYS AS (total * 2) STORED,
    PRIMARY KEY (tenant_id, id));
  CREATE TABLE items (tenant_id bigint NOT NULL, order_id bigint, qty int);
  CREATE TABLE codes (code text PRIMARY KEY, n int);
  CREATE TABLE plans (id bigint PRIMARY KEY, name text);
  CREATE VIEW totals AS SELECT sum(total) AS total FROM orders;
  CREATE VIEW plan_names AS SELECT name FROM plans;`;

let server: PostgresServer;
let shards: Shards;
let router: Router;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["whole", "s0", "s1"]) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
  }
  await loadParser();
  const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
  router = createRouter(
    shop({ shardCount: 2, shardKeyUpdates: "rewrite", splitInserts: "rewrite" }),
    parseSchemaFacts(String(facts?.facts)),
  );
  shards = await Shards.connect(server, ["s0", "s1"]);
});

afterAll(async () => {
  await shards[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const ROWS = Array.from({ length: 200 }, (_, index) => {
  const total = index % 7 === 0 ? "NULL" : `${index % 11}.${index % 3 === 0 ? "50" : "5"}`;
  const at = `'2026-03-29 0${index % 9}:30:00+01'::timestamptz + interval '${index} hours'`;
  return `(${(index % 13) - 3}, ${index}, ${total}, 'n${index % 5}', ${at}, ${index} / 7.0, '${index % 3 === 0 ? "sad" : "happy"}')`;
});

async function load(): Promise<void> {
  const insert = `INSERT INTO orders (tenant_id, id, total, note, at, ratio, mood) VALUES ${ROWS.join(",")}`;
  for (const name of ["whole", "s0", "s1"]) {
    await server.sql(name, "TRUNCATE orders, items, codes, plans");
  }
  await server.sql("whole", insert);
  const result = await shards.run(router, insert);
  expect(result.tag).toBe("INSERT 0 200");
}

const UNSHARDED: Pick<Router, "route"> = { route: () => ({ kind: "any" }) };

/** The same statement over the shards and on one database with all rows. */
async function both(sql: string, options: RunOptions = {}) {
  await using whole = await Shards.connect(server, ["whole"]);
  const expected = await whole.run(UNSHARDED, sql, options);
  const actual = await shards.run(router, sql, options);
  return { expected, actual };
}

const sorted = ({ rows }: StatementResult) => rows.map((row) => JSON.stringify(row)).sort();

describe("reads answer as one database would", () => {
  beforeAll(load);

  const ordered = [
    "SELECT * FROM orders ORDER BY id",
    "SELECT id, total FROM orders ORDER BY total DESC, id",
    "SELECT id, total FROM orders ORDER BY 2 NULLS FIRST, 1 DESC",
    "SELECT tenant_id, id, at FROM orders ORDER BY at, id",
    "SELECT id, note FROM orders ORDER BY note, id DESC",
    "SELECT id, ratio FROM orders ORDER BY ratio DESC LIMIT 7",
    "SELECT id FROM orders ORDER BY id LIMIT 10 OFFSET 5",
    "SELECT id FROM orders ORDER BY id OFFSET 190",
    "SELECT id FROM orders ORDER BY id LIMIT 0",
    "SELECT count(*), sum(total), min(id), max(at), sum(id), max(note), min(ratio) FROM orders",
    "SELECT count(*), sum(id), coalesce(sum(total), 0) FROM orders WHERE id < 0",
    "SELECT note, count(*), sum(total) FROM orders GROUP BY note ORDER BY note",
    "SELECT id % 7 AS n, count(*) AS c FROM orders GROUP BY n ORDER BY c DESC, n LIMIT 4 OFFSET 1",
    "SELECT tenant_id, avg(total), count(DISTINCT note) FROM orders GROUP BY tenant_id HAVING count(*) > 15 ORDER BY tenant_id",
    "SELECT id FROM orders WHERE tenant_id IN (1, 2, 3) ORDER BY id",
    "SELECT note, ratio FROM orders ORDER BY total DESC NULLS LAST, (id % 7)::int, id /* c */ LIMIT 20 OFFSET 3 -- c",
    "SELECT note AS id, note FROM orders AS o ORDER BY o.id",
    "SELECT note, id FROM orders ORDER BY 1 DESC, total NULLS FIRST, 2 LIMIT 30 OFFSET 2",
    "SELECT ALL id FROM orders ORDER BY CASE WHEN note IS DISTINCT FROM 'n1' THEN 1 ELSE 0 END, id",
    "WITH p AS (SELECT 1) SELECT tags, total FROM orders ORDER BY at, id FOR UPDATE",
    "SELECT tenant_id, count(*) FROM orders GROUP BY tenant_id ORDER BY max(id)",
    "SELECT * FROM orders ORDER BY id FOR UPDATE SKIP LOCKED",
    // Not as their labels would sort.
    "SELECT mood, count(*) FROM orders GROUP BY mood ORDER BY mood",
    "SELECT count(*), mood, max(id), note FROM orders GROUP BY 2, note ORDER BY mood DESC, note",
    "SELECT DISTINCT mood FROM orders ORDER BY mood DESC",
    "SELECT id FROM orders ORDER BY mood, id DESC LIMIT 90",
    "SELECT min(mood), max(mood) FROM orders",
    "SELECT avg(id), avg(total), avg(tenant_id), avg(id % 3), count(*) FROM orders",
    "SELECT avg(total), avg(id) FROM orders WHERE id < 0",
    "SELECT avg(total) AS a, note AS sum FROM orders GROUP BY note HAVING count(*) > 3 AND count(total) <= 34 ORDER BY sum, 1",
    "SELECT max(id), /* , */ Avg (total) AS b FROM orders GROUP BY note, mood -- BY 1\n ORDER BY 2 /* c */ DESC, 1 LIMIT 4 OFFSET 1",
    "SELECT count(*), note FROM orders GROUP BY 2 -- c\n, id % 7 HAVING count(*) <> 6 ORDER BY 1, 2",
    "SELECT count(*) FROM orders HAVING count(*) > 500",
    "SELECT count(*) FROM orders HAVING count(*) = '200'",
  ];
  const formats: readonly (readonly [string, RunOptions])[] = [
    ["simple", {}],
    ["text", { protocol: "extended" }],
    ["binary", { protocol: "extended", resultFormats: [1] }],
    ["binary to a slow client", { protocol: "extended", resultFormats: [1], isSlow: true }],
  ];
  for (const [name, options] of formats) {
    test.each(ordered)(`${name}: %s`, async (sql) => {
      const { expected, actual } = await both(sql, options);
      expect(actual.error).toBeNull();
      expect(["many", "one"]).toContain(actual.route.kind);
      expect(actual.rows).toEqual(expected.rows);
      expect(actual.tag).toBe(expected.tag);
      expect(actual.columns).toEqual(expected.columns);
    });
  }

  test.each([
    "SELECT * FROM orders",
    "SELECT o.id, i.qty FROM orders o LEFT JOIN items i ON i.tenant_id = o.tenant_id",
    "SELECT DISTINCT tenant_id, note FROM orders",
    "SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) FROM orders",
    "COPY orders (id, note) TO STDOUT",
  ])("in any order: %s", async (sql) => {
    const { expected, actual } = await both(sql);
    expect(actual.route.kind).toBe("many");
    expect(sorted(actual)).toEqual(sorted(expected));
    expect(actual.tag).toBe(expected.tag);
    expect([...new Set(actual.frames)].join("")).toBe(sql.startsWith("COPY") ? "Hdc" : "TD");
  });

  test("1.5 and 1.50 are one group", async () => {
    const { expected, actual } = await both("SELECT total, count(*) FROM orders GROUP BY total");
    const asNumbers = ({ rows }: StatementResult) =>
      rows.map(([total, count]) => `${Number(total ?? "NaN")} ${count}`).sort();
    expect(asNumbers(actual)).toEqual(asNumbers(expected));
  });

  test("LIMIT and OFFSET as parameters", async () => {
    const sql = "SELECT id FROM orders ORDER BY id LIMIT $1 OFFSET $2";
    const { expected, actual } = await both(sql, { parameters: ["3", "20"] });
    expect(actual.rows).toEqual(expected.rows);
  });
});

test("HAVING with a parameter", async () => {
  await load();
  const sql = "SELECT note, count(*) FROM orders GROUP BY note HAVING count(mood) > $1 ORDER BY 1";
  for (const least of ["39", "40"]) {
    const { expected, actual } = await both(sql, { parameters: [least] });
    expect(actual.error).toBeNull();
    expect(actual.rows).toEqual(expected.rows);
  }
});

test("an enum's label that came later fails until the schema is read again", async () => {
  await load();
  for (const name of ["whole", "s0", "s1"]) {
    await server.sql(
      name,
      "CREATE TYPE size AS ENUM ('small', 'big'); ALTER TABLE orders ADD size size",
    );
  }
  const readFacts = async () => {
    const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
    return createRouter(shop({ shardCount: 2 }), parseSchemaFacts(String(facts?.facts)));
  };
  const before = await readFacts();
  for (const name of ["whole", "s0", "s1"]) {
    await server.sql(name, "ALTER TYPE size ADD VALUE 'medium' BEFORE 'big'");
    await server.sql(
      name,
      "UPDATE orders SET size = (ARRAY['small', 'medium', 'big', NULL])[id % 4 + 1]::size",
    );
  }
  for (const sql of [
    "SELECT size, count(*) FROM orders GROUP BY size ORDER BY size",
    "SELECT id FROM orders ORDER BY size DESC, id",
    "SELECT max(size) FROM orders WHERE id % 4 < 2",
  ]) {
    expect((await shards.run(before, sql)).error?.sqlState).toBe("0A000");
    await using whole = await Shards.connect(server, ["whole"]);
    const expected = await whole.run(UNSHARDED, sql);
    const actual = await shards.run(await readFacts(), sql);
    expect(actual.rows).toEqual(expected.rows);
  }
  for (const name of ["whole", "s0", "s1"]) await server.sql(name, "ALTER TABLE orders DROP size");
});

test("an average has the scale that PostgreSQL gives it", async () => {
  const rows = await server.sql(
    "whole",
    `SELECT s::text, n::text, (s / n)::text AS average FROM (
      SELECT round((random() - 0.5)::numeric * 10::numeric ^ (g % 27 - 8), g % 12) AS s,
        1 + floor(random() ^ 4 * 10::numeric ^ (g % 11)) ::numeric AS n
      FROM generate_series(1, 3000) g) r`,
  );
  for (const { s, n, average } of rows) {
    const sum = parseDecimal(String(s));
    if (sum === null) throw new Error(`no number: ${s}`);
    expect([s, n, formatDecimal(averageOf(sum, BigInt(String(n))))]).toEqual([s, n, average]);
  }
});

test("facts of the schema: a view is what it is made of", () => {
  const routed = (sql: string) => router.route(sql, null);
  expect(routed("SELECT * FROM totals")).toMatchObject({ kind: "refused", sqlState: "0A000" });
  expect(routed("SELECT * FROM plan_names")).toEqual({ kind: "any" });
  expect(routed("SELECT * FROM missing")).toMatchObject({ kind: "refused", sqlState: "42P01" });
});

describe("what shards cannot answer together", () => {
  beforeAll(load);

  test.each([
    ["SELECT doc, count(*) FROM orders GROUP BY doc", "0A000"],
    // Floating point: the sum depends on the order.
    ["SELECT avg(ratio) FROM orders", "0A000"],
    ["SELECT id, doc FROM orders ORDER BY doc", "0A000"],
    ["SELECT 1 / (id - 150) FROM orders", "22012"],
  ])("%s", async (sql, sqlState) => {
    const result = await shards.run(router, sql);
    expect(result.error?.sqlState).toBe(sqlState);
    // Nothing is left in flight.
    expect((await shards.run(router, "SELECT count(*) FROM orders")).rows).toEqual([["200"]]);
  });
});

describe("writes", () => {
  beforeEach(load);

  const contents = async (name: string) =>
    await server.sql(name, "SELECT orders::text FROM orders ORDER BY tenant_id, id");
  const all = async () => [...(await contents("s0")), ...(await contents("s1"))];
  const text = (rows: readonly Record<string, unknown>[]) =>
    rows.map((row) => String(row.orders)).sort();

  test.each([
    "UPDATE orders SET total = total + 1 WHERE id % 2 = 0 RETURNING id, total",
    "DELETE FROM orders WHERE tenant_id IN (1, 2, 5) RETURNING id",
    "INSERT INTO orders (tenant_id, id) SELECT tenant_id, id + 1000 FROM orders WHERE id < 50 RETURNING tenant_id, id",
    "INSERT INTO orders (tenant_id, id, note) VALUES (1, 900, 'a'), (2, 901, ');'), (3, 902, $$x$$) RETURNING *",
  ])("%s", async (sql) => {
    const { expected, actual } = await both(sql);
    expect(actual.error).toBeNull();
    expect(sorted(actual)).toEqual(sorted(expected));
    expect(actual.tag).toBe(expected.tag);
    expect(text(await all())).toEqual(text(await contents("whole")));
  });

  test("a split INSERT binds each part's own parameters", async () => {
    const sql =
      "INSERT INTO orders (tenant_id, id, note) VALUES ($1, $4, $3), ($2, $5, $3) ON CONFLICT (tenant_id, id) DO UPDATE SET note = $6 RETURNING id";
    const parameters = ["1", "5", "same", "800", "801", "other"];
    for (const round of ["same", "other"]) {
      const result = await shards.run(router, sql, { parameters });
      expect(result.tag).toBe("INSERT 0 2");
      expect(result.route.kind).toBe("split");
      const found = await shards.run(router, "SELECT note FROM orders WHERE id IN (800, 801)");
      expect(found.rows).toEqual([[round], [round]]);
    }
  });

  test("rows are on the shard of their key", async () => {
    for (const shard of [0, 1]) {
      const rows = await server.sql(`s${shard}`, "SELECT tenant_id FROM orders");
      expect(rows.length).toBeGreaterThan(0);
      for (const row of rows) {
        expect(shardOfText(String(row.tenant_id), "bigint", 2)).toBe(shard);
      }
    }
  });

  test("omnisharded rows are on every shard and counted once", async () => {
    const result = await shards.run(
      router,
      "INSERT INTO plans VALUES (1, 'a'), (2, 'b') RETURNING id",
    );
    expect(result.tag).toBe("INSERT 0 2");
    expect(result.rows).toEqual([["1"], ["2"]]);
    for (const name of ["s0", "s1"]) {
      expect(await server.sql(name, "SELECT * FROM plans")).toHaveLength(2);
    }
  });

  test("an error on the second shard leaves nothing on the first", async () => {
    const key = (shard: number) =>
      String(
        [1, 2, 3, 4, 5, 6, 7, 8].find((one) => shardOfText(String(one), "bigint", 2) === shard),
      );
    const result = await shards.run(
      router,
      `INSERT INTO orders (tenant_id, id, note) VALUES (${key(0)}, 5000, 'ok'), (${key(1)}, 5000, '${"x".repeat(50)}')`,
    );
    expect(result.error?.sqlState).toBe("22001");
    expect((await shards.run(router, "SELECT count(*) FROM orders WHERE id = 5000")).rows).toEqual([
      ["0"],
    ]);
  });
});

test("a write waits for the first shard before it touches the second", async () => {
  await load();
  await using holder = await Shards.connect(server, ["s0"]);
  await holder.connections[0]?.query("BEGIN; UPDATE orders SET total = 0");
  const sql = "UPDATE orders SET total = 1";
  const blocked = shards.run(router, sql);
  const activity = `SELECT datname, wait_event_type FROM pg_stat_activity WHERE query = '${sql}'`;
  // Two such statements, each the first on one of the shards, would wait for each other for ever.
  await until(
    async () => {
      const [only, other] = await server.sql("whole", activity);
      expect(other).toBeUndefined();
      return only?.datname === "s0" && only.wait_event_type === "Lock";
    },
    { timeoutMs: 10_000, what: "the statement to wait on the first shard" },
  );
  await holder.connections[0]?.query("COMMIT");
  expect((await blocked).tag).toBe("UPDATE 200");
});

test("a shard that is lost in the middle: one error, and the other shard is at rest", async () => {
  await load();
  await using others = await Shards.connect(server, ["s0", "s1"]);
  const running = others.run(router, "SELECT id, pg_sleep(5) FROM orders WHERE id < 3");
  const ended = expect(running).rejects.toThrow(/connection/);
  await until(
    async () => {
      const found = await server.sql(
        "whole",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 's1' AND wait_event = 'PgSleep'",
      );
      return found.length > 0;
    },
    { timeoutMs: 10_000, what: "the statement to run on the second shard" },
  );
  await server.sql(
    "whole",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = 's0' AND wait_event = 'PgSleep'",
  );
  await ended;
  expect(others.connections.map((connection) => connection.isLost)).toEqual([false, true]);
  expect(others.connections[0]?.transactionStatus).not.toBe("T");
});

describe("a row whose key changes moves", () => {
  beforeEach(load);

  const elsewhere = (key: number) => {
    const shard = shardOfText(String(key), "bigint", 2);
    return [100, 101, 102, 103, 104, 105, 106].find(
      (one) => shardOfText(String(one), "bigint", 2) !== shard,
    );
  };

  test.each(["simple", "extended"] as const)("with all its values, %s", async (protocol) => {
    for (const name of ["whole", "s0", "s1"]) {
      await server.sql(
        name,
        `UPDATE orders SET doc = 'null', tags = '{"a,b",NULL,"\\"q\\""}', ratio = 'NaN', note = 'it''s \\ ' || E'\\n' WHERE tenant_id = 2 AND id % 2 = 1`,
      );
    }
    const sql = `UPDATE orders SET tenant_id = ${elsewhere(2)}, id = id + 10000, "note" = note || '=, WHERE', total = 3.14159 WHERE tenant_id = 2`;
    const { expected, actual } = await both(sql, { protocol });
    expect(actual.error).toBeNull();
    expect(actual.route.kind).toBe("moveRow");
    expect(actual.tag).toBe(expected.tag);
    const after = "SELECT orders::text FROM orders WHERE tenant_id > 90 OR tenant_id = 2";
    const { expected: whole, actual: split } = await both(after);
    expect(whole.rows.length).toBeGreaterThan(5);
    expect(sorted(split)).toEqual(sorted(whole));
  });

  test("no row: UPDATE 0", async () => {
    const result = await shards.run(
      router,
      "UPDATE orders SET tenant_id = $1 WHERE tenant_id = $2 AND id = -1",
      {
        parameters: [String(elsewhere(2)), "2"],
      },
    );
    expect(result.tag).toBe("UPDATE 0");
  });

  test("a conflict on the new shard leaves the row where it was", async () => {
    const to = elsewhere(2);
    const [row] = (await shards.run(router, "SELECT id FROM orders WHERE tenant_id = 2 LIMIT 1"))
      .rows;
    const id = row?.[0];
    await shards.run(router, `INSERT INTO orders (tenant_id, id) VALUES (${to}, ${id})`);
    const result = await shards.run(
      router,
      `UPDATE orders SET tenant_id = ${to} WHERE tenant_id = 2 AND id = ${id}`,
    );
    expect(result.error?.sqlState).toBe("23505");
    expect(
      (await shards.run(router, `SELECT count(*) FROM orders WHERE tenant_id = 2 AND id = ${id}`))
        .rows,
    ).toEqual([["1"]]);
  });
});

describe("COPY FROM STDIN", () => {
  beforeEach(load);

  const dump = async (options: string) => {
    await using whole = await Shards.connect(server, ["whole"]);
    const columns = "(note, tenant_id, id, total, tags)";
    const result = await whole.run(UNSHARDED, `COPY orders ${columns} TO STDOUT ${options}`);
    return { columns, data: result };
  };
  const reload = async (
    sql: string,
    pieces: readonly (Buffer | null)[],
    protocol: "simple" | "extended",
  ) => {
    for (const name of ["s0", "s1"]) await server.sql(name, "TRUNCATE orders");
    return await shards.run(router, sql, { copyData: pieces, protocol });
  };
  const every = (data: Buffer, size: number) =>
    Array.from({ length: Math.ceil(data.length / size) }, (_, index) =>
      data.subarray(index * size, (index + 1) * size),
    );

  test.each([
    ["", "text"],
    ["(FORMAT binary)", "binary"],
    ["(FORMAT csv, HEADER)", "csv"],
    ["(FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'nil')", "csv with its own marks"],
  ])("%s", async (options) => {
    await server.sql(
      "whole",
      `UPDATE orders SET note = CASE id % 4 WHEN 0 THEN E'a\\nb\\r\\t"''\\\\;,' WHEN 1 THEN '\\.' WHEN 2 THEN 'nil' ELSE note END, tags = ARRAY['x,y', E'p\\nq']`,
    );
    const { columns, data } = await dump(options);
    const bytes = data.copied;
    for (const [size, protocol] of [
      [1, "simple"],
      [7, "extended"],
      [100_000, "simple"],
    ] as const) {
      const result = await reload(
        `COPY orders ${columns} FROM STDIN ${options}`,
        every(bytes, size),
        protocol,
      );
      expect(result.error).toBeNull();
      expect(result.tag).toBe("COPY 200");
      const check = "SELECT note, tenant_id, id, total, tags FROM orders ORDER BY id";
      const { expected, actual } = await both(check);
      expect(actual.rows).toEqual(expected.rows);
    }
    for (const shard of [0, 1]) {
      const rows = await server.sql(`s${shard}`, "SELECT tenant_id FROM orders");
      for (const row of rows) expect(shardOfText(String(row.tenant_id), "bigint", 2)).toBe(shard);
    }
  });

  test("a client that fails, a row that fails, a key that is none: nothing stays", async () => {
    const copy = "COPY orders (tenant_id, id) FROM STDIN";
    const failed = await reload(copy, [Buffer.from("1\t1\n2\t2\n3\t3\n"), null], "simple");
    expect(failed.error?.sqlState).toBe("57014");
    const duplicate = await reload(copy, [Buffer.from("1\t1\n2\t2\n5\t5\n1\t1\n")], "extended");
    expect(duplicate.error?.sqlState).toBe("23505");
    const wrong = await reload(copy, [Buffer.from("1\t1\nx\t2\n")], "simple");
    expect(wrong.error).toEqual({
      sqlState: "22P04",
      message: "COPY row 2: the sharding key is no bigint",
    });
    const missing = await reload(copy, [Buffer.from("\\N\t1\n")], "simple");
    expect(missing.error?.message).toBe("COPY row 1: the sharding key is null");
    expect((await shards.run(router, "SELECT count(*) FROM orders")).rows).toEqual([["0"]]);
  });

  test("an omnisharded table gets all rows on every shard", async () => {
    const result = await reload("COPY plans FROM STDIN", [Buffer.from("1\ta\n2\tb\n")], "simple");
    expect(result.tag).toBe("COPY 2");
    expect(await server.sql("s1", "SELECT * FROM plans")).toHaveLength(2);
  });
});
