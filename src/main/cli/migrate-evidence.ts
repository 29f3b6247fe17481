import { formatTime } from "../../admin/format.js";
import { allPrimaries } from "../../admin/task-check.js";
import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { workflowIdOf } from "../../control/task-api.js";
import { type EvidenceStatus, readEvidence } from "../../resharding/control/evidence.js";
import { withTasks } from "./migrate-commands.js";

/**
 * `sluice migrate evidence [task]`: from the databases to the terminal, and nowhere else (R56).
 * @returns the exit code: 1 when a server did not answer, so that something may be missing
 * @throws TaskUnknown, TemporalUnreachable (with a task)
 */
export async function showEvidence(paths: ConfigPaths, task: number | null): Promise<number> {
  const workflowId =
    task === null ? null : await withTasks(paths, (tasks) => workflowIdOf(tasks, task));
  const { rows, unreachable } = await readEvidence(allPrimaries(readConfig(paths)), workflowId);
  for (const row of rows) print(describe(row));
  for (const server of unreachable) process.stderr.write(`cannot reach ${server}\n`);
  if (rows.length === 0 && unreachable.length === 0) print("no task has stopped at a row");
  return unreachable.length === 0 ? 0 : 1;
}

function describe(row: EvidenceStatus): string {
  const table = row.table === "" ? "" : `, table ${row.schema}.${row.table}`;
  const at = row.notedAt === null ? "" : `, ${formatTime(row.notedAt)}`;
  // Somebody's row must not steer the terminal.
  const text = (row.evidence ?? "no row is named").split("\n");
  const lines = text.map((line) => `    ${line.replaceAll(/\p{Cc}/gu, "\u{fffd}")}`);
  return [
    `${row.step} (${row.scope})${table} on ${row.server}${at}`,
    `  ${row.reason}${row.code === "" ? "" : ` (${row.code})`}`,
    ...lines,
  ].join("\n");
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
