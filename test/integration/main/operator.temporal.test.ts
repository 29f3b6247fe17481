import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rootTasks, type Task, untilFinished, untilReverseTask } from "../../demo/tasks.js";
import { builtLauncher } from "../../support/built.js";
import { runSluice, type SluiceNode, startNode } from "../../support/node.js";
import { type Operator, openSession, operatorOf } from "../../support/operator.js";
import { type Admin, MIGRATION, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

/**
 * A migration as an operator lives through it: psql, the `temporal` CLI and `sluice migrate`, all real, on one
 * stack. The tests follow each other; each leaves the migration where the next one takes it up.
 */

const STEP_MS = 120_000;
const PAIR = "prod -> prod_sharded";
/** A second pair of databases, for the orders that end a migration. */
const SMALL = "small small_sharded small_tables";

let stack: Stack;
let first: SluiceNode;
let second: SluiceNode;
let admin: Admin;
let operator: Operator;
const started: AsyncDisposable[] = [];
const writer = { writes: 0, errors: [] as string[], isStopped: false };
let writing: Promise<void>;

beforeAll(async () => {
  await builtLauncher();
  stack = await startStack({ rows: 6_000 });
  started.push(stack);
  const [one, two] = stack.nodes;
  if (!one || !two) throw new Error("the stack lacks nodes");
  [first, second] = [one, two];
  operator = operatorOf(stack);
  await addSmallPair();
  admin = await stack.admin();
  started.push(admin);
  await until(
    () =>
      admin.run("SHOW TASKS").then(
        () => true,
        () => false,
      ),
    {
      timeoutMs: 60_000,
      what: "Temporal to know the nodes",
    },
  );
  writing = write();
}, 240_000);

afterAll(async () => {
  writer.isStopped = true;
  await writing;
  for (const one of started.reverse()) await one[Symbol.asyncDispose]();
}, 60_000);

async function addSmallPair(): Promise<void> {
  const { source, shards } = stack.cluster;
  const servers = [source, ...shards];
  const names = ["small", "small_0", "small_1"];
  const entries: string[] = [];
  for (const [index, server] of servers.entries()) {
    const name = names[index] ?? "";
    await server.createDatabase(name);
    entries.push(
      `[[databases]]\nname = "${index === 0 ? "small" : "small_sharded"}"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${name}"\nshard = ${Math.max(0, index - 1)}\n`,
    );
  }
  await source.sql(
    "small",
    `CREATE TABLE notes (tenant_id bigint, id bigint, body text, PRIMARY KEY (tenant_id, id));
     INSERT INTO notes SELECT n % 9, n, 'note' FROM generate_series(1, 300) n;
     CREATE PUBLICATION small_tables FOR TABLE notes`,
  );
  const user = (database: string) =>
    `\n[[users]]\nname = "owner"\ndatabase = "${database}"\npassword = "owner-password"\nserver_user = "postgres"\nschema_admin = true\n`;
  for (const node of [first, second]) {
    const rule = '[[sharded_tables]]\ndatabase = "small_sharded"\ncolumn = "tenant_id"\n';
    appendFileSync(join(node.folder, "pgdog.toml"), `\n${entries.join("\n")}\n${rule}`);
    appendFileSync(join(node.folder, "users.toml"), user("small") + user("small_sharded"));
    operator.psql(node, "RELOAD");
  }
}

/** An application that never stops, through the first node. */
async function write(): Promise<void> {
  const client = new pg.Client({ ...stack.addresses[0] });
  client.on("error", (error) => writer.errors.push(error.message));
  await client.connect();
  while (!writer.isStopped) {
    await client
      .query(`UPDATE tenants SET writes = writes + 1 WHERE tenant_id = ${1 + (writer.writes % 40)}`)
      .then(
        () => {
          writer.writes += 1;
        },
        (error: unknown) => writer.errors.push(String(error)),
      );
    await new Promise((wake) => setTimeout(wake, 5));
  }
  await client.end();
}

/** `sluice` in a shell, in the folder of a node's files. */
async function sluice(...args: readonly string[]) {
  return await runSluice(args, { cwd: first.folder });
}

async function taskRow(id: number): Promise<Task | undefined> {
  return (await rootTasks(admin)).find((task) => task.id === id);
}

async function untilInner(id: number, innerStatus: string): Promise<void> {
  await until(
    async () => {
      const task = await taskRow(id);
      if (task?.status.startsWith("failed")) throw new Error(`task ${id}: ${task.status}`);
      return task?.innerStatus === innerStatus;
    },
    { timeoutMs: STEP_MS, intervalMs: 100, what: `task ${id} to be ${innerStatus}` },
  );
}

describe("SCHEMA_SYNC alone", () => {
  it("PRE: task 0 makes the tables", async () => {
    const { out, notices } = operator.psql(first, `SCHEMA_SYNC PRE ${MIGRATION}`);
    // Ids are integers from 0, over all nodes.
    expect(out).toBe("0");
    expect(notices).toMatch(/Temporal workflow id: schema-sync\/prod\/prod_sharded\/pre/);
    const task = await untilFinished(admin, 0, STEP_MS);
    expect(task).toMatchObject({
      type: `schema_sync(pre) ${PAIR}`,
      status: "finished",
      innerStatus: "syncing tables",
    });
    for (const shard of stack.shards) expect(await shard("SELECT FROM orders")).toEqual([]);
    expect(await operator.typesOf(first, "SHOW SCHEMA_SYNC")).toEqual({
      ...{ database: "text", user: "text", shard: "bigint", kind: "text", sync_state: "text" },
      ...{ started_at: "text", elapsed: "text", elapsed_ms: "bigint" },
      ...{ table_schema: "text", table_name: "text", sql: "text" },
    });
  }, 60_000);

  it("POST: SHOW SCHEMA_SYNC lists what runs and what waits", async () => {
    const [shard0] = stack.cluster.shards;
    const blocker = await openSession(shard0, "app_0");
    await blocker.query("BEGIN; LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE");
    expect(operator.psql(second, `SCHEMA_SYNC POST ${MIGRATION}`).out).toBe("1");
    const rows = await until(
      async () => {
        const all = await admin.run("SHOW SCHEMA_SYNC");
        // The other shard's go on meanwhile, and may be seen first.
        const waits = all.find(({ shard, started_at }) => shard === "0" && started_at !== null);
        return waits?.table_name === "orders" ? [waits, ...all] : null;
      },
      { timeoutMs: STEP_MS, intervalMs: 50, what: "a statement that waits for the lock" },
    );
    expect(rows[0]).toMatchObject({
      ...{ database: "prod_sharded", user: "postgres", shard: "0", sync_state: "post_data" },
      ...{ table_schema: "public", elapsed: expect.stringMatching(/^\d\d:\d\d:\d\d/) as string },
    });
    expect(["table", "index", "statement"]).toContain(rows[0]?.kind);
    expect(String(rows[0]?.sql)).toMatch(/orders/);
    const waiting = rows.filter((row) => row.started_at === null);
    expect(waiting.length).toBeGreaterThan(0);
    expect(waiting[0]).toMatchObject({ elapsed: null, elapsed_ms: null });
    await blocker.query("COMMIT");
    await blocker.end();
    await untilFinished(admin, 1, STEP_MS);
    // What is left for the cutover is nobody's work while no migration is there.
    await until(async () => (await admin.run("SHOW SCHEMA_SYNC")).length === 0, {
      timeoutMs: 5_000,
      what: "an empty list",
    });
  }, 150_000);
});

describe("RESHARD from psql to the switch", () => {
  it("plan: the dry run says that it can be made", async () => {
    const { code, stdout } = await sluice(
      ...["migrate", "plan", "--from", "prod", "--to", "prod_sharded"],
      ...["--publication", "prod_tables"],
    );
    expect(stdout).toContain("the migration can be started");
    expect(stdout).toMatch(/^moves\s+5 by tenant_id: .*\borders\b/m);
    expect(stdout).toMatch(/^moves\s+2 to every shard: countries, plans$/m);
    expect(code).toBe(0);
  }, 60_000);

  it("shows the copy, its slot and its rows while it runs", async () => {
    // Whoever writes holds up the slot, and so the copy: until then nothing can be missed.
    const { source } = stack.cluster;
    const [shard0] = stack.cluster.shards;
    await source.sql("app", "CREATE TABLE bystander (n int)");
    const early = await openSession(source, "app");
    await early.query("BEGIN; INSERT INTO bystander VALUES (1)");
    const { out, notices } = operator.psql(first, `RESHARD ${MIGRATION}`);
    expect(out).toBe("2");
    expect(notices).toContain("reshard/prod/prod_sharded");
    await until(
      async () => (await source.sql("app", "SELECT FROM pg_replication_slots")).length === 1,
      { timeoutMs: STEP_MS, what: "the slot" },
    );
    const blocker = await openSession(shard0, "app_0");
    await blocker.query("BEGIN; LOCK TABLE events IN SHARE MODE");
    await early.query("ROLLBACK");
    await early.end();
    const copies = await until(
      async () => {
        const rows = await admin.run("SHOW TABLE_COPIES");
        return rows.length > 0 && rows.every((row) => row.table === "events") ? rows : null;
      },
      { timeoutMs: STEP_MS, intervalMs: 50, what: "all other tables to be copied" },
    );
    expect(copies).toHaveLength(1);
    expect(copies[0]).toMatchObject({ schema: "public", table: "events" });
    expect(["waiting", "running"]).toContain(copies[0]?.status);
    expect(await operator.typesOf(first, "SHOW TABLE_COPIES")).toEqual({
      ...{ schema: "text", table: "text", status: "text", rows: "bigint", rows_human: "text" },
      ...{ bytes: "bigint", bytes_human: "text", bytes_per_sec: "bigint" },
      ...{ bytes_per_sec_human: "text", elapsed: "text", elapsed_ms: "bigint", sql: "text" },
    });
    expect(await taskRow(2)).toMatchObject({ status: "running", innerStatus: "syncing data" });
    const slots = await admin.run("SHOW REPLICATION_SLOTS");
    expect(slots).toHaveLength(1);
    expect(slots[0]).toMatchObject({
      port: String(source.port),
      database_name: "app",
      copy_data: false,
    });
    expect(slots[0]?.name).toMatch(/^sluice_[0-9a-f]{12}_0_0$/);
    expect(slots[0]?.lsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
    expect(await operator.typesOf(first, "SHOW REPLICATION_SLOTS")).toEqual({
      ...{ host: "text", port: "bigint", database_name: "text", name: "text", lsn: "text" },
      ...{ lag: "text", lag_bytes: "bigint", copy_data: "bool" },
      ...{ last_transaction: "text", last_transaction_ms: "bigint" },
    });
    await blocker.query("ROLLBACK");
    await blocker.end();
  }, 180_000);

  it("switches, and SHOW TASKS tells it as the reference does", async () => {
    const reverse = await untilReverseTask(admin, 2, STEP_MS);
    expect(reverse).toMatchObject({
      id: 3,
      type: `replication ${PAIR} (reverse)`,
      status: "running",
      innerStatus: "replicating",
    });
    await untilFinished(admin, 2, STEP_MS);
    const rows = await admin.run("SHOW TASKS");
    // Newest root first, each with its subtasks, which have no id, in the order of their beginning.
    expect(rows.filter((row) => row.scope === "root").map((row) => row.id)).toEqual([
      "3",
      "2",
      "1",
      "0",
    ]);
    const root = rows.findIndex((row) => row.id === "2");
    expect(rows[root]).toMatchObject({
      ...{
        scope: "root",
        type: `reshard ${PAIR}`,
        status: "finished",
        inner_status: "replicating",
      },
    });
    const below = rows.slice(
      root + 1,
      rows.findIndex((row) => row.id === "1"),
    );
    expect(below.map((row) => [row.id, row.scope])).toEqual(below.map(() => [null, "subtask"]));
    expect(
      below.map((row) => `${String(row.type)}: ${String(row.status)}, ${String(row.inner_status)}`),
    ).toEqual([
      `schema_sync(pre) ${PAIR}: finished, syncing tables`,
      `copy_data ${PAIR}: finished, `,
      `schema_sync(post) ${PAIR}: finished, creating indexes`,
      `replication ${PAIR}: finished, cutting over`,
      `schema_sync(cutover) ${PAIR}: finished, syncing cutover schema`,
      "cutover: pause traffic: finished, ",
      "cutover: synchronize: finished, ",
      "cutover: reverse replication: finished, ",
      "cutover: swap: finished, ",
      "cutover: resume traffic: finished, ",
    ]);
    for (const row of rows) {
      expect(row.started_at).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+$/);
      expect(row.elapsed).toMatch(/^\d\d:\d\d:\d\d:\d{3}$/);
    }
    expect(await operator.typesOf(first, "SHOW TASKS")).toEqual({
      ...{ id: "bigint", scope: "text", type: "text", status: "text", inner_status: "text" },
      ...{ started_at: "text", updated_at: "text", elapsed: "text", elapsed_ms: "bigint" },
    });
  }, 150_000);

  it("is the same on both nodes, and on one that starts again", async () => {
    const shown = (node: SluiceNode) =>
      operator
        .psql(node, "SHOW TASKS")
        .out.split("\n")
        .map((line) => line.split("|").slice(0, 5).join("|"));
    expect(shown(second)).toEqual(shown(first));
    const files = (name: string) => readFileSync(join(second.folder, name), "utf8");
    // The file as the switch saved it; `startNode` writes host and port itself.
    const pgdog = files("pgdog.toml").replace(/^\[general\]\nhost = .*\nport = .*\n/u, "");
    const saved = { pgdog, users: files("users.toml"), sluice: files("sluice.toml") };
    second.signal("SIGTERM");
    await second.ended;
    second = await startNode(saved);
    started.push(second);
    const again = await until(
      () => {
        try {
          return shown(second);
        } catch {
          return null;
        }
      },
      { timeoutMs: 30_000, intervalMs: 200, what: "the node to reach Temporal" },
    );
    expect(again).toEqual(shown(first));
    // It serves the side that serves, from its first client on.
    const client = new pg.Client({ ...stack.addresses[0], port: second.port });
    await client.connect();
    const { rows } = await client.query("SELECT count(*)::int AS n FROM countries");
    expect(rows).toEqual([{ n: 20 }]);
    await client.end();
  }, 120_000);
});

describe("from the temporal CLI", () => {
  it("finds tasks by search attribute, answers the status query, has readable details", async () => {
    const listed = await stack.temporal.cli(
      ...[
        "workflow",
        "list",
        "--query",
        "ReshardCluster = 'prod/prod_sharded' AND SluiceKind = 'reshard'",
      ],
      ...["--output", "json"],
    );
    expect(listed.output).toContain("reshard/prod/prod_sharded");
    const id = await operator.workflowIdOf(3);
    const running = await stack.temporal.cli(
      ...[
        "workflow",
        "list",
        "--query",
        "ReshardPhase = 'replicating' AND ExecutionStatus = 'Running'",
      ],
      ...["--output", "json"],
    );
    expect(running.output).toContain(id);
    const status = await stack.temporal.cli(
      ...["workflow", "query", "--workflow-id", id, "--name", "status"],
    );
    expect(status.output).toMatch(/"isReverse":\s*true/);
    const details = await stack.temporal.cli("workflow", "metadata", "--workflow-id", id);
    for (const text of [
      "waiting for",
      "predicted pause",
      "last switch",
      "--name rollback",
      "--name finalize",
    ])
      expect(details.output).toContain(text);
  }, 60_000);

  it("rolls back by an update, forward again by a signal", async () => {
    await operator.order("update", 3, "rollback");
    const back = await untilReverseTask(admin, 3, STEP_MS);
    expect(await untilFinished(admin, 3, STEP_MS)).toMatchObject({ innerStatus: "rolling back" });
    await operator.order("signal", back.id, "rollback");
    const forth = await untilReverseTask(admin, back.id, STEP_MS);
    const [row] = await admin.run("SHOW CUTOVER");
    expect(row).toMatchObject({ database: "prod", state: "committed", serving: "destination" });
    // Two more than before; an attempt that a slow machine undid has used one up.
    expect(Number(row?.epoch)).toBeGreaterThanOrEqual(3);
    expect([back.id, forth.id]).toEqual([4, 5]);
  }, 240_000);

  it("refuses what does not fit, in words", async () => {
    const { status, output } = await stack.temporal.cli(
      ...["workflow", "update", "execute", "--workflow-id", await operator.workflowIdOf(5)],
      ...["--name", "abort", "--input", "{}"],
    );
    expect(status).not.toBe(0);
    expect(output).toContain("after the switch there is rollback or finalize");
  }, 60_000);
});

describe("from a shell", () => {
  it("status, report; rollback and watch until it is done", async () => {
    const all = await sluice("migrate", "status");
    expect(all.stdout).toContain(`  5  replication ${PAIR} (reverse): running (replicating)`);
    const one = await sluice("migrate", "status", "5");
    expect(one.stdout).toMatch(
      /phase: replicating[\s\S]*workflow: replicate\/prod\/prod_sharded\/3/,
    );
    const report = await sluice("migrate", "report", "5");
    expect(report.code).toBe(0);
    expect(JSON.parse(report.stdout)).toMatchObject({
      taskId: 5,
      lastSwitch: { outcome: "committed", steps: { pause: expect.any(Number) as number } },
    });
    const wrong = await sluice("migrate", "abort", "5");
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/abort does not fit task 5[\s\S]*hint:.*rollback/);
    expect((await sluice("migrate", "rollback", "5")).code).toBe(0);
    const watched = await sluice("migrate", "watch", "5");
    expect(watched.stdout).toContain(`replication ${PAIR} (reverse): finished (rolling back)`);
    expect(watched.code).toBe(0);
    await untilReverseTask(admin, 5, STEP_MS);
  }, 150_000);

  it("finalizes by a signal from the CLI: nothing of ours is left on the side that serves", async () => {
    await operator.order("signal", 6, "finalize");
    expect(await untilFinished(admin, 6, STEP_MS)).toMatchObject({ innerStatus: "finalized" });
    const { source } = stack.cluster;
    expect(await source.sql("app", "SELECT FROM pg_replication_slots")).toEqual([]);
    expect(await source.sql("app", "SELECT FROM pg_trigger WHERE tgname LIKE 'sluice%'")).toEqual(
      [],
    );
    expect(writer.errors).toEqual([]);
    // Counted before the look, as the writer goes on meanwhile: all that were acknowledged are there.
    const acknowledged = writer.writes;
    const [sum] = await stack.source("SELECT sum(writes)::int AS n FROM tenants");
    expect(Number(sum?.n)).toBeGreaterThanOrEqual(acknowledged);
  }, 120_000);
});

