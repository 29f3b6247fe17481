import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SHOW_NAMES } from "../../../src/admin/command.js";
import { rootTasks } from "../../demo/tasks.js";
import { builtLauncher } from "../../support/built.js";
import { runSluice, type SluiceNode } from "../../support/node.js";
import { type Operator, operatorOf } from "../../support/operator.js";
import { PLANTED, plantedIn } from "../../support/said.js";
import { type Admin, MIGRATION, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

/**
 * R56 on a whole node: a migration stops at rows with planted values, and they are looked for in every history,
 * memo and attribute of Temporal, in the log of all processes, and in all answers. Engine and all kinds of
 * failures: evidence.pg.test.ts.
 */

const STEP_MS = 120_000;
const ROW = [PLANTED.key, PLANTED.text];

let stack: Stack;
let node: SluiceNode;
let admin: Admin;
let operator: Operator;
const started: AsyncDisposable[] = [];

beforeAll(async () => {
  await builtLauncher();
  stack = await startStack({ rows: 600, nodes: 1, env: { SLUICE_LOG_LEVEL: "debug" } });
  started.push(stack);
  const [only] = stack.nodes;
  if (!only) throw new Error("the stack lacks a node");
  node = only;
  operator = operatorOf(stack);
  admin = await stack.admin();
  started.push(admin);
  await until(
    () =>
      admin.run("SHOW TASKS").then(
        () => true,
        () => false,
      ),
    { timeoutMs: 60_000, what: "Temporal to know the node" },
  );
  await stack.source(`INSERT INTO countries VALUES ('${PLANTED.key}', '${PLANTED.text}')`);
}, 240_000);

afterAll(async () => {
  for (const one of started.reverse()) await one[Symbol.asyncDispose]();
}, 60_000);

async function untilInner(is: RegExp): Promise<void> {
  await until(
    async () => {
      const [task] = await rootTasks(admin);
      return is.test(`${task?.status}, ${task?.innerStatus}`);
    },
    { timeoutMs: STEP_MS, intervalMs: 100, what: `a task that is ${is.source}` },
  );
}

async function sluice(...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await runSluice(args, { cwd: node.folder });
  return stdout + stderr;
}

async function temporal(...args: readonly string[]): Promise<string> {
  const { status, output } = await stack.temporal.cli(...args);
  if (status !== 0) throw new Error(`temporal ${args.join(" ")}: ${output}`);
  return output;
}

/** Everything that anybody can see without asking for rows, by where it is seen. */
async function everythingElse(): Promise<ReadonlyMap<string, string>> {
  const seen = new Map<string, string>();
  for (const name of SHOW_NAMES)
    if (name !== "evidence")
      seen.set(`SHOW ${name}`, JSON.stringify(await admin.run(`SHOW ${name.toUpperCase()}`)));
  const [task] = await rootTasks(admin);
  const names = ["--from", "prod", "--to", "prod_sharded", "--publication", "prod_tables"];
  for (const args of [["status"], ["status", `${task?.id}`], ["report", `${task?.id}`]])
    seen.set(`migrate ${args.join(" ")}`, await sluice("migrate", ...args));
  seen.set("migrate plan", await sluice("migrate", "plan", ...names));
  const list = await temporal("workflow", "list", "--output", "json");
  seen.set("temporal list", list);
  const executions = [
    ...list.matchAll(/"workflowId":\s*"([^"]+)",\s*"runId":\s*"([^"]+)"/gu),
  ].flatMap(([, workflow = "", run = ""]) => [["--workflow-id", workflow, "--run-id", run]]);
  expect(executions.length).toBeGreaterThan(1);
  for (const execution of executions) {
    const which = execution.join(" ");
    const json = ["--output", "json"];
    seen.set(`history ${which}`, await temporal("workflow", "show", ...execution, ...json));
    seen.set(`describe ${which}`, await temporal("workflow", "describe", ...execution, ...json));
    const details = await stack.temporal.cli("workflow", "metadata", ...execution);
    seen.set(`metadata ${which}`, details.output);
  }
  seen.set("log", node.log());
  return seen;
}

async function expectNowhereElse(): Promise<void> {
  const leaks = [...(await everythingElse())].flatMap(([where, text]) =>
    plantedIn(text).map((value) => `${where}: ${value}`),
  );
  expect(leaks).toEqual([]);
}

describe("R56: a migration that stops at rows", () => {
  it("of the copy: the destination refuses one", async () => {
    operator.psql(node, `SCHEMA_SYNC PRE ${MIGRATION}`);
    await untilInner(/^finished/);
    // As an application's functions speak: of the value that they do not like.
    await stack.shards[0]?.(
      `CREATE FUNCTION is_short(code text, name text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
         IF length(code) > 4 THEN RAISE EXCEPTION 'country % (%) is no code', code, name; END IF;
         RETURN true; END $$;
       ALTER TABLE countries ADD CONSTRAINT short CHECK (is_short(code, name))`,
    );
    expect(operator.psql(node, `COPY_DATA ${MIGRATION}`).out).toMatch(/^1\|/);
    await untilInner(/parked: SLUICE_COPY_FAILED/);
    const rows = await admin.run("SHOW EVIDENCE 1");
    expect(rows).toMatchObject([
      { step: "copy", schema: "public", table: "countries", code: "SLUICE_COPY_FAILED" },
    ]);
    expect(plantedIn(String(rows[0]?.evidence))).toEqual(ROW);
    expect(plantedIn(await sluice("migrate", "evidence", "1"))).toEqual(ROW);
    await expectNowhereElse();
    // What a person is told without the row leads to it.
    expect(await sluice("migrate", "status", "1")).toMatch(
      /public\.countries range 0 failed: raise exception[\s\S]*SHOW EVIDENCE/,
    );
  }, 180_000);

  it("of a lane: one is not there any more", async () => {
    await stack.shards[0]?.("ALTER TABLE countries DROP CONSTRAINT short");
    await operator.order("signal", 1, "retryStep");
    await untilInner(/^running, replicating$/);
    // Behind the gate, as somebody with all rights may.
    await stack.shards[1]?.(
      `SET session_replication_role = replica; DELETE FROM countries WHERE code = '${PLANTED.key}'`,
    );
    await stack.source(`UPDATE countries SET name = 'new' WHERE code = '${PLANTED.key}'`);
    await untilInner(/parked: SLUICE_LANE_ROW_MISSING/);
    const rows = await admin.run("SHOW EVIDENCE");
    expect(rows).toMatchObject([{ step: "lane", scope: "stream 0, 0 -> 1" }]);
    expect(plantedIn(String(rows[0]?.evidence))).toEqual([PLANTED.key]);
    expect(plantedIn(await sluice("migrate", "evidence"))).toEqual([PLANTED.key]);
    await expectNowhereElse();
  }, 180_000);

  it("and leaves nothing of them when it is over", async () => {
    expect(operator.psql(node, "STOP_TASK 1").out).toBe("OK");
    await untilInner(/^cancelled/);
    expect(await admin.run("SHOW EVIDENCE")).toEqual([]);
    await expectNowhereElse();
  }, 120_000);
});
