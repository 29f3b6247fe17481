import { readdirSync, readFileSync } from "node:fs";
import type { PostgresServer } from "./postgres.js";

const TICKS_PER_SECOND = 100;

/** User and system time of the postmaster, of its children that have ended, and of those that run. */
export function serverCpuSeconds({ pid }: PostgresServer): number {
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const fields = statOf(entry);
    if (entry === String(pid)) for (const field of [11, 12, 13, 14]) ticks += Number(fields[field]);
    else if (fields[1] === String(pid)) ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Fields of /proc/PID/stat from the third (state) on; the second may contain blanks. */
function statOf(entry: string): readonly string[] {
  try {
    const text = readFileSync(`/proc/${entry}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return []; // Ended meanwhile.
  }
}
