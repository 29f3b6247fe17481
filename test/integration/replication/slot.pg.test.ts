import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import {
  dropSlot,
  ensurePublication,
  ensureSlot,
  freeSlot,
  readSlot,
  waitForSlotEdge,
} from "../../../src/replication/slot.js";
import { Walsender } from "../../../src/replication/walsender.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;
const signal = new AbortController().signal;

beforeAll(async () => {
  server = await startPostgres();
  await server.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)");
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function client(applicationName: string): Promise<pg.Client> {
  const { host, port, database, user } = server.address("postgres");
  const opened = new pg.Client({ host, port, database, user, application_name: applicationName });
  opened.on("error", () => {});
  await opened.connect();
  return opened;
}

const session = async (ends: AbortSignal = signal) =>
  await connectSql(server.address("postgres"), { applicationName: "test", signal: ends });

const slots = async () =>
  await server.sql("postgres", "SELECT slot_name FROM pg_replication_slots");

describe("a slot", () => {
  it("R26: waits with a deadline, names whom it waits for, and leaves nothing half made", async () => {
    const billing = await client("billing");
    await billing.query("BEGIN; INSERT INTO t VALUES (1)");
    const given = await session();
    const made = ensureSlot(given, "s1", { timeoutMs: 700 });
    await expect(made).rejects.toMatchObject({
      code: "SLUICE_SLOT_CREATION_TIMED_OUT",
      message: expect.stringMatching(/application "billing", database "postgres", open for/),
    });
    await given.end();
    expect(await slots()).toEqual([]);
    await billing.query("COMMIT");
    await using admin = await session();
    const lsn = await ensureSlot(admin, "s1", { timeoutMs: 10_000 });
    // A second run takes what is there, also beside the first one's session.
    await using other = await session();
    expect(await ensureSlot(other, "s1", { timeoutMs: 10_000 })).toBe(lsn);
    await billing.end();
    await dropSlot(admin, "s1");
    await dropSlot(admin, "s1");
    expect(await readSlot(admin, "s1")).toBeNull();
  });

  it("is dropped with an attempt that is aborted while it waits", async () => {
    const holder = await client("holder");
    await holder.query("BEGIN; INSERT INTO t VALUES (2)");
    const stopping = new AbortController();
    const made = ensureSlot(await session(stopping.signal), "s2", { timeoutMs: 20_000 });
    const failed = expect(made).rejects.toThrow();
    await until(async () => (await slots()).length === 1, {
      timeoutMs: 5_000,
      what: "the slot to begin",
    });
    stopping.abort(new Error("stop"));
    await failed;
    await until(async () => (await slots()).length === 0, {
      timeoutMs: 10_000,
      what: "the half-made slot to go",
    });
    await holder.query("ROLLBACK");
    await holder.end();
  });
});

it("R2: no range may be read while a commit of before the slot is still invisible", async () => {
  await server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
  await server.sql("postgres", "SELECT pg_reload_conf()");
  const writer = await client("acknowledged later");
  await until(
    async () =>
      (await server.sql("postgres", "SHOW synchronous_standby_names"))[0]
        ?.synchronous_standby_names === "nobody",
    { timeoutMs: 5_000, what: "the setting" },
  );
  const written = writer.query("INSERT INTO t VALUES (10)");
  // In the WAL, and nobody sees it: the commit waits for its standby.
  await until(
    async () =>
      (await server.sql("postgres", "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        .length === 1,
    { timeoutMs: 5_000, what: "the commit to wait" },
  );
  await using waiter = await session();
  const wait = { server: "here", signal };
  const early = waitForSlotEdge(waiter, { ...wait, timeoutMs: 300 });
  await expect(early).rejects.toMatchObject({
    code: "SLUICE_SLOT_EDGE_TIMED_OUT",
    message: expect.stringMatching(/acknowledged later/),
  });
  const waiting = waitForSlotEdge(waiter, { ...wait, timeoutMs: 10_000 });
  await server.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
  await server.sql("postgres", "SELECT pg_reload_conf()");
  await waiting;
  expect(await server.sql("postgres", "SELECT 1 FROM t WHERE id = 10")).toHaveLength(1);
  await written;
  await writer.end();
});

describe("the publication", () => {
  it("R10: is ours alone, and one that was changed is refused", async () => {
    await server.sql("postgres", "CREATE TABLE u (id int PRIMARY KEY)");
    await using admin = await connectSql(server.address("postgres"), { applicationName: "test" });
    const tables = [{ schema: "public", name: "t" }];
    await ensurePublication(admin, "ours", tables);
    await ensurePublication(admin, "ours", tables);
    await server.sql("postgres", "ALTER PUBLICATION ours ADD TABLE u");
    await expect(ensurePublication(admin, "ours", tables)).rejects.toMatchObject({
      code: "SLUICE_STREAM_UNSUPPORTED_CHANGE",
    });
    await server.sql("postgres", "DROP PUBLICATION ours");
  });
});

it("a slow reader is kept: feedback goes on while the socket is not read", async () => {
  await server.sql("postgres", "CREATE PUBLICATION slow FOR TABLE t");
  await using admin = await connectSql(server.address("postgres"), { applicationName: "test" });
  await ensureSlot(admin, "slow", { timeoutMs: 5_000 });
  await server.sql("postgres", "ALTER SYSTEM SET wal_sender_timeout = '2s'");
  await server.sql("postgres", "SELECT pg_reload_conf()");
  const stopping = new AbortController();
  const walsender = await Walsender.connect(server.address("postgres"), "test");
  let seen = 0;
  const receiver = {
    data: () => {
      if (++seen === 1) walsender.pause();
    },
    keepalive: () => {},
  };
  const options = { slot: "slow", publication: "slow", startLsn: 0n as never };
  const ended = walsender.stream(options, receiver, stopping.signal).then(
    () => null,
    (error: unknown) => error,
  );
  await server.sql("postgres", "INSERT INTO t VALUES (20)");
  await until(() => seen > 0, { timeoutMs: 5_000, what: "the first message" });
  const startedAtMs = Date.now();
  await until(() => Date.now() - startedAtMs > 4_500, {
    timeoutMs: 10_000,
    what: "twice the timeout",
  });
  expect((await readSlot(admin, "slow"))?.activePid).not.toBeNull();
  const before = seen;
  await server.sql("postgres", "INSERT INTO t VALUES (21)");
  walsender.resume();
  // The rest of the first transaction is two messages at most.
  await until(() => seen > before + 2, { timeoutMs: 5_000, what: "more messages" });
  stopping.abort(new Error("stop"));
  expect(await ended).toMatchObject({ message: "stop" });
  await walsender[Symbol.asyncDispose]();
  expect(await freeSlot(admin, "slow", 5_000)).toBe(true);
  await dropSlot(admin, "slow");
});
