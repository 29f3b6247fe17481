import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { untilDrained } from "../../demo/drained.js";
import { LOAD_FILE, ordinary } from "../../demo/ordinary/application.js";
import { type Task, untilFinished, untilReverseTask, untilSwitched } from "../../demo/tasks.js";
import { compareSides } from "../../support/load/compare.js";
import type { Load } from "../../support/load/load.js";
import { judgeOrdinary } from "../../support/load/ordinary/judge.js";
import type { Known } from "../../support/load/ordinary/ledger.js";
import { startOrdinaryLoad } from "../../support/load/ordinary/load.js";
import { readScript } from "../../support/load/ordinary/script.js";
import { type OrdinaryState, readOrdinary } from "../../support/load/ordinary/state.js";
import { runSluice } from "../../support/node.js";
import { type Pgbench, startPgbench } from "../../support/pgbench.js";
import { type Admin, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

/**
 * The application that people have, as it is: no ALTER, no key in sluice.toml, no error. First clients that
 * remember, there and back; then a real pgbench, across the second switch and the end. The tests follow each other.
 */

const STEP_MS = 90_000;
const SCREEN_LINES = 30;
const PGBENCH = { script: LOAD_FILE, clients: 4, turns: 10 };

let stack: Stack;
let admin: Admin;
let before: OrdinaryState;
let identities: readonly unknown[];
const load: { ledgered: Load<Known> | null; pgbench: Pgbench | null } = {
  ledgered: null,
  pgbench: null,
};
let wayBack: Task;
/** Of the last switch. */
let epoch = 0;

beforeAll(async () => {
  stack = await startStack({ application: ordinary(17_000) });
  admin = await stack.admin();
  before = await readOrdinary([stack.source]);
  identities = await replicaIdentities(stack.source);
}, 240_000);

afterAll(async () => {
  await load.ledgered?.stop();
  await load.pgbench?.stop();
  await admin[Symbol.asyncDispose]();
  await stack[Symbol.asyncDispose]();
}, 60_000);

async function replicaIdentities(query: Stack["source"]): Promise<readonly unknown[]> {
  return await query(
    `SELECT c.relname, c.relreplident, i.indexrelid::regclass::text AS index
     FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`,
  );
}

async function untilWorked(): Promise<void> {
  const done = () =>
    (load.ledgered?.report().acknowledged ?? 0) + (load.pgbench?.report().rounds ?? 0) * 100;
  const from = done();
  await until(() => done() >= from + 300, { timeoutMs: STEP_MS, what: "clients to go on" });
}

/** The switch that has been ordered; clients work on after it. @returns the way back */
async function untilServing(after: number): Promise<Task> {
  const switched = await untilSwitched(admin, epoch, STEP_MS).catch(async (error: unknown) => {
    throw new Error(`${String(error)}\n${await reasons(after)}`);
  });
  epoch = switched.epoch;
  const task = await untilReverseTask(admin, after, STEP_MS);
  await untilWorked();
  return task;
}

/** What an operator would look at, and the keys that are aside. */
async function reasons(task: number): Promise<string> {
  const cwd = stack.nodes[0]?.folder ?? "";
  const { stdout, stderr } = await runSluice(["migrate", "status", String(task)], { cwd });
  const aside = "SELECT to_jsonb(a) AS aside FROM sluice.aside a WHERE settled_at IS NULL LIMIT 5";
  const lists = await Promise.all([stack.source, ...stack.shards].map((query) => query(aside)));
  const decisions = await admin.run("SHOW CUTOVER");
  return [stdout, stderr, JSON.stringify(lists), JSON.stringify(decisions)].join("\n");
}

async function comparison() {
  await untilDrained(stack);
  return await compareSides(stack.source, stack.shards, stack.application.tables);
}

describe("the application that people have", () => {
  it("is configured with what a node needs, and with nothing of the migration", () => {
    const folder = stack.nodes[0]?.folder ?? "";
    expect(readFileSync(join(folder, "sluice.toml"), "utf8").match(/^[[\w]+/gmu)).toEqual([
      ...["[node", "id", "[temporal", "address"],
    ]);
  });

  it("has a plan without an error, on one screen", async () => {
    const args = ["migrate", "plan", "--from", "prod", "--to", "prod_sharded"];
    const { code, stdout } = await runSluice([...args, "--publication", "all_tables"], {
      cwd: stack.nodes[0]?.folder ?? "",
    });
    expect(stdout).not.toMatch(/^ERROR/mu);
    expect(stdout.split("\n").length).toBeLessThanOrEqual(SCREEN_LINES);
    expect(code).toBe(0);
  });

  it("is resharded under its load, and rolled back: no error, nothing lost, nothing doubled", async () => {
    const ledgered = await startOrdinaryLoad({
      addresses: stack.addresses,
      clients: 8,
      round: 0,
      script: readScript(LOAD_FILE),
      before,
    });
    load.ledgered = ledgered;
    await untilWorked();
    const [started] = await admin.run(`RESHARD ${stack.migration}`);
    const forward = await untilServing(Number(started?.task_id));
    await admin.run(`CUTOVER ${forward.id}`);
    wayBack = await untilServing(forward.id);
    await ledgered.stop();
    const report = ledgered.report();
    expect(report.errors).toEqual([]);
    expect(report.unknown).toBe(0);
    // Both are said: what differs between the sides need not be what a client misses.
    const { findings } = await comparison();
    const after = await readOrdinary([stack.source]);
    const judgement = judgeOrdinary({ known: report.histories, before, after });
    expect({ ...judgement, differences: findings }).toEqual({
      ...{ lost: 0, doubled: 0, findings: [], differences: [] },
    });
  }, 240_000);

  it("goes forward again under pgbench as it comes", async () => {
    const pgbench = await startPgbench({ ...PGBENCH, addresses: stack.addresses, firstRound: 0 });
    load.pgbench = pgbench;
    await untilWorked();
    await admin.run(`CUTOVER ${wayBack.id}`);
    wayBack = await untilServing(wayBack.id);
    expect((await pgbench.stop()).errors).toEqual([]);
    expect((await comparison()).findings).toEqual([]);
  }, 240_000);

  it("reads its view over shards as it did on one server", async () => {
    const client = new pg.Client({ ...stack.addresses[0] });
    await client.connect();
    const view = "SELECT id, tenant_id, title, project FROM open_tasks ORDER BY id";
    const { rows } = await client.query<Record<string, unknown>>(view);
    await client.end();
    expect(rows.length).toBeGreaterThan(1_000);
    expect(rows).toEqual(await stack.source(view));
  });

  it("is finalized under pgbench, and has the replica identities that it had", async () => {
    const firstRound = load.pgbench?.report().rounds ?? 0;
    const pgbench = await startPgbench({ ...PGBENCH, addresses: stack.addresses, firstRound });
    load.pgbench = pgbench;
    await admin.run(`STOP_TASK ${wayBack.id}`);
    await untilFinished(admin, wayBack.id, STEP_MS);
    await untilWorked();
    expect((await pgbench.stop()).errors).toEqual([]);
    for (const query of [stack.source, ...stack.shards])
      expect(await replicaIdentities(query)).toEqual(identities);
  }, 240_000);
});