describe("COPY_DATA and REPLICATE", () => {
  let slot: string;
  let task: number;

  it("COPY_DATA waits for CUTOVER", async () => {
    const [id = "", name = ""] = operator.psql(first, `COPY_DATA ${SMALL}`).out.split("|");
    task = Number(id);
    slot = name;
    expect(slot).toMatch(/^sluice_[0-9a-f]{12}_0$/);
    await untilInner(task, "replicating");
    // Ready, verified, and still it does not switch by itself.
    await until(
      async () =>
        (await sluice("migrate", "status", String(task))).stdout.includes("predicted pause:"),
      { timeoutMs: STEP_MS, intervalMs: 500, what: "a prediction" },
    );
    expect(await taskRow(task)).toMatchObject({ status: "running", innerStatus: "replicating" });
    const cutovers = await admin.run("SHOW CUTOVER");
    expect(cutovers.filter((row) => String(row.database).startsWith("small"))).toEqual([]);
  }, 150_000);

  it("REPLICATE goes on where a terminated task was, with its slot", async () => {
    for (const id of ["reshard/small/small_sharded", "replicate/small/small_sharded/0"])
      expect(await stack.temporal.cli("workflow", "terminate", "--workflow-id", id)).toMatchObject({
        status: 0,
      });
    await until(async () => (await taskRow(task))?.status.startsWith("failed: terminated"), {
      timeoutMs: 30_000,
      intervalMs: 200,
      what: "the task to show as terminated",
    });
    expect(() => operator.psql(second, `REPLICATE ${SMALL}`)).toThrow(
      /nothing of "small" is copied/,
    );
    await stack.cluster.source.sql("small", "INSERT INTO notes VALUES (1, 1000, 'between')");
    task = Number(operator.psql(second, `REPLICATE ${SMALL} ${slot}`).out);
    await untilInner(task, "replicating");
    expect(await taskRow(task)).toMatchObject({ type: "replication small -> small_sharded" });
    // The lowest that waits for it.
    expect(operator.psql(first, "CUTOVER").out).toBe("OK");
    // Not `untilReverseTask`: the terminated task is shown as failed, and stays so.
    const reverse = await until(
      async () =>
        (await rootTasks(admin)).find(
          ({ id, type }) => id > task && /\((reverse|forward)\)$/.test(type),
        ),
      { timeoutMs: STEP_MS, intervalMs: 200, what: "the switch" },
    );
    const counts = await Promise.all(
      stack.cluster.shards.map((server, shard) =>
        server.sql(`small_${shard}`, "SELECT count(*)::int AS n FROM notes"),
      ),
    );
    expect(counts.flat().reduce((sum, row) => sum + Number(row.n), 0)).toBe(301);
    await operator.order("update", reverse.id, "finalize");
    expect(await untilFinished(admin, reverse.id, STEP_MS)).toMatchObject({
      status: "finished",
      innerStatus: "finalized",
    });
  }, 240_000);
});

describe("MAINTENANCE", () => {
  it("the general flag holds a database whose own flag was taken down", async () => {
    // Before: a login asks a server, and so waits, too.
    const client = new pg.Client({ ...stack.addresses[0], port: second.port });
    await client.connect();
    for (const command of ["MAINTENANCE ON prod", "MAINTENANCE ON", "MAINTENANCE OFF prod"])
      operator.psql(second, command);
    let isAnswered = false;
    const answer = client.query("SELECT 1 AS n").then(({ rows }) => {
      isAnswered = true;
      return rows as unknown;
    });
    await until(
      () =>
        operator
          .psql(second, "SHOW CLIENTS")
          .out.split("\n")
          .some((line) => /prod.*waiting/.test(line)),
      { timeoutMs: 10_000, intervalMs: 100, what: "the client to wait" },
    );
    expect(isAnswered).toBe(false);
    operator.psql(second, "MAINTENANCE OFF");
    expect(await answer).toEqual([{ n: 1 }]);
    await client.end();
  }, 60_000);
});
