import { connect, type Socket } from "node:net";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { GeneralConfig } from "../../../src/config/model.js";
import { encodeQuery } from "../../../src/wire/frontend.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startRelay } from "../../support/relay.js";
import { until } from "../../support/until.js";
import { RawClient } from "./raw-client.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";
import { expectRest } from "./vanishing.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("app");
  await server.sql(
    "app",
    "CREATE TABLE item (id int PRIMARY KEY); CREATE ROLE few LOGIN CONNECTION LIMIT 2; GRANT ALL ON item TO few",
  );
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const proxyWith = async (general: Partial<GeneralConfig>, port = server.port) =>
  await startProxy(
    testConfig({
      databases: [{ name: "app", shards: [{ server: { ...server, port }, database: "app" }] }],
      users: [{}, { name: "few" }],
      general,
    }),
  );

const waitingIn = (proxy: TestProxy) => proxy.plane.show("pools").map((row) => row[7]);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "",
    (error: pg.DatabaseError) => error.code ?? "",
  );
}

describe("who is gone", () => {
  test("while it waits for a server: nothing runs in its name", async () => {
    await using proxy = await proxyWith({ defaultPoolSize: 1 });
    const holder = await proxy.client("app");
    await holder.query("BEGIN");
    await holder.query("SELECT 1");
    const raw = await RawClient.connect(proxy.port, "app");
    void raw.exchange([encodeQuery("INSERT INTO item VALUES (1)")]);
    await until(() => waitingIn(proxy).includes(1), { timeoutMs: 3_000, what: "it to wait" });
    await raw[Symbol.asyncDispose]();
    await until(() => !waitingIn(proxy).includes(1), { timeoutMs: 3_000, what: "it to leave" });
    await holder.query("COMMIT");
    await expectRest(proxy);
    expect(await server.sql("app", "SELECT FROM item WHERE id = 1")).toEqual([]);
  });

  test("after a request to cancel: others get its server when that request has arrived", async () => {
    await using relay = await startRelay({
      port: server.port,
      answerDelayMs: 0,
      pieceBytes: 1_000,
    });
    await using proxy = await proxyWith({ defaultPoolSize: 1 }, relay.port);
    const raw = await RawClient.connect(proxy.port, "app");
    const canceled = raw.exchange([encodeQuery("SELECT pg_sleep(60)")]);
    const isRunning = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    await until(async () => (await server.sql("app", isRunning)).length > 0, {
      timeoutMs: 3_000,
      what: "it to run",
    });
    relay.holdNew();
    await raw.cancel();
    expect((await canceled).map(({ type, code }) => code ?? type)).toEqual(["T", "57014", "Z"]);
    await raw[Symbol.asyncDispose]();
    const next = await proxy.client("app");
    const answer = next.query("SELECT 5 AS five");
    await until(() => waitingIn(proxy).includes(1), { timeoutMs: 3_000, what: "it to wait" });
    relay.release();
    expect((await answer).rows).toEqual([{ five: 5 }]);
    await expectRest(proxy);
  });
});

describe("a server that allows fewer connections than the pool", () => {
  test("is waited for", async () => {
    await using proxy = await proxyWith({ defaultPoolSize: 6 });
    const clients = await Promise.all(
      Array.from({ length: 6 }, async () => await proxy.client("app", { user: "few" })),
    );
    const answers = await Promise.all(
      clients.map(
        async (client) => (await client.query("SELECT 1 AS one, pg_sleep(0.1)")).rowCount,
      ),
    );
    expect(answers).toEqual([1, 1, 1, 1, 1, 1]);
  });

  test("as long as for any other, and then it is named", async () => {
    await server.sql("app", "ALTER ROLE few CONNECTION LIMIT 0");
    await using proxy = await proxyWith({ defaultPoolSize: 6, checkoutTimeoutMs: 300 });
    const refused = proxy.client("app", { user: "few" });
    await expect(refused).rejects.toMatchObject({
      code: "53300",
      detail: expect.stringContaining("too many connections for role"),
    });
    await server.sql("app", "ALTER ROLE few CONNECTION LIMIT 2");
  });
});

