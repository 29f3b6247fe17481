import { performance } from "node:perf_hooks";
import type { Admin } from "../support/stack.js";
import { until } from "../support/until.js";

export interface SwitchSteps {
  readonly pause: number;
  readonly synchronize: number;
  readonly swap: number;
  readonly reverse: number;
  readonly resume: number;
}

/** A committed switch as SHOW CUTOVER tells it. */
export interface Switched {
  readonly epoch: number;
  readonly steps: SwitchSteps;
  /** From the order to hold until the last node has released its clients. */
  readonly pauseMs: number;
  /** When we saw it, by `performance.now()`: within a poll of the end of the pause. */
  readonly seenAtMs: number;
}

export interface Task {
  readonly id: number;
  readonly type: string;
  readonly status: string;
  readonly innerStatus: string;
}

/** Root tasks, newest first, as an operator sees them. */
export async function rootTasks(admin: Admin): Promise<readonly Task[]> {
  const rows = await admin.run("SHOW TASKS");
  return rows
    .filter((row) => row.scope === "root")
    .map((row) => ({
      id: Number(row.id),
      type: String(row.type),
      status: String(row.status),
      innerStatus: String(row.inner_status),
    }));
}

/**
 * Waits until a switch has left a new way back: a reverse task above `after`, running.
 * @throws Error with the status when a task fails meanwhile
 */
export async function untilReverseTask(
  admin: Admin,
  after: number,
  timeoutMs: number,
): Promise<Task> {
  return await until(
    async () => {
      await failWithTask(admin);
      return (await rootTasks(admin)).find(
        (task) =>
          task.id > after && /\((reverse|forward)\)$/.test(task.type) && task.status === "running",
      );
    },
    { timeoutMs, intervalMs: 100, what: "the switch" },
  );
}

/**
 * @param after the epoch of the last committed switch; 0: there was none. An attempt that is undone has an epoch, too,
 *   so the next committed one need not be one above
 * @throws Error with the status when a task fails meanwhile
 */
export async function untilSwitched(
  admin: Admin,
  after: number,
  timeoutMs: number,
): Promise<Switched> {
  let polls = 0;
  return await until(
    async () => {
      // Tasks come from Temporal, which need not be asked ten times a second.
      if (polls++ % 20 === 0) await failWithTask(admin);
      const rows = await admin.run("SHOW CUTOVER");
      const row = rows.find((one) => Number(one.epoch) > after && one.state === "committed");
      if (row === undefined || row.pause_ms === null) return null;
      const ms = (step: string) => Number(row[`step_${step}_ms`]);
      return {
        epoch: Number(row.epoch),
        steps: {
          pause: ms("pause"),
          synchronize: ms("synchronize"),
          swap: ms("swap"),
          reverse: ms("reverse"),
          resume: ms("resume"),
        },
        pauseMs: Number(row.pause_ms),
        seenAtMs: performance.now(),
      };
    },
    { timeoutMs, intervalMs: 100, what: `a switch above epoch ${after}` },
  );
}

async function failWithTask(admin: Admin): Promise<void> {
  const failed = (await rootTasks(admin)).find((task) => task.status.startsWith("failed"));
  if (failed) throw new Error(`task ${failed.id}, ${failed.type}: ${failed.status}`);
}

export async function untilFinished(admin: Admin, id: number, timeoutMs: number): Promise<Task> {
  return await until(
    async () => {
      const task = (await rootTasks(admin)).find((one) => one.id === id);
      if (task?.status.startsWith("failed")) throw new Error(`task ${id}: ${task.status}`);
      return task && ["finished", "cancelled"].includes(task.status) ? task : null;
    },
    { timeoutMs, intervalMs: 100, what: `task ${id} to end` },
  );
}
