import { spawn } from "node:child_process";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copyStreams from "pg-copy-streams";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("app");
  await server.sql("app", "CREATE TABLE item (id int PRIMARY KEY, name text)");
  proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: [{ server, database: "app" }] }],
      users: [{}, { name: "keeper", serverUser: "postgres", poolerMode: "session" }],
      general: { defaultPoolSize: 3 },
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

interface Finished {
  readonly code: number | null;
  readonly out: string;
}

async function run(command: string, args: readonly string[], input = ""): Promise<Finished> {
  return await new Promise((resolve, reject) => {
    const child = spawn(join(server.binDir, command), args, {
      env: { ...process.env, PGSSLMODE: "prefer" },
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out }));
    child.stdin.end(input);
  });
}

async function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("one shard, transaction pooling", () => {
  test("simple and extended protocol give PostgreSQL's own answers", async () => {
    const client = await proxy.client("app");
    expect((await client.query("SELECT 1 AS one, 'x' AS x")).rows).toEqual([{ one: 1, x: "x" }]);
    expect((await client.query("SELECT $1::int + 1 AS two", [1])).rows).toEqual([{ two: 2 }]);
    const several = (await client.query("SELECT 1; SELECT 2")) as unknown as pg.QueryResult[];
    expect(several.map((result) => result.rowCount)).toEqual([1, 1]);
    expect((await client.query("")).rows).toEqual([]);
    const error = await failure(client.query("SELECT * FROM nowhere"));
    expect([error.code, error.position, error.severity]).toEqual(["42P01", "15", "ERROR"]);
    expect((await client.query("SELECT 3 AS three")).rows).toEqual([{ three: 3 }]);
  });

  test("transactions: BEGIN is put off, errors fail them, ROLLBACK ends them", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    const level = await client.query("SHOW transaction_isolation");
    expect(level.rows).toEqual([{ transaction_isolation: "repeatable read" }]);
    await client.query("INSERT INTO item VALUES (1, 'a')");
    expect((await failure(client.query("SELECT 1/0"))).code).toBe("22012");
    expect((await failure(client.query("SELECT 1"))).code).toBe("25P02");
    await client.query("ROLLBACK");
    expect((await client.query("SELECT * FROM item")).rows).toEqual([]);
    const commit = await client.query("COMMIT");
    expect(commit.command).toBe("COMMIT");
    await client.query("BEGIN");
    await client.query("COMMIT");
  });

  test("SHOW CLIENTS tells how long statements and transactions took", async () => {
    const client = await proxy.client("app", { application_name: "timed" });
    const row = () => {
      const found = proxy.clientRows().find(({ application_name: name }) => name === "timed");
      const { query_time: query, transaction_time: transaction } = found ?? {};
      return { query: Number(query), transaction: Number(transaction) };
    };
    expect(row()).toEqual({ query: 0, transaction: 0 });
    await client.query("SELECT pg_sleep(0.03)");
    const { query, transaction } = row();
    expect(query).toBeGreaterThanOrEqual(30);
    expect(transaction).toBeGreaterThanOrEqual(query);
    await client.query("BEGIN");
    await client.query("SELECT pg_sleep($1)", [0.03]);
    // Its time is told when it is over.
    expect(row().transaction).toBe(transaction);
    expect(row().query).toBeGreaterThanOrEqual(query + 30);
    await client.query("COMMIT");
    expect(row().transaction).toBeGreaterThanOrEqual(transaction + 30);
  });

  test("prepared statements work on whatever server connection comes", async () => {
    const clients = await Promise.all([1, 2, 3, 4, 5].map(() => proxy.client("app")));
    for (let round = 0; round < 10; round++)
      await Promise.all(
        clients.map(async (client, index) => {
          const { rows } = await client.query({
            name: "same name",
            text: `SELECT $1::int AS value, ${index} AS client, pg_sleep(0.001)`,
            values: [round],
          });
          expect(rows[0]).toMatchObject({ value: round, client: index });
        }),
      );
  });

  test("COPY both ways", async () => {
    const client = await proxy.client("app");
    const lines = Array.from({ length: 20_000 }, (_, id) => `${id + 10}\tname ${id}\n`);
    await pipeline(Readable.from(lines), client.query(copyStreams.from("COPY item FROM STDIN")));
    expect((await client.query("SELECT count(*)::int FROM item")).rows[0]).toEqual({
      count: 20_000,
    });
    let bytes = 0;
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        bytes += chunk.length;
        done();
      },
    });
    await pipeline(client.query(copyStreams.to("COPY item TO STDOUT")), sink);
    expect(bytes).toBe(lines.join("").length);
    const broken = pipeline(
      Readable.from(["no number\n"]),
      client.query(copyStreams.from("COPY item FROM STDIN")),
    );
    expect((await failure(broken)).code).toBe("22P02");
    await client.query("DELETE FROM item");
  });

  test("a cancel request reaches the statement", async () => {
    const client = await proxy.client("app");
    const sleeping = failure(client.query("SELECT pg_sleep(30)"));
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
    await until(
      async () =>
        (
          await server.sql(
            "app",
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)'",
          )
        ).length > 0,
      { timeoutMs: 5_000, what: "the statement to run" },
    );
    const canceller = new pg.Client({ host: "127.0.0.1", port: proxy.port });
    const { connection } = canceller as unknown as {
      connection: {
        connect(port: number, host: string): void;
        on(name: string, f: () => void): void;
        cancel(id: number, key: number): void;
      };
    };
    connection.on("connect", () => connection.cancel(processID, secretKey));
    connection.connect(proxy.port, "127.0.0.1");
    expect((await sleeping).code).toBe("57014");
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  });

  test("psql and pgbench in every protocol", async () => {
    const url = proxy.url("app");
    const psql = await run("psql", [
      "-X",
      "-A",
      "-t",
      url,
      "-c",
      "SELECT 1; SELECT 2",
      "-c",
      "\\d item",
    ]);
    expect(psql.out).toContain("id|integer||not null");
    await run("pgbench", ["-i", "-s", "1", "-q", url]);
    for (const protocol of ["simple", "extended", "prepared"]) {
      // No more clients than servers: pgbench prepares in the middle of transactions, one client at a time.
      const bench = await run("pgbench", ["-n", "-M", protocol, "-c", "3", "-t", "50", url]);
      expect(bench.out).toContain("number of transactions actually processed: 150/150");
      expect(bench.code).toBe(0);
      const select = await run("pgbench", ["-n", "-S", "-M", protocol, "-c", "8", "-t", "50", url]);
      expect(select.out).toContain("number of transactions actually processed: 400/400");
    }
  });
});
