import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { FromDataPlane } from "../../../src/proxy/channel.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

const configTo = (database: string) =>
  testConfig({
    databases: [
      { name: "app", shards: [{ server, database }] },
      { name: "other", shards: [{ server, database: "other" }] },
    ],
    users: [{}, { name: "keeper", serverUser: "postgres", poolerMode: "session" }],
    general: { defaultPoolSize: 8 },
  });

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["before", "after", "other"]) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE ledger (id serial, note text); CREATE TABLE side AS SELECT '${name}' AS name`,
    );
  }
});

beforeEach(async () => {
  proxy = await startProxy(configTo("before"));
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

function hold(
  token: string,
  options: Partial<{
    clientTimeoutMs: number;
    maxClients: number;
    openTransactions: "wait" | "end";
  }> = {},
) {
  proxy.tell({
    kind: "hold",
    token,
    databases: ["app"],
    openTransactions: "wait",
    clientTimeoutMs: 20_000,
    maxClients: 100,
    maxBytes: 1_000_000,
    ...options,
  });
}

async function message<K extends FromDataPlane["kind"]>(kind: K) {
  return await until(
    () =>
      proxy.messages.find(
        (each): each is Extract<FromDataPlane, { kind: K }> => each.kind === kind,
      ),
    { timeoutMs: 5_000, what: `message ${kind}` },
  );
}

const settled = async (promise: Promise<unknown>) =>
  await Promise.race([
    promise.then(() => true),
    new Promise((resolve) => setTimeout(() => resolve(false), 150)),
  ]);

describe("hold", () => {
  test("running transactions finish, new ones wait, other databases do not notice", async () => {
    const open = await proxy.client("app");
    await open.query("BEGIN");
    await open.query("INSERT INTO ledger (note) VALUES ('open')");
    hold("one");
    const late = await proxy.client("app");
    const waiting = late.query("SELECT name FROM side");
    const waitingExtended = (await proxy.client("app")).query(
      "SELECT name, $1::int FROM side",
      [1],
    );
    expect(await settled(waiting)).toBe(false);
    expect(proxy.messages.some(({ kind }) => kind === "held")).toBe(false);
    const other = await proxy.client("other");
    expect((await other.query("SELECT name FROM side")).rows).toEqual([{ name: "other" }]);
    await open.query("INSERT INTO ledger (note) VALUES ('still open')");
    await open.query("COMMIT");
    expect(await message("held")).toEqual({ kind: "held", token: "one" });
    proxy.topology(configTo("after"), { app: 1 });
    proxy.tell({ kind: "release", token: "one" });
    expect((await waiting).rows).toEqual([{ name: "after" }]);
    expect((await waitingExtended).rows[0]).toMatchObject({ name: "after" });
    expect((await open.query("SELECT name FROM side")).rows).toEqual([{ name: "after" }]);
  });

  test("says who waits, and for which transaction: pid, application, age", async () => {
    const open = await proxy.client("app", { application_name: "bill\ning" });
    await open.query("BEGIN");
    const { rows } = await open.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    hold("why");
    const waiting = (await proxy.client("app")).query("SELECT 1");
    const said = await message("holding");
    const [first] = said.oldest;
    expect(said).toEqual({
      ...{ kind: "holding", token: "why", openTransactions: 1, waitingClients: 1 },
      oldest: [{ pids: [rows[0]?.pid], application: "bill?ing", ageMs: first?.ageMs }],
    });
    expect(first?.ageMs).toBeGreaterThanOrEqual(200);
    await open.query("COMMIT");
    await message("held");
    proxy.tell({ kind: "release", token: "why" });
    await waiting;
  });

  test("R29: a hold ends by release only; a client that waited too long gets a retryable error", async () => {
    const client = await proxy.client("app");
    hold("two", { clientTimeoutMs: 100 });
    const error = await failure(
      client.query("INSERT INTO ledger (note) VALUES ('must not arrive')"),
    );
    expect([error.code, error.hint]).toEqual([
      "57P03",
      "The statement was not sent to any server. Try again.",
    ]);
    expect((await failure(client.query("SELECT 1"))).code).toBe("57P03");
    proxy.tell({ kind: "release", token: "two" });
    expect(
      (await client.query("SELECT count(*)::int FROM ledger WHERE note LIKE 'must%'")).rows,
    ).toEqual([{ count: 0 }]);
  });

  test("an implicit statement and a COPY in flight are awaited", async () => {
    const client = await proxy.client("app");
    const running = client.query("SELECT pg_sleep(0.3)");
    await until(
      async () =>
        (
          await server.sql(
            "before",
            "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.3)'",
          )
        ).length,
      { timeoutMs: 2_000, what: "it to run" },
    );
    hold("three");
    expect(proxy.messages.some(({ kind }) => kind === "held")).toBe(false);
    await running;
    await message("held");
  });

  test("past its bound of clients the oldest are given up and the hold says so", async () => {
    const clients = await Promise.all([1, 2, 3].map(() => proxy.client("app")));
    hold("four", { maxClients: 2 });
    const answers = clients.map((client) =>
      client.query("SELECT 1 AS one").then(
        () => "ok",
        (error: pg.DatabaseError) => error.code,
      ),
    );
    await message("holdOverflow");
    expect(await answers[0]).toBe("57P03");
    proxy.tell({ kind: "release", token: "four" });
    expect(await Promise.all(answers)).toEqual(["57P03", "ok", "ok"]);
  });

  test("with openTransactions = end, an idle transaction is ended and rolled back", async () => {
    const open = await proxy.client("app");
    await open.query("BEGIN");
    await open.query("INSERT INTO ledger (note) VALUES ('ended')");
    hold("five", { openTransactions: "end" });
    await message("held");
    await expect(open.query("COMMIT")).rejects.toThrow();
    await until(
      async () =>
        (
          await server.sql(
            "before",
            "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'",
          )
        ).length === 0,
      { timeoutMs: 2_000, what: "rollback" },
    );
    expect(await server.sql("before", "SELECT 1 FROM ledger WHERE note = 'ended'")).toEqual([]);
    proxy.tell({ kind: "release", token: "five" });
  });

  test("many clients under load: nobody sees an error, nothing is lost", async () => {
    const clients = await Promise.all(Array.from({ length: 24 }, () => proxy.client("app")));
    let isOver = false;
    let written = 0;
    const load = clients.map(async (client, index) => {
      while (!isOver) {
        if (index % 3 === 0) await client.query("INSERT INTO ledger (note) VALUES ($1)", ["load"]);
        else if (index % 3 === 1) await client.query("INSERT INTO ledger (note) VALUES ('load')");
        else {
          await client.query("BEGIN");
          await client.query("INSERT INTO ledger (note) VALUES ('load')");
          await client.query("COMMIT");
        }
        written++;
      }
    });
    await until(() => written > 200, { timeoutMs: 5_000, what: "load" });
    hold("six");
    await message("held");
    const atHold = await server.sql(
      "before",
      "SELECT count(*)::int AS count FROM ledger WHERE note = 'load'",
    );
    proxy.topology(configTo("after"), { app: 1 });
    proxy.tell({ kind: "release", token: "six" });
    const target = written + 200;
    await until(() => written > target, { timeoutMs: 5_000, what: "load after the release" });
    isOver = true;
    await Promise.all(load);
    const before = await server.sql(
      "before",
      "SELECT count(*)::int AS count FROM ledger WHERE note = 'load'",
    );
    const after = await server.sql(
      "after",
      "SELECT count(*)::int AS count FROM ledger WHERE note = 'load'",
    );
    expect(before).toEqual(atHold);
    expect(Number(before[0]?.count) + Number(after[0]?.count)).toBe(written);
  });
});

describe("R38: sessions over a switch", () => {
  const move = async (token: string) => {
    hold(token);
    await message("held");
    proxy.topology(configTo("after"), { app: 1 });
    proxy.tell({ kind: "release", token });
  };

  test("clients go on over connections that arming opened under the other name", async () => {
    const swapped = (app: string, next: string) =>
      testConfig({
        databases: [
          { name: "app", shards: [{ server, database: app }] },
          { name: "next", shards: [{ server, database: next }] },
        ],
        general: { defaultPoolSize: 8 },
      });
    const pids = async () =>
      (
        await server.sql(
          "postgres",
          "SELECT pid FROM pg_stat_activity WHERE datname = 'after' ORDER BY pid",
        )
      ).map((row) => Number(row.pid));
    proxy.topology(swapped("before", "after"));
    const client = await proxy.client("app");
    await client.query("SELECT 1");
    proxy.tell({ kind: "warm", databases: ["app", "next"] });
    const warmed = await until(
      async () => {
        const now = await pids();
        return now.length >= 4 ? now : null;
      },
      { timeoutMs: 5_000, what: "warm connections" },
    );
    proxy.topology(swapped("after", "before"), { app: 1, next: 1 });
    const { rows } = await client.query<{ pid: number; name: string }>(
      "SELECT pg_backend_pid() AS pid, name FROM side",
    );
    expect(rows).toMatchObject([{ name: "after" }]);
    expect(warmed).toContain(rows[0]?.pid);
    expect(await pids()).toEqual(warmed);
  });

  test("R38: settings and prepared statements are there on the new side", async () => {
    const client = await proxy.client("app", { application_name: "mover" });
    await client.query("SET statement_timeout = '12345ms'");
    await client.query("SELECT set_config('app.tenant', '42', false)");
    const named = {
      name: "named",
      text: "SELECT name, current_setting('app.tenant') AS tenant FROM side",
    };
    expect((await client.query(named)).rows).toEqual([{ name: "before", tenant: "42" }]);
    await move("settings");
    expect((await client.query(named)).rows).toEqual([{ name: "after", tenant: "42" }]);
    expect((await client.query("SHOW statement_timeout")).rows).toEqual([
      { statement_timeout: "12345ms" },
    ]);
    expect((await client.query("SHOW application_name")).rows).toEqual([
      { application_name: "mover" },
    ]);
  });

  test("R38: what cannot be rebuilt ends the session with 57P01 at its next statement", async () => {
    const user = "keeper";
    const states = [
      "LISTEN news",
      "CREATE TEMP TABLE mine (id int)",
      "SELECT pg_advisory_lock(1)",
      "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT",
      "DO $$ BEGIN PERFORM pg_advisory_lock(2); END $$",
      "PREPARE by_sql AS SELECT 1",
    ];
    const clients = await Promise.all(states.map(() => proxy.client("app", { user })));
    await Promise.all(clients.map((client, index) => client.query(states[index] ?? "")));
    const plain = await proxy.client("app", { user });
    await plain.query("SET app.tenant = '7'");
    const pinned = await proxy.client("app");
    await pinned.query("SELECT pg_advisory_lock(3)");
    await move("states");
    for (const client of [...clients, pinned]) {
      const error = await failure(client.query("SELECT name FROM side"));
      expect([error.code, error.severity]).toEqual(["57P01", "FATAL"]);
    }
    const { rows } = await plain.query(
      "SELECT name, current_setting('app.tenant') AS tenant FROM side",
    );
    expect(rows).toEqual([{ name: "after", tenant: "7" }]);
  });

  test("R38: in transaction pooling a temporary table keeps its server, LISTEN is refused", async () => {
    const client = await proxy.client("app");
    await client.query("CREATE TEMP TABLE mine (id int)");
    const others = await Promise.all([1, 2, 3].map(() => proxy.client("app")));
    await Promise.all(others.map((each) => each.query("SELECT pg_sleep(0.01)")));
    await client.query("INSERT INTO mine VALUES (1)");
    const error = await failure(client.query("LISTEN news"));
    expect([error.code, error.hint?.includes("session")]).toEqual(["0A000", true]);
  });
});

describe("the gate's refusal", () => {
  const refuse = `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'gate closed' USING ERRCODE = 'SL001'; END $$;
    CREATE OR REPLACE TRIGGER gate BEFORE INSERT OR UPDATE OR DELETE ON ledger EXECUTE FUNCTION refuse()`;

  beforeEach(async () => {
    await server.sql("before", refuse);
    return async () => {
      await server.sql("before", "DROP TRIGGER gate ON ledger");
    };
  });

  test("a first statement is tried again where the data has moved to", async () => {
    proxy.onMessage = (each) => {
      if (each.kind !== "stale") return;
      expect(each).toEqual({ kind: "stale", database: "app", epoch: 0 });
      proxy.topology(configTo("after"), { app: 1 });
      proxy.tell({ kind: "refreshed", database: "app" });
    };
    const simple = await proxy.client("app");
    const extended = await proxy.client("app");
    const begun = await proxy.client("app");
    await begun.query("BEGIN");
    await Promise.all([
      simple.query("INSERT INTO ledger (note) VALUES ('retried')"),
      extended.query({
        name: "p",
        text: "INSERT INTO ledger (note) VALUES ($1)",
        values: ["retried"],
      }),
      begun.query("INSERT INTO ledger (note) VALUES ('retried')"),
    ]);
    await begun.query("COMMIT");
    expect(
      await server.sql("after", "SELECT count(*)::int FROM ledger WHERE note = 'retried'"),
    ).toEqual([{ count: 3 }]);
    expect(
      (
        await extended.query({
          name: "p",
          text: "INSERT INTO ledger (note) VALUES ($1)",
          values: ["again"],
        })
      ).rowCount,
    ).toBe(1);
  });

  test("while the hold is on, the refused statement waits for the release", async () => {
    proxy.onMessage = (each) => {
      if (each.kind !== "stale") return;
      hold("late");
      proxy.tell({ kind: "refreshed", database: "app" });
    };
    const client = await proxy.client("app");
    const insert = client.query("INSERT INTO ledger (note) VALUES ('held')");
    await message("held");
    expect(await settled(insert)).toBe(false);
    proxy.topology(configTo("after"), { app: 1 });
    proxy.tell({ kind: "release", token: "late" });
    expect((await insert).rowCount).toBe(1);
  });

  test("in the middle of a transaction it is 40001", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("SELECT name FROM side");
    const error = await failure(client.query("INSERT INTO ledger (note) VALUES ('x')"));
    expect([error.code, error.hint]).toEqual([
      "40001",
      "Roll back and repeat the whole transaction.",
    ]);
    await client.query("ROLLBACK");
    expect((await client.query("SELECT name FROM side")).rows).toEqual([{ name: "before" }]);
  });
});
