import { afterAll, beforeAll, expect, test } from "vitest";
import {
  CheckoutTimedOut,
  PoolRetired,
  ServerConnectionLost,
} from "../../../src/backend/server-errors.js";
import { ServerPool } from "../../../src/backend/server-pool.js";
import { ServerUnreachable } from "../../../src/core/errors.js";
import { createLog } from "../../../src/observe/log.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const poolOf = (options: { readonly port?: number; readonly idleTimeoutMs?: number } = {}) =>
  new ServerPool({
    address: { ...server.address("postgres"), port: options.port ?? server.port },
    size: 2,
    minIdle: 0,
    checkoutTimeoutMs: 300,
    connectTimeoutMs: 2_000,
    idleTimeoutMs: options.idleTimeoutMs ?? 60_000,
    log: createLog({}, "fatal"),
  });

test("no more connections than its size; the longest waiter is served first", async () => {
  const pool = poolOf();
  const [first, second] = await Promise.all([pool.acquire(), pool.acquire()]);
  const order: string[] = [];
  const third = pool.acquire().then((connection) => {
    order.push("third");
    return connection;
  });
  const fourth = pool.acquire().then((connection) => {
    order.push("fourth");
    return connection;
  });
  first.giveBack();
  second.giveBack();
  await Promise.all([third, fourth]);
  expect(order).toEqual(["third", "fourth"]);
  await expect(pool.acquire()).rejects.toThrow(CheckoutTimedOut);
  pool.destroy();
});

test("what a client left is undone at check-in", async () => {
  const pool = poolOf();
  await server.sql("postgres", "CREATE TABLE t (id int)");
  const connection = await pool.acquire();
  await connection.query("BEGIN; INSERT INTO t VALUES (1)");
  expect(connection.transactionStatus).toBe("T");
  connection.giveBack();
  const again = await pool.acquire();
  expect((await again.query("SELECT count(*) FROM t")).rows).toEqual([["0"]]);
  await again.query(
    "SET work_mem = '7MB'; CREATE TEMP TABLE mine (id int); SELECT pg_advisory_lock(1)",
  );
  again.isSoiled = true;
  again.giveBack();
  // The second connection was opened while the first was being cleaned.
  await until(() => pool.idleCount === 2, { timeoutMs: 2_000, what: "both to be clean" });
  for (const clean of [await pool.acquire(), await pool.acquire()]) {
    const { rows } = await clean.query(
      "SHOW work_mem; SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
    );
    expect(rows).toEqual([["4MB"], ["0"]]);
  }
  pool.destroy();
});

test("what cannot be cleaned is closed, and counted as such", async () => {
  const pool = poolOf();
  const connection = await pool.acquire();
  await connection.query("BEGIN");
  const [link] = pool.busy;
  connection.giveBack();
  expect(pool.counters).toMatchObject({ cleaned: 0, forceClosed: 0 });
  // In the middle of its ROLLBACK.
  link?.destroy();
  await until(() => pool.counters.forceClosed === 1, { timeoutMs: 2_000, what: "it to be closed" });
  expect(pool.busyCount + pool.idleCount).toBe(0);
  const next = await pool.acquire();
  await next.query("BEGIN");
  next.giveBack();
  await until(() => pool.counters.cleaned === 1, { timeoutMs: 2_000, what: "it to be clean" });
  expect(pool.counters.forceClosed).toBe(1);
  pool.destroy();
});

test("a server that is not there, and one that goes away, are typed errors", async () => {
  const nowhere = poolOf({ port: await freePort() });
  await expect(nowhere.acquire()).rejects.toThrow(ServerUnreachable);
  nowhere.destroy();
  const pool = poolOf();
  const connection = await pool.acquire();
  const lost = expect(connection.query("SELECT pg_sleep(30)")).rejects.toThrow(
    ServerConnectionLost,
  );
  await server.sql("postgres", `SELECT pg_terminate_backend(${connection.processId})`);
  await lost;
  connection.giveBack();
  expect((await (await pool.acquire()).query("SELECT 1")).rows).toEqual([["1"]]);
  pool.destroy();
});

test("a retired pool turns its waiters away and closes what comes back", async () => {
  const pool = poolOf();
  const [first] = await Promise.all([pool.acquire(), pool.acquire()]);
  const waiting = expect(pool.acquire()).rejects.toThrow(PoolRetired);
  pool.retire();
  await waiting;
  first.giveBack();
  expect(first.isLost).toBe(true);
  await expect(pool.acquire()).rejects.toThrow(PoolRetired);
  pool.destroy();
});

test("server_lifetime: a connection of that age is closed when it rests, not before", async () => {
  const pool = new ServerPool({
    ...poolOf().options,
    minIdle: 1,
    lifetime: { ms: 1_000, jitterMs: 0 },
  });
  const connection = await pool.acquire();
  await connection.query("SELECT pg_sleep(1.2)");
  expect(connection.isLost).toBe(false);
  connection.giveBack();
  expect(pool.idleCount).toBe(0);
  const next = await pool.acquire();
  expect(next.processId).not.toBe(connection.processId);
  next.giveBack();
  expect(pool.idleCount).toBe(1);
  await until(() => pool.idleCount === 0, { timeoutMs: 5_000, what: "its end" });
  pool.destroy();
});
