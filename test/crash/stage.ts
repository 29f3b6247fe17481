import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { untilDrained } from "../demo/drained.js";
import { rootTasks, type Task, untilFinished } from "../demo/tasks.js";
import { compareSides } from "../support/load/compare.js";
import { readFinalTables } from "../support/load/final-tables.js";
import { judge } from "../support/load/judge.js";
import { type Load, startLoad } from "../support/load/load.js";
import { type Child, parentOf } from "../support/node.js";
import { SHOP_TABLES } from "../support/shop/application.js";
import { type Admin, MIGRATION, type Stack, startStack } from "../support/stack.js";
import { until } from "../support/until.js";

/** A named step at which the process that reached it stands still until it is killed or let go. */
export class PausePoints {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "sluice-crash-"));
    for (const name of ["pause", "at"]) mkdirSync(join(this.folder, name));
  }

  set(step: string): void {
    rmSync(join(this.folder, "at", step), { force: true });
    writeFileSync(join(this.folder, "pause", step), "");
  }

  /** @returns the pid of the process that stands there */
  async reached(step: string, timeoutMs = 90_000): Promise<number> {
    const at = join(this.folder, "at", step);
    await until(() => existsSync(at) && readFileSync(at, "utf8") !== "", {
      timeoutMs,
      what: `somebody to reach ${step}`,
    });
    return Number(readFileSync(at, "utf8"));
  }

  letGo(step: string): void {
    rmSync(join(this.folder, "pause", step), { force: true });
    rmSync(join(this.folder, "at", step), { force: true });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The whole product under a ledger load, with something to kill. */
export interface Stage extends AsyncDisposable {
  readonly stack: Stack;
  readonly load: Load;
  readonly points: PausePoints;
  /** Asks whichever node is alive, on a connection of its own each time. */
  readonly admin: Admin;
  /** Index of the node that a process belongs to. Throws for a process that has ended, or is nobody's. */
  nodeOf(pid: number): number;
  /** SIGKILL of one of our nodes' processes, by pid; never of anything else. */
  kill(pid: number): void;
  /** SIGKILL of every process of a role, on the given node or on all. */
  killAll(role: Child["role"], node?: number): void;
  /** Kills Temporal and starts it again from its file. */
  restartTemporal(): Promise<void>;
}

const CLIENTS = 8;
/** Clients are there at every moment, and leave the cores to what recovers. */
const THINK_MS = 40;
const ROWS = 6_000;

export async function startStage(options: { readonly general?: string } = {}): Promise<Stage> {
  const points = new PausePoints();
  const stack = await startStack({
    rows: ROWS,
    nodes: 2,
    temporalFile: join(points.folder, "temporal.sqlite"),
    sluice: "[copy]\nrange_rows = 1000\n",
    env: { SLUICE_TEST_ANNOUNCE: points.folder },
    // Processes are killed here, machines are not.
    settings: { fsync: "off" },
    ...options,
  });
  try {
    const load = await startLoad({
      addresses: stack.addresses,
      clients: CLIENTS,
      thinkMs: THINK_MS,
      seed: 7,
      tenants: stack.seeded.tenants ?? 1,
    });
    const admin = adminOfAny(stack);
    const children = (node: number) => stack.nodes[node]?.children() ?? [];
    const own = () =>
      stack.nodes.flatMap((node) => [node.pid, ...node.children().map((one) => one.pid)]);
    return {
      stack,
      load,
      points,
      admin,
      nodeOf: (pid) => {
        const parent = parentOf(pid);
        const index = stack.nodes.findIndex((node) => node.pid === parent);
        if (index >= 0) return index;
        const nodes = stack.nodes.map((node) => node.pid).join(", ");
        const parentage = parent === null ? "is gone" : `is a child of ${parent}`;
        const logs = stack.nodes.map((node) => node.log().split("\n").slice(-20).join("\n"));
        throw new Error(`${pid} ${parentage}, the nodes are ${nodes}\n${logs.join("\n---\n")}`);
      },
      kill: (pid) => {
        expect(own(), "only our own processes are killed").toContain(pid);
        process.kill(pid, "SIGKILL");
      },
      killAll: (role, node) => {
        const nodes = node === undefined ? stack.nodes.map((_, index) => index) : [node];
        for (const child of nodes.flatMap(children))
          if (child.role === role) process.kill(child.pid, "SIGKILL");
      },
      restartTemporal: async () => {
        await stack.temporal.kill();
        await stack.temporal.start();
      },
      [Symbol.asyncDispose]: async () => {
        await load.stop();
        await admin[Symbol.asyncDispose]();
        await stack[Symbol.asyncDispose]();
        points.remove();
      },
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    points.remove();
    throw error;
  }
}

function adminOfAny(stack: Stack): Admin {
  const run = async (command: string) => {
    let failure: unknown = new Error("no node");
    for (let node = 0; node < stack.nodes.length; node++) {
      try {
        await using admin = await stack.admin(node);
        return await admin.run(command);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  };
  return { run, [Symbol.asyncDispose]: async () => {} };
}

/** Tasks as an operator sees them; null while Temporal or its worker is away. */
export async function tasksNow(stage: Stage): Promise<readonly Task[] | null> {
  return await rootTasks(stage.admin).catch(() => null);
}

export async function untilTask(
  stage: Stage,
  what: string,
  is: (task: Task) => boolean,
): Promise<Task> {
  return await until(
    async () => {
      const tasks = await tasksNow(stage);
      const failed = tasks?.find((task) => task.status.startsWith("failed"));
      if (failed) throw new Error(`task ${failed.id}: ${failed.status}`);
      return tasks?.find(is) ?? null;
    },
    { timeoutMs: 120_000, intervalMs: 200, what },
  );
}

/** A command that Temporal may not be able to take yet. */
export async function say(stage: Stage, command: string): Promise<Record<string, unknown>[]> {
  return await until(async () => await stage.admin.run(command).catch(() => null), {
    timeoutMs: 60_000,
    intervalMs: 500,
    what: `${command} to be taken`,
  });
}

/** @returns the epoch of the first committed switch above `after` */
export async function untilCommitted(stage: Stage, after: number): Promise<number> {
  return await until(
    async () => {
      const rows = await stage.admin.run("SHOW CUTOVER").catch(() => []);
      const row = rows.find((one) => one.state === "committed" && Number(one.epoch) > after);
      return row ? Number(row.epoch) : null;
    },
    { timeoutMs: 120_000, intervalMs: 200, what: `a committed epoch above ${after}` },
  );
}

export async function untilReverse(stage: Stage, after: number): Promise<Task> {
  return await untilTask(
    stage,
    `the way back after task ${after}`,
    (task) =>
      task.id > after && /\((reverse|forward)\)$/.test(task.type) && task.status === "running",
  );
}

/** Clients are served: some writes are acknowledged from now on. */
export async function untilServed(stage: Stage): Promise<void> {
  const before = stage.load.report().acknowledged;
  await until(() => stage.load.report().acknowledged > before + 40, {
    timeoutMs: 60_000,
    what: "clients to be served",
  });
}

/**
 * The end of every scenario: both sides equal, finalized, and each client's story is in the tables, once.
 * The oracle knows client histories and final tables only.
 */
export async function judgeStage(stage: Stage, wayBack: Task): Promise<void> {
  await stage.load.stop();
  await untilDrained(stage.stack);
  const comparison = await compareSides(stage.stack.source, stage.stack.shards, SHOP_TABLES);
  await say(stage, `STOP_TASK ${wayBack.id}`);
  await untilFinished(stage.admin, wayBack.id, 60_000);
  const report = stage.load.report();
  const judgement = judge(report.histories, await readFinalTables(stage.stack.shards));
  expect(judgement.findings).toEqual([]);
  expect({ lost: judgement.lost, doubled: judgement.doubled }).toEqual({ lost: 0, doubled: 0 });
  expect(comparison.findings).toEqual([]);
  expect(report.acknowledged).toBeGreaterThan(300);
}

/** COPY_DATA, so that the switch waits for CUTOVER. @returns its task */
export async function copyData(stage: Stage): Promise<number> {
  const [started] = await say(stage, `COPY_DATA ${MIGRATION}`);
  return Number(started?.task_id);
}

/** The copy has ended and the lanes run. */
export async function untilReplicating(stage: Stage, task: number): Promise<void> {
  await untilTask(
    stage,
    "the copy to end",
    (one) => one.id === task && one.innerStatus === "replicating",
  );
}
