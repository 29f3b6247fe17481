import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { guardRows } from "../../../src/resharding/switch/row-guards.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { CORPUS, SCHEMA, TRIGGERS } from "./omnisharded-corpus.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

const SHARDS = ["shard_0", "shard_1", "shard_2"];

const TABLES = [
  "doc",
  "price",
  "price_log",
  "tag",
  "flag",
  "plan",
  "session",
  "version",
  "pair",
  "event",
  "child",
];

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  await server.sql("postgres", "CREATE ROLE app LOGIN");
  for (const name of SHARDS) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
    await server.sql(name, TRIGGERS);
    const shard = await connectSql(server.address(name), { applicationName: "test" });
    await guardRows(
      shard,
      TABLES.map((table) => ({ schema: "public", name: table })),
      async (_table, act) => await act(),
    );
    await shard.end();
    await server.sql(
      name,
      `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
       GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app`,
    );
  }
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

beforeEach(async () => {
  // Each shard draws other values, as after a migration.
  for (const [shard, name] of SHARDS.entries())
    await server.sql(
      name,
      `TRUNCATE ${[...TABLES, "tenant", "usage", "spy"].join(", ")};
       ${["flag", "plan", "child", "doc", "price", "price_log", "tag"]
         .map((table) => `ALTER SEQUENCE ${table}_id_seq INCREMENT 3 RESTART ${shard + 1};`)
         .join("\n")}`,
    );
  proxy = await startProxy(config());
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

const config = () =>
  testConfig({
    databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
    users: [{ name: "app" }, { name: "postgres" }],
    general: { defaultPoolSize: 8 },
    shardedTables: [
      { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });

/** All omnisharded tables of one shard, row by row. */
async function rowsOf(database: string): Promise<Readonly<Record<string, readonly unknown[]>>> {
  const all = TABLES.map((table) => `SELECT '${table}' AS name, t::text AS row FROM ${table} t`);
  const found = await server.sql(database, `${all.join(" UNION ALL ")} ORDER BY 1, 2`);
  const rows: Record<string, unknown[]> = Object.fromEntries(TABLES.map((table) => [table, []]));
  for (const { name, row } of found) rows[String(name)]?.push(row);
  return rows;
}

async function expectSame(): Promise<Readonly<Record<string, readonly unknown[]>>> {
  const [first, ...others] = await Promise.all(SHARDS.map(rowsOf));
  for (const other of others) expect(other).toEqual(first);
  return first ?? {};
}

const client = async (): Promise<pg.Client> => await proxy.client("app", { user: "app" });

describe("statements leave the same rows on every shard", () => {
  for (const protocol of ["simple", "extended", "prepared"] as const)
    test(`${protocol}: the corpus`, async () => {
      const app = await client();
      for (const [index, { sql, values, count }] of CORPUS.entries()) {
        if (count === -1 && sql.includes("DEFAULT VALUES")) {
          await expect(app.query(sql), sql).rejects.toMatchObject({ code: "23502" });
          continue;
        }
        const isBound = protocol !== "simple" || values !== undefined;
        const result = await app.query({
          text: sql,
          ...(isBound ? { values: [...(values ?? [])] } : {}),
          ...(protocol === "prepared" ? { name: `s${index}` } : {}),
          ...(protocol === "extended" ? { queryMode: "extended" } : {}),
        } as pg.QueryConfig);
        if (count >= 0) expect(result.rowCount, sql).toBe(count);
        await expectSame();
      }
    });
});

describe("what a client sees", () => {
  test("RETURNING gives the client's columns alone, in its formats", async () => {
    const app = await client();
    const text =
      "INSERT INTO flag (name) VALUES ('r'), ('s') RETURNING name, id, upper(name) AS up";
    const simple = await app.query(text);
    expect(simple.fields.map(({ name }) => name)).toEqual(["name", "id", "up"]);
    expect(simple.rows).toMatchObject([
      { name: "r", up: "R" },
      { name: "s", up: "S" },
    ]);
    const star = await app.query({
      text: "UPDATE flag SET enabled = $1 RETURNING *",
      values: [true],
    });
    expect(star.fields).toHaveLength(6);
    const binary = await app.query({
      text: "UPDATE flag SET enabled = $1 WHERE name = 'r' RETURNING enabled, name",
      values: [false],
      binary: true,
    } as pg.QueryConfig);
    expect(binary.rows).toEqual([{ enabled: false, name: "r" }]);
    const rowless = await app.query({ text: "DELETE FROM flag WHERE name = $1", values: ["r"] });
    expect(rowless.fields).toEqual([]);
    await expectSame();
  });

  test("more rows than are held at once, to a client that reads slowly", async () => {
    const app = await client();
    const text =
      "INSERT INTO pair (a, b, note) SELECT g, 1, repeat(md5(g::text), 20) FROM generate_series(1, 9000) g RETURNING *";
    const { rows, rowCount } = await app.query(text);
    expect([rows.length, rowCount]).toEqual([9000, 9000]);
    await expectSame();
  });

  test("errors of the statement are PostgreSQL's, and nothing stays anywhere", async () => {
    const app = await client();
    await app.query("INSERT INTO flag (name) VALUES ('a')");
    await expect(app.query("INSERT INTO flag (name) VALUES ('b'), ('a')")).rejects.toMatchObject({
      code: "23505",
      constraint: "flag_name_key",
    });
    await expect(app.query("UPDATE flag SET name = NULL")).rejects.toMatchObject({ code: "23502" });
    await expect(app.query("UPDATE flag SET nothing = 1")).rejects.toMatchObject({ code: "42703" });
    expect((await expectSame()).flag).toHaveLength(1);
  });

  test("in a transaction, with savepoints, all or nothing", async () => {
    const app = await client();
    await app.query("BEGIN");
    await app.query("INSERT INTO flag (name) VALUES ('a')");
    await app.query("SAVEPOINT one");
    await app.query("INSERT INTO flag (name) VALUES ('b')");
    await app.query("ROLLBACK TO SAVEPOINT one");
    await app.query("UPDATE flag SET token = gen_random_uuid()");
    const { rows } = await app.query("SELECT name FROM flag");
    expect(rows).toEqual([{ name: "a" }]);
    await app.query("COMMIT");
    expect((await expectSame()).flag).toHaveLength(1);
    await app.query("BEGIN");
    await app.query("DELETE FROM flag");
    await app.query("ROLLBACK");
    expect((await expectSame()).flag).toHaveLength(1);
  });

  test("several statements in one text", async () => {
    const app = await client();
    await app.query(
      "INSERT INTO flag (name) VALUES ('a'); UPDATE flag SET token = gen_random_uuid(); INSERT INTO event VALUES ('x', now())",
    );
    const rows = await expectSame();
    expect([rows.flag?.length, rows.event?.length]).toEqual([1, 1]);
  });

  test.each([
    [
      "UPDATE flag SET enabled = (SELECT count(*) > 1 FROM tenant t WHERE t.name = flag.name)",
      /must not read a sharded table/,
    ],
    ["UPDATE flag SET enabled = true WHERE ctid = '(0,1)'", /ctid/],
    ["UPDATE event SET at = now()", /CURRENT_TIMESTAMP|now\(\)/],
    [
      "SET extra_float_digits = 0; INSERT INTO plan (name, ratio) VALUES ('x', random())",
      /extra_float_digits/,
    ],
  ])("refused with a reason and a hint: %s", async (sql, reason) => {
    const app = await client();
    let error: unknown;
    for (const each of sql.split("; "))
      error = await app.query(each).then(
        () => null,
        (thrown: unknown) => thrown,
      );
    expect(error).toMatchObject({ code: "0A000", hint: expect.any(String) });
    expect(String(error)).toMatch(reason);
    await expectSame();
  });
});

test("clients beside each other: whoever sees a row on the first shard finds it on the others", async () => {
  const clients = await Promise.all(Array.from({ length: 6 }, client));
  const errors: string[] = [];
  await Promise.all(
    clients.map(async (app, who) => {
      for (let turn = 0; turn < 40; turn++) {
        const name = `n${(turn * 7 + who) % 5}`;
        const statements = [
          `INSERT INTO flag (name) VALUES ('${name}') ON CONFLICT (name) DO UPDATE SET enabled = NOT flag.enabled`,
          `UPDATE flag SET token = gen_random_uuid() WHERE name = '${name}' AND enabled`,
          `DELETE FROM flag WHERE name = '${name}' AND NOT enabled`,
        ];
        const sql = statements[(turn + who) % 3] ?? "";
        await app.query(sql).catch((error: unknown) => errors.push(String(error)));
      }
    }),
  );
  expect(errors).toEqual([]);
  await expectSame();
});

test("what runs everywhere for want of a key meets the same rows on every shard", async () => {
  const clients = await Promise.all(Array.from({ length: 6 }, client));
  const errors: string[] = [];
  await Promise.all(
    clients.map(async (app, who) => {
      for (let turn = 0; turn < 40; turn++) {
        const statements = [
          `INSERT INTO event (what, at) VALUES ('${turn % 3}', '2026-01-01')`,
          `UPDATE event SET what = what || '${who}' WHERE length(what) < 4`,
          `DELETE FROM event WHERE what LIKE '%${who}' AND length(what) > 3`,
          `UPDATE pair SET b = b + 100 WHERE a = ${turn % 5}`,
          `INSERT INTO pair (a, b) VALUES (${turn % 5}, ${turn * 6 + who}) ON CONFLICT DO NOTHING`,
        ];
        const sql = statements[(turn + who) % 5] ?? "";
        await app.query(sql).catch((error: unknown) => errors.push(String(error)));
      }
    }),
  );
  // Keys that meet, as they would on one PostgreSQL.
  expect(errors.filter((error) => !/pair_pkey/.test(error))).toEqual([]);
  await expectSame();
});

test("the first shard commits last: who sees a row there finds it on the others", async () => {
  const last = SHARDS[2] ?? "";
  await server.sql(
    last,
    `CREATE OR REPLACE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
     CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON flag DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION wait()`,
  );
  const holder = new pg.Client({
    host: "127.0.0.1",
    port: server.port,
    user: "postgres",
    database: last,
  });
  await holder.connect();
  try {
    await holder.query("SELECT pg_advisory_lock(7)");
    const [one, two] = [await client(), await client()];
    const slow = one.query("INSERT INTO flag (name) VALUES ('late')");
    const waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    await until(async () => (await server.sql(last, waiting)).length === 1, {
      timeoutMs: 10_000,
      what: "the commit to wait on the last shard",
    });
    // Not there yet: on no shard, where it could be seen before it is everywhere.
    const { rowCount } = await two.query("UPDATE flag SET enabled = true WHERE name = 'late'");
    expect(rowCount).toBe(0);
    await holder.query("SELECT pg_advisory_unlock(7)");
    await slow;
    await expectSame();
  } finally {
    await holder.end();
    await server.sql(last, "DROP TRIGGER waits ON flag");
  }
});

const ONE_BY_ONE: readonly string[] = [
  "INSERT INTO doc (title) VALUES ('a'), ('b')",
  "UPDATE doc SET title = 'c' WHERE title = 'a'",
  "INSERT INTO doc (id, title) VALUES (1, 'd') ON CONFLICT (id) DO UPDATE SET revision = doc.revision + 1",
  "INSERT INTO tag (doc_id, name) SELECT id, 'x' || id FROM doc",
  "DELETE FROM doc WHERE title = 'b'",
  "INSERT INTO price (amount) VALUES (1), (2), (3)",
  "UPDATE price SET amount = amount + 1 WHERE amount >= 2",
  "UPDATE price SET amount = 1000 WHERE amount = 1 RETURNING id, note",
  "UPDATE price SET id = id + 1000, amount = 7 WHERE amount = 3",
  "DELETE FROM price WHERE note IS NULL",
];

describe("triggers have their effect once", () => {
  test.each(["simple", "extended"])("%s", async (protocol) => {
    const app = await client();
    for (const key of [1, 2, 3, 4, 5])
      await app.query("INSERT INTO usage VALUES ($1, 2, 0)", [key]);
    for (const text of ONE_BY_ONE) {
      if (protocol === "simple") await app.query(text);
      else await app.query({ text, values: [] });
      await expectSame();
    }
    const rows = await expectSame();
    expect([rows.doc?.length, rows.tag?.length, rows.price_log?.length]).toEqual([1, 2, 4]);
  });

  test("what a trigger writes in sharded tables, it writes on each shard", async () => {
    const app = await client();
    await app.query("INSERT INTO price (amount) VALUES (1)");
    const { rows } = await app.query("SELECT id FROM price");
    for (const key of [1, 2, 3, 4, 5])
      await app.query("INSERT INTO usage VALUES ($1, $2, 0)", [key, rows[0].id]);
    await app.query("UPDATE price SET amount = 9");
    const { rows: usage } = await app.query("SELECT DISTINCT tenant_id, amount::int FROM usage");
    expect(usage).toHaveLength(5);
    expect(usage.every(({ amount }) => amount === 9)).toBe(true);
  });

  test("a trigger of a sharded table may not write an omnisharded one", async () => {
    const app = await client();
    const insert = app.query("INSERT INTO spy VALUES (1)");
    await expect(insert).rejects.toMatchObject({ code: "27000", hint: expect.any(String) });
    await expectSame();
  });

  test("without its guards a table with triggers is not written", async () => {
    for (const name of SHARDS)
      await server.sql(name, 'ALTER TABLE doc DISABLE TRIGGER "!sluice_replay"');
    await using bare = await startProxy(config());
    const app = await bare.client("app", { user: "app" });
    const insert = app.query("INSERT INTO doc (title) VALUES ('x')");
    await expect(insert).rejects.toMatchObject({ code: "0A000", message: /doc_touch/ });
    // Known too late: then the shards' answers say it.
    for (const name of SHARDS)
      await server.sql(name, 'ALTER TABLE doc ENABLE TRIGGER "!sluice_replay"');
    const known = await client();
    await known.query("INSERT INTO doc (title) VALUES ('x')");
    for (const name of SHARDS)
      await server.sql(name, 'ALTER TABLE doc DISABLE TRIGGER "~sluice_replay"');
    const late = known.query("UPDATE doc SET title = 'y'");
    await expect(late).rejects.toMatchObject({ code: "27000", hint: /verify --omnisharded/ });
    for (const name of SHARDS)
      await server.sql(name, 'ALTER TABLE doc ENABLE TRIGGER "~sluice_replay"');
    await expectSame();
  });
});

describe("definitions that make values", () => {
  const same = async (table: string): Promise<number> => {
    const [first, ...others] = await Promise.all(
      SHARDS.map((name) => server.sql(name, `SELECT t::text FROM ${table} t ORDER BY 1`)),
    );
    for (const other of others) expect(other).toEqual(first);
    return first?.length ?? 0;
  };

  test("ALTER TABLE", async () => {
    const owner = await proxy.client("app");
    await owner.query("INSERT INTO doc (title) SELECT 't' || g FROM generate_series(1, 3000) g");
    await owner.query(
      "ALTER TABLE doc ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid(), ADD seen timestamptz DEFAULT now(), ADD plain int DEFAULT 3",
    );
    await owner.query({ text: "ALTER TABLE doc ADD COLUMN nr serial", values: [] });
    expect(await same("doc")).toBe(3000);
    await owner.query("INSERT INTO doc (title) VALUES ('new')");
    await owner.query("ALTER TABLE doc ALTER COLUMN plain TYPE numeric USING random()");
    expect(await same("doc")).toBe(3001);
    await expect(
      owner.query("ALTER TABLE event ADD u uuid DEFAULT gen_random_uuid()"),
    ).rejects.toMatchObject({
      code: "0A000",
      message: /"u"/,
    });
    await owner.query("ALTER TABLE doc DROP token, DROP seen, DROP plain, DROP nr");
  });

  test("CREATE TABLE AS, materialized views", async () => {
    const owner = await proxy.client("app");
    await owner.query("INSERT INTO flag (name) VALUES ('a'), ('b')");
    const made = await owner.query(
      "CREATE TABLE made AS SELECT name, random() AS r, clock_timestamp() AS at FROM flag",
    );
    expect([made.command, made.rowCount]).toEqual(["SELECT", 2]);
    expect(await same("made")).toBe(2);
    await owner.query("CREATE TABLE IF NOT EXISTS made AS SELECT 1");
    expect(await same("made")).toBe(2);
    await owner.query("CREATE MATERIALIZED VIEW flags AS SELECT name FROM flag");
    expect(await same("flags")).toBe(2);
    for (const [sql, reason] of [
      ["CREATE MATERIALIZED VIEW late AS SELECT now() AS at", /now\(\)/],
      ["CREATE TABLE copied AS SELECT * FROM tenant", /differ on every shard/],
      ["CREATE TABLE copied AS SELECT 1 AS tenant_id", /differ on every shard/],
    ] as const)
      await expect(owner.query(sql)).rejects.toMatchObject({ code: "0A000", message: reason });
    await owner.query("DROP TABLE made");
    await owner.query("DROP MATERIALIZED VIEW flags");
  });
});

test("R53: a column that another node has added is no reason for rows to differ", async () => {
  const app = await client();
  await app.query("INSERT INTO version VALUES ('before')");
  for (const name of SHARDS)
    await server.sql(name, "ALTER TABLE version ADD COLUMN token uuid DEFAULT gen_random_uuid()");
  try {
    await app.query("INSERT INTO version (version) VALUES ('stale')");
    const sql = "SELECT token FROM version WHERE version = 'stale'";
    const [first, ...others] = await Promise.all(SHARDS.map((name) => server.sql(name, sql)));
    expect(first).toHaveLength(1);
    for (const rows of others) expect(rows).toEqual(first);
  } finally {
    for (const name of SHARDS) await server.sql(name, "ALTER TABLE version DROP COLUMN token");
  }
});

test("tables that are made later get their guards, as do all with a first trigger", async () => {
  const owner = await proxy.client("app");
  await owner.query("CREATE TABLE later (id serial PRIMARY KEY, name text)");
  await owner.query("INSERT INTO later (name) VALUES ('x')");
  await owner.query(
    `CREATE FUNCTION count_later() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN INSERT INTO later (name) VALUES (md5(random()::text)); RETURN NEW; END'`,
  );
  await owner.query(
    "CREATE TRIGGER count_later AFTER INSERT ON version FOR EACH ROW EXECUTE FUNCTION count_later()",
  );
  await owner.query("INSERT INTO version VALUES ('late')");
  const sql = "SELECT t::text FROM later t ORDER BY id";
  const [first, ...others] = await Promise.all(SHARDS.map((name) => server.sql(name, sql)));
  expect(first).toHaveLength(2);
  for (const other of others) expect(other).toEqual(first);
  await owner.query("DROP TRIGGER count_later ON version");
  await owner.query("DROP TABLE later");
  await expectSame();
});

test("subqueries over sharded tables are computed once, over all shards", async () => {
  const app = await client();
  await app.query("INSERT INTO flag (name) VALUES ('a'), ('b')");
  for (let key = 1; key <= 12; key++)
    await app.query("INSERT INTO tenant VALUES ($1, $2, $3)", [key, key % 3, `it's ${key}`]);
  const steps: readonly (readonly [string, readonly unknown[], number])[] = [
    ["INSERT INTO child (code) SELECT name FROM tenant WHERE plan_id > $1", [0], 8],
    ["UPDATE flag SET enabled = (SELECT count(*) FROM tenant) = $1 WHERE name = $2", [12, "a"], 1],
    ["DELETE FROM child WHERE code IN (SELECT name FROM tenant WHERE tenant_id = 1)", [], 1],
    ["DELETE FROM child WHERE code NOT IN (SELECT name FROM tenant WHERE plan_id = 1)", [], 4],
    [
      "DELETE FROM flag WHERE NOT enabled AND EXISTS (SELECT 1 FROM tenant WHERE plan_id = 2)",
      [],
      1,
    ],
    ["DELETE FROM flag WHERE id IN (SELECT tenant_id FROM tenant WHERE plan_id = 77)", [], 0],
  ];
  for (const [text, values, count] of steps) {
    const { rowCount } = await app.query({ text, values: [...values] });
    expect(rowCount, text).toBe(count);
    await expectSame();
  }
  expect((await app.query("SELECT name, enabled FROM flag")).rows).toEqual([
    { name: "a", enabled: true },
  ]);
});

test("a limit of rows, as JDBC sends it with writes, cuts none where there are none", async () => {
  const app = await client();
  const text = "INSERT INTO flag (name) VALUES ($1)";
  await app.query({ text, values: ["limited"], rows: 1 } as pg.QueryConfig);
  expect((await expectSame()).flag).toHaveLength(1);
});