describe("logins", () => {
  test("with start-up settings do not wait for others' transactions", async () => {
    await using proxy = await proxyWith({ defaultPoolSize: 1, checkoutTimeoutMs: 500 });
    const holder = await proxy.client("app");
    await holder.query("BEGIN");
    await holder.query("SELECT 1");
    const logins = Array.from(
      { length: 5 },
      async () => await proxy.client("app", { options: "-c work_mem=5MB -c DateStyle=SQL" }),
    );
    const clients = await Promise.all(logins);
    const bad = proxy.client("app", { options: "-c work_mem=nonsense" });
    expect(await codeOf(bad)).toBe("22023");
    await holder.query("COMMIT");
    const { rows } = (await clients[0]?.query("SHOW work_mem")) ?? {};
    expect(rows).toEqual([{ work_mem: "5MB" }]);
  });

  test("beside a thousand connections that say nothing: the oldest of those go", async () => {
    await using proxy = await proxyWith({ clientLoginTimeoutMs: 60_000 });
    const silent: Socket[] = [];
    let closed = 0;
    await Promise.all(
      Array.from({ length: 1_000 }, async () => {
        const socket = connect({ host: "127.0.0.1", port: proxy.port });
        silent.push(socket);
        socket.on("error", () => {});
        socket.on("close", () => closed++);
        socket.resume();
        await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
      }),
    );
    const clients = await Promise.all(
      Array.from({ length: 3 }, async () => await proxy.client("app")),
    );
    expect((await clients[0]?.query("SELECT 1 AS one"))?.rows).toEqual([{ one: 1 }]);
    await until(() => closed > 0, { timeoutMs: 5_000, what: "the oldest to be turned away" });
    expect(closed).toBeLessThanOrEqual(clients.length);
    for (const socket of silent) socket.destroy();
  });
});

describe("a tie ends when its reason does", () => {
  /** After what came before it is over, our own questions included. */
  const isLocked = async (proxy: TestProxy, client: pg.Client) => {
    await client.query("SELECT 1");
    return proxy.clientRows().map(({ locked }) => locked);
  };

  test.each([
    [["CREATE TEMP TABLE mine (i int)"], ["DROP TABLE mine"]],
    [["SELECT pg_advisory_lock(7)"], ["SELECT pg_advisory_unlock(7)"]],
    [["PREPARE p AS SELECT 1"], ["DEALLOCATE p"]],
    [["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"], ["CLOSE c"]],
  ])("%j until %j", async (begin, end) => {
    await using proxy = await proxyWith({ defaultPoolSize: 2 });
    const client = await proxy.client("app");
    for (const sql of begin) await client.query(sql);
    // Asked now and then, and true all the time.
    for (let at = 0; at < 8; at++) await client.query("SELECT 1");
    expect(await isLocked(proxy, client)).toEqual([true]);
    for (const sql of end) await client.query(sql);
    expect(await isLocked(proxy, client)).toEqual([false]);
    await expectRest(proxy);
  });

  test("also where no statement says so; one that no catalog tells of stays", async () => {
    await using proxy = await proxyWith({ defaultPoolSize: 2 });
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("CREATE TEMP TABLE brief (i int) ON COMMIT DROP");
    await client.query("COMMIT");
    expect(await isLocked(proxy, client)).toEqual([false]);
    await client.query("SELECT pg_advisory_lock(1)");
    await client.query("SET SESSION AUTHORIZATION few");
    await client.query("SELECT pg_advisory_unlock(1)");
    expect(await isLocked(proxy, client)).toEqual([true]);
    await client.query("DISCARD ALL");
    expect(await isLocked(proxy, client)).toEqual([false]);
  });
});

test("a server that dies while it cannot take what a client sends: the client is heard again", async () => {
  await using proxy = await proxyWith({});
  const client = await proxy.client("app");
  await client.query("BEGIN");
  const { rows } = await client.query("SELECT pg_backend_pid() AS pid");
  const pid = Number(rows[0]?.pid);
  process.kill(pid, "SIGSTOP");
  const sent = codeOf(client.query(`SELECT length('${"x".repeat(32_000_000)}')`));
  await until(() => proxy.clientRows().some(({ state }) => state === "active"), {
    timeoutMs: 10_000,
    what: "it to be sent on",
  });
  await server.sql("app", `SELECT pg_terminate_backend(${pid})`);
  process.kill(pid, "SIGCONT");
  expect(await sent).toBe("08006");
  expect(await codeOf(client.query("SELECT 1"))).toBe("25P02");
  await client.query("ROLLBACK");
  expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
});
