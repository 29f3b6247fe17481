import {
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unprivilegedUser } from "./unprivileged.js";

const MEMORY = "/dev/shm";
const GIB = 1024 ** 3;
/** What a run of the suite takes at most, three files at once, with room for the servers themselves. */
const NEEDED = { inMemoryFolder: 4 * GIB, available: 8 * GIB };

/** No run of the suite takes as long (scripts/run-vitest.mjs). */
const LEFT_BEHIND_MS = 3_600_000;

let isSwept = false;

/**
 * A new folder for one server, of the user it runs as: in memory where there is plenty, as a test that makes a
 * database makes 300 files, which costs a disk 200 ms and memory 30.
 */
export function makeServerFolder(): string {
  const parent = hasPlentyOfMemory() ? MEMORY : tmpdir();
  if (!isSwept) sweep(parent);
  isSwept = true;
  const folder = mkdtempSync(join(parent, `sluice-pg-${process.pid}-`));
  const user = unprivilegedUser();
  if (user) chownSync(folder, user.uid, user.gid);
  return folder;
}

function hasPlentyOfMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
    return bavail * bsize >= NEEDED.inMemoryFolder && Number(kib ?? 0) * 1024 >= NEEDED.available;
  } catch {
    // Not Linux.
    return false;
  }
}

/** A run that was killed leaves its folders: those whose maker and server are both gone. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const maker = /^sluice-pg-(\d+)-/.exec(name)?.[1];
    if (maker === undefined || isRunning(Number(maker))) continue;
    try {
      // Somebody whose processes we do not see, from another container, may be running it.
      if (Date.now() - statSync(join(parent, name)).mtimeMs < LEFT_BEHIND_MS) continue;
      const pidFile = readFileSync(join(parent, name, "data", "postmaster.pid"), "utf8");
      if (isRunning(Number(pidFile.split("\n")[0]))) continue;
    } catch {
      // It has ended properly, or never began.
    }
    try {
      rmSync(join(parent, name), { recursive: true, force: true });
    } catch {
      // Somebody else's.
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
