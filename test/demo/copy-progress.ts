import { Presets, SingleBar } from "cli-progress";
import type { Admin } from "../support/stack.js";
import { rootTasks } from "./tasks.js";

/** Shows the copy of a task as a bar until the task streams. @throws Error when the task fails */
export async function showCopy(admin: Admin, taskId: number, totalRows: number): Promise<void> {
  const bar = new SingleBar(
    {
      format: "  copy [{bar}] {percentage}% | {value}/{total} rows | {status}",
      hideCursor: true,
      noTTYOutput: true,
      notTTYSchedule: 2_000,
    },
    Presets.shades_classic,
  );
  bar.start(totalRows, 0, { status: "starting" });
  const copied = new Map<string, number>();
  try {
    for (;;) {
      const task = (await rootTasks(admin)).find((one) => one.id === taskId);
      if (!task) throw new Error(`task ${taskId} has vanished`);
      if (task.status.startsWith("failed")) throw new Error(`task ${taskId}: ${task.status}`);
      // A table's row goes when its copy has ended: what was seen last stays counted.
      for (const row of await admin.run("SHOW TABLE_COPIES")) {
        const table = `${String(row.schema)}.${String(row.table)}`;
        copied.set(table, Math.max(copied.get(table) ?? 0, Number(row.rows)));
      }
      const isDone = ["finalizing schema", "replicating", "cutting over"].includes(
        task.innerStatus,
      );
      const sum = [...copied.values()].reduce((total, rows) => total + rows, 0);
      bar.update(isDone ? totalRows : Math.min(sum, totalRows - 1), { status: task.innerStatus });
      if (isDone || task.status === "finished") return;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } finally {
    bar.stop();
  }
}
