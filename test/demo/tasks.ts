import { spawn } from "node:child_process";
import { join } from "node:path";
import { builtLauncher } from "../support/built.js";
import type { SluiceNode } from "../support/node.js";
import type { Admin } from "../support/stack.js";
import { until } from "../support/until.js";

export interface SwitchSteps {
  readonly pause: number;
  readonly synchronize: number;
  readonly swap: number;
  readonly reverse: number;
  readonly resume: number;
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
      const tasks = await rootTasks(admin);
      const failed = tasks.find((task) => task.status.startsWith("failed"));
      if (failed) throw new Error(`task ${failed.id}, ${failed.type}: ${failed.status}`);
      return tasks.find(
        (task) => task.id > after && task.type.endsWith("(reverse)") && task.status === "running",
      );
    },
    { timeoutMs, intervalMs: 100, what: "the switch" },
  );
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

/** The five steps of the last switch of a task, by `sluice migrate report`. */
export async function switchSteps(node: SluiceNode, taskId: number): Promise<SwitchSteps> {
  return await until(
    async () => {
      const report = JSON.parse(await runSluice(node, ["migrate", "report", String(taskId)])) as {
        lastSwitch: { outcome: string; steps: SwitchSteps | null } | null;
      };
      return report.lastSwitch?.outcome === "committed" ? report.lastSwitch.steps : null;
    },
    { timeoutMs: 20_000, intervalMs: 200, what: `the steps of the switch of task ${taskId}` },
  );
}

/** Beside the load, which must go on: not the synchronous kind. */
async function runSluice(node: SluiceNode, args: readonly string[]): Promise<string> {
  const files = ["--config", join(node.folder, "pgdog.toml")];
  files.push("--users", join(node.folder, "users.toml"));
  const launcher = await builtLauncher();
  return await new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [launcher, ...args, ...files], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", () => {
      if (stdout.trim() === "") reject(new Error(`sluice ${args.join(" ")}: ${stderr}`));
      else resolve(stdout);
    });
  });
}
