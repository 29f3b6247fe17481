import { setTimeout as sleep } from "node:timers/promises";
import progress from "cli-progress";
import { formatBytes, formatCount } from "../../admin/format.js";
import { allPrimaries } from "../../admin/task-check.js";
import type { ConfigPaths } from "../../config/read-config.js";
import { type TaskClient, type TaskRow, TaskUnknown } from "../../control/task-api.js";
import { readTableCopies, type TableCopyStatus } from "../../resharding/control/status.js";
import { describe, withTasks } from "./migrate-commands.js";

const INTERVAL_MS = 1_000;

/**
 * `sluice migrate watch`: a bar per table while it is copied, a line per change of phase or reason to wait.
 * @returns the exit code: 0 when the task finished, 1 when it failed or was cancelled
 */
export async function watchMigration(paths: ConfigPaths, id: number): Promise<number> {
  return await withTasks(paths, async (tasks, config) => {
    const bars = new TableBars();
    let last = "";
    for (;;) {
      const row = (await tasks.list()).find((task) => task.id === id);
      if (row === undefined) throw new TaskUnknown(`no task has the id ${id}`);
      bars.update((await readTableCopies(allPrimaries(config))).rows);
      const line = await lineOf(tasks, row);
      // Before the last line: what the bars have yet to draw is lost when they stop.
      if (hasEnded(row)) bars.stop();
      if (line !== last) bars.log(line);
      last = line;
      if (hasEnded(row)) return row.status === "finished" ? 0 : 1;
      await sleep(INTERVAL_MS);
    }
  });
}

async function lineOf(tasks: TaskClient, row: TaskRow): Promise<string> {
  const head = describe({ ...row, elapsedMs: 0 }).replace(/, [\d:]+$/u, "");
  if (row.id === null || hasEnded(row)) return head;
  const { phase, waitingFor, parked } = await tasks.status(row.id);
  const why = parked === null ? waitingFor.join("; ") : `${parked.message} (${parked.hint})`;
  const now = phase === row.innerStatus ? "" : `, ${phase}`;
  return `${head}${now}${why === "" ? "" : `: ${why}`}`;
}

function hasEnded({ status }: TaskRow): boolean {
  return ["finished", "cancelled"].includes(status) || status.startsWith("failed");
}

/** A bar per table that is being copied; without a terminal only the lines. */
class TableBars {
  readonly #multi = new progress.MultiBar(
    {
      format: "{bar} {percentage}% | {name} | {rows} rows | {bytes}",
      hideCursor: true,
      clearOnComplete: false,
      stopOnComplete: false,
    },
    progress.Presets.shades_classic,
  );
  readonly #bars = new Map<string, progress.SingleBar>();
  #isStopped = false;

  update(tables: readonly TableCopyStatus[]): void {
    if (!process.stdout.isTTY) return;
    const seen = new Set<string>();
    for (const table of tables) {
      const name = `${table.schema}.${table.table}`;
      seen.add(name);
      const payload = {
        name,
        rows: formatCount(table.rowCount),
        bytes: formatBytes(table.byteCount),
      };
      const bar = this.#bars.get(name) ?? this.#multi.create(table.rangeCount, 0, payload);
      this.#bars.set(name, bar);
      bar.update(table.doneRangeCount, payload);
    }
    // A table whose copy is done is not listed any more.
    for (const [name, bar] of this.#bars)
      if (!seen.has(name)) bar.update(bar.getTotal(), { rows: "all", bytes: "copied" });
  }

  log(line: string): void {
    if (process.stdout.isTTY && !this.#isStopped) this.#multi.log(`${line}\n`);
    else process.stdout.write(`${line}\n`);
  }

  stop(): void {
    this.#isStopped = true;
    this.#multi.stop();
  }
}
