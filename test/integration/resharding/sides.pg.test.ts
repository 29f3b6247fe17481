import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import type { EngineContext } from "../../../src/resharding/context.js";
import { openSides, type Sides } from "../../../src/resharding/control/sides.js";
import { type CopyFixture, copyFixture, silentLog } from "../../support/copy-fixture.js";
import { type MeteredSides, meteredSides } from "../../support/metered-sides.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** `openSides` owns an activity's sessions: opened late, kept, closed once. */

let server: PostgresServer;
let fixture: CopyFixture;
let meters: MeteredSides;
const WORK = { purpose: "work" };

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
  fixture = await copyFixture(server, {
    name: "sides",
    schema: "CREATE TABLE t (id bigint PRIMARY KEY)",
    tables: [{ name: "t" }],
  });
  const databases = { source: fixture.sources, destination: fixture.destinations };
  meters = await meteredSides(server, { ref: fixture.ref, databases });
});
afterAll(async () => {
  await meters[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const open = async (overrides: Partial<EngineContext> = {}): Promise<Sides> =>
  await openSides(
    fixture.context({ cluster: meters.cluster, log: silentLog, ...overrides }),
    fixture.ref,
  );
const work = () => meters.opened.filter((one) => one.endsWith("sluice work")).length;
const untilNoneIsOpen = async () =>
  await until(() => meters.all.every((shard) => shard.openCount === 0), {
    timeoutMs: 2_000,
    what: "every session to end",
  });

test("opens when first asked, once for all who ask, and closes with the scope", async () => {
  const before = work();
  {
    await using sides = await open();
    expect(work()).toBe(before);
    const [one, other] = await Promise.all([
      sides.session("destination", 1, WORK),
      sides.session("destination", 1, WORK),
    ]);
    expect(other).toBe(one);
    expect(await sides.session("destination", 1, WORK)).toBe(one);
    expect(await sides.session("destination", 0, WORK)).not.toBe(one);
    expect(await sides.session("destination", 1, { purpose: "more" })).not.toBe(one);
    expect((await sides.sessions("destination", WORK))[1]).toBe(one);
  }
  expect(work()).toBe(before + 2);
  await untilNoneIsOpen();
});

test("closes what is being opened when the scope ends, and opens nothing afterwards", async () => {
  const sides = await open();
  const opening = sides.session("source", 0, WORK).catch((error: unknown) => error);
  await sides[Symbol.asyncDispose]();
  await opening;
  await untilNoneIsOpen();
  const before = work();
  await expect(sides.session("source", 0, WORK)).rejects.toThrow(/the activity is over/);
  expect(work()).toBe(before);
});

test("ends with its running statement, which nobody waits for", async () => {
  const sides = await open();
  const client = await sides.session("source", 0, WORK);
  const asleep = client.query("SELECT pg_sleep(30)").then(
    () => "slept",
    () => "ended",
  );
  await sides[Symbol.asyncDispose]();
  expect(await asleep).toBe("ended");
  await untilNoneIsOpen();
});

test("gives another session for one that has died", async () => {
  await using sides = await open();
  const first = await sides.session("source", 0, WORK);
  const ended = new Promise<void>((resolve) => first.once("end", () => resolve()));
  await server.sql(
    "postgres",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice work'",
  );
  await ended;
  const second = await sides.session("source", 0, WORK);
  expect(second).not.toBe(first);
  expect((await second.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
});

test("a server that was away is asked again", async () => {
  await using sides = await open();
  const [shard] = meters.destination;
  await shard?.cut();
  await expect(sides.sessions("destination", WORK)).rejects.toMatchObject({
    code: "SLUICE_SERVER_UNREACHABLE",
  });
  await shard?.mend();
  expect(await sides.sessions("destination", WORK)).toHaveLength(2);
});

test("an open that hangs ends with the attempt", async () => {
  // Takes connections and never answers, as a frozen server does.
  const accepted = new Set<Socket>();
  const frozen = createServer((socket) => accepted.add(socket));
  await new Promise<void>((resolve) => frozen.listen(0, "127.0.0.1", resolve));
  const bound = frozen.address();
  const port = bound !== null && typeof bound === "object" ? bound.port : 0;
  const attempt = new AbortController();
  const address = { ...server.address("postgres"), port };
  const hanging = connectSql(address, { applicationName: "test", signal: attempt.signal });
  const startedAtMs = performance.now();
  attempt.abort(new Error("stop"));
  await expect(hanging).rejects.toThrow("stop");
  expect(performance.now() - startedAtMs).toBeLessThan(4_000);
  for (const socket of accepted) socket.destroy();
  await new Promise((resolve) => frozen.close(resolve));
});

test("a signal of its own outlives the attempt's", async () => {
  const attempt = new AbortController();
  const own = new AbortController();
  await using sides = await open({ signal: attempt.signal });
  const usual = await sides.session("source", 0, WORK);
  const late = await sides.session("source", 0, { purpose: "late", signal: own.signal });
  attempt.abort(new Error("stop"));
  await expect(usual.query("SELECT 1")).rejects.toThrow();
  await expect(sides.session("source", 0, WORK)).rejects.toThrow("stop");
  expect((await late.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  own.abort();
  await expect(late.query("SELECT 1")).rejects.toThrow();
});

test("one purpose has one setup", async () => {
  await using sides = await open();
  await sides.session("source", 0, WORK);
  const other = sides.session("source", 0, { ...WORK, lockTimeoutMs: 500 });
  await expect(other).rejects.toThrow(/two purposes/);
});
