import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PausePoints } from "../../crash/stage.js";
import { rootTasks } from "../../demo/tasks.js";
import { type Admin, MIGRATION, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

let points: PausePoints;
let stack: Stack;
let admin: Admin;
const clients: pg.Client[] = [];

beforeAll(async () => {
  points = new PausePoints();
  stack = await startStack({
    rows: 500,
    // Longer than everything that is looked at within the one attempt.
    sluice: "[switch]\npause_cap_ms = 40000\n",
    env: { SLUICE_TEST_ANNOUNCE: points.folder },
    settings: { fsync: "off" },
  });
  // Not the node whose client is waited for: every node shows the same.
  admin = await stack.admin(1);
}, 120_000);
afterAll(async () => {
  await Promise.all(clients.map((client) => client.end().catch(() => {})));
  await admin[Symbol.asyncDispose]();
  await stack[Symbol.asyncDispose]();
  points.remove();
});

/** A client of the first node. */
async function connect(options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ ...stack.addresses[0], ...options });
  client.on("error", () => {});
  await client.connect();
  clients.push(client);
  return client;
}

async function untilSaid(command: string, column: string, what: RegExp): Promise<string> {
  return await until(
    async () => {
      const rows = await admin.run(command);
      const said = rows.map((row) => String(row[column])).find((text) => what.test(text));
      return said ?? null;
    },
    { timeoutMs: 9_000, intervalMs: 50, what: `${command} to say ${String(what)}` },
  );
}

/** What the Temporal UI shows of the pending activity. */
async function heartbeatOfSwitch(): Promise<string> {
  const { output } = await stack.temporal.cli(
    ...["workflow", "describe", "--workflow-id", "cutover/prod/prod_sharded/0-1"],
    ...["--output", "json"],
  );
  return output;
}

describe("a switch that waits for an open transaction", () => {
  it("says so on every node and in Temporal, and goes on when the transaction ends", async () => {
    const [started] = await admin.run(`COPY_DATA ${MIGRATION}`);
    const task = Number(started?.task_id);
    await until(
      async () =>
        (await rootTasks(admin)).find(({ id }) => id === task)?.innerStatus === "replicating",
      { timeoutMs: 60_000, intervalMs: 200, what: "the copy to end" },
    );
    // A transaction that was open before is no switch at all; this one begins between readiness and hold.
    points.set("cutover.afterPlanned");
    await admin.run(`CUTOVER ${task}`);
    await points.reached("cutover.afterPlanned");
    const open = await connect({ application_name: "billing" });
    await open.query("BEGIN");
    const { rows } = await open.query<{ pid: number }>(
      "SELECT pg_backend_pid() AS pid FROM tenants",
    );
    points.letGo("cutover.afterPlanned");

    const why = `open transaction of pid ${rows[0]?.pid ?? 0}, application "billing", `;
    await untilSaid("SHOW CUTOVER", "waiting", new RegExp(`^node-1: 0 clients wait; ${why}`));
    const late = (await connect()).query("SELECT count(*) FROM tenants");
    await untilSaid("SHOW CUTOVER", "waiting", new RegExp(`^node-1: 1 client waits; ${why}`));
    await untilSaid(
      "SHOW TASKS",
      "inner_status",
      new RegExp(`^cutting over, waits: node-1: 1 client waits; ${why}`),
    );
    await until(async () => (await heartbeatOfSwitch()).includes(why.replaceAll('"', '\\"')), {
      ...{ timeoutMs: 9_000, intervalMs: 200 },
      what: "the heartbeat details of the activity to say it",
    });

    await open.query("COMMIT");
    await late;
    await until(
      async () => (await admin.run("SHOW CUTOVER")).some(({ state }) => state === "committed"),
      { timeoutMs: 60_000, intervalMs: 100, what: "the switch" },
    );
    for (const row of await admin.run("SHOW CUTOVER")) expect(row.waiting).toBeNull();
    for (const row of await admin.run("SHOW TASKS"))
      expect(row.inner_status).not.toContain("waits");
  }, 180_000);
});
