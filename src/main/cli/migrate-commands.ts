import { formatElapsed } from "../../admin/format.js";
import { checkTask } from "../../admin/task-check.js";
import type { Config } from "../../config/model.js";
import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import {
  type StartTask,
  type TaskClient,
  type TaskRow,
  TaskUnknown,
} from "../../control/task-api.js";
import { connectTasks } from "../../control/temporal/task-client.js";
import { createLog } from "../../observe/log.js";
import { COMMAND_ORDERS, type CommandOrder } from "../../resharding/model/orders.js";

export interface MigrationNames {
  readonly from: string;
  readonly to: string;
  readonly publication: string;
}

/** Runs `use` with the configuration and a client of its Temporal. */
export async function withTasks<T>(
  paths: ConfigPaths,
  use: (tasks: TaskClient, config: Config) => Promise<T>,
): Promise<T> {
  const config = readConfig(paths);
  const tasks = connectTasks({
    temporal: config.sluice.temporal,
    timeoutMs: config.sluice.adminApiTimeoutMs,
    log: createLog({ process: "cli" }, "error"),
  });
  try {
    return await use(tasks, config);
  } finally {
    await tasks.close();
  }
}

/** `sluice migrate start`. @returns the task id */
export async function startMigration(
  paths: ConfigPaths,
  options: MigrationNames & { readonly isAutomatic: boolean },
): Promise<number> {
  const { from, to, publication } = options;
  return await start(paths, {
    kind: options.isAutomatic ? "reshard" : "copy_data",
    source: from,
    destination: to,
    publication,
    slot: null,
  });
}

/** `sluice schema-sync`. @returns the exit code */
export async function startSchemaSync(
  paths: ConfigPaths,
  options: MigrationNames & { readonly phase: "pre" | "post" | "cutover" },
): Promise<number> {
  const { from, to, publication, phase } = options;
  await start(paths, { kind: "schema_sync", source: from, destination: to, publication, phase });
  return 0;
}

async function start(paths: ConfigPaths, request: StartTask): Promise<number> {
  return await withTasks(paths, async (tasks, config) => {
    await checkTask(config, { slot: null, ...request });
    const { taskId, workflowId } = await tasks.start(request);
    print(`task ${taskId}, Temporal workflow id: ${workflowId}`);
    return taskId;
  });
}

/** `sluice migrate status [task]`. @returns the exit code */
export async function showTasks(paths: ConfigPaths, id: number | null): Promise<number> {
  return await withTasks(paths, async (tasks) => {
    for (const row of await tasks.list()) if (id === null || row.id === id) print(describe(row));
    if (id === null) return 0;
    const details = await tasks.status(id);
    print(`phase: ${details.phase}`);
    for (const reason of details.waitingFor) print(`waiting: ${reason}`);
    if (details.parked !== null) {
      const { step, code, message, hint } = details.parked;
      print(`parked in ${step}: ${message} (${code})`);
      print(`hint: ${hint}`);
    }
    if (details.lagBytes !== null) print(`lag: ${details.lagBytes} bytes`);
    if (details.predictedPauseMs !== null)
      print(`predicted pause: ${Math.round(details.predictedPauseMs)} ms`);
    print(`workflow: ${details.workflowId}`);
    return 0;
  });
}

/** One line for a row of SHOW TASKS. */
export function describe(row: TaskRow): string {
  const id = row.id === null ? "   " : String(row.id).padStart(3);
  const inner = row.innerStatus === "" ? "" : ` (${row.innerStatus})`;
  return `${id}  ${row.type}: ${row.status}${inner}, ${formatElapsed(row.elapsedMs)}`;
}

/**
 * `sluice migrate cutover | rollback | finalize | abort`. The words name a direction, so each is refused on
 * a task of the other one: an abort that in truth finalizes would give up the way back.
 * @returns the exit code
 * @throws TaskUnknown when the order does not fit the task
 */
export async function orderTask(
  paths: ConfigPaths,
  order: CommandOrder,
  id: number,
): Promise<number> {
  return await withTasks(paths, async (tasks) => {
    const row = (await tasks.list()).find((task) => task.id === id);
    if (row === undefined) throw new TaskUnknown(`no task has the id ${id}`);
    const isReverse = /\((reverse|forward)\)$/.test(row.type);
    const wantsReverse = COMMAND_ORDERS[order].phase === "reverse";
    if (isReverse !== wantsReverse)
      throw new TaskUnknown(`${order} does not fit task ${id}, ${row.type}`, {
        hint: wantsReverse
          ? "It takes the reverse task, which begins when a switch has been made."
          : "On the reverse task it is `rollback`, or `finalize`.",
      });
    if (order === "cutover" || order === "rollback") await tasks.cutover(id);
    else if ((await tasks.stop(id)) !== "OK") throw new TaskUnknown(`task ${id} has ended already`);
    print(`${order} ordered for task ${id}; \`sluice migrate watch ${id}\` shows how it goes`);
    return 0;
  });
}

/** `sluice migrate report`. @returns the exit code: 1 when the task has made no switch */
export async function reportTask(paths: ConfigPaths, id: number): Promise<number> {
  return await withTasks(paths, async (tasks) => {
    const { taskId, workflowId, phase, lastSwitch } = await tasks.status(id);
    print(JSON.stringify({ taskId, workflowId, phase, lastSwitch }, null, 2));
    return lastSwitch === null ? 1 : 0;
  });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
