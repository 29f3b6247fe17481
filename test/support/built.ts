import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const STALE_LOCK_MS = 270_000;

let built: Promise<void> | null = null;

/**
 * The launcher of a checkout that is built: once per test file, so that all its nodes run the same code, and by
 * one test file at a time.
 */
export async function builtLauncher(): Promise<string> {
  built ??= build();
  await built;
  return join(ROOT, "bin/sluice.js");
}

/** The bundle of the workflows that the same build makes, for the workers of tests. */
export async function builtWorkflows(): Promise<string> {
  built ??= build();
  await built;
  return join(ROOT, "dist/workflows.bundle.js");
}

async function build(): Promise<void> {
  const lock = join(tmpdir(), `sluice-build-${Buffer.from(ROOT).toString("hex").slice(-40)}`);
  await until(() => take(lock), { timeoutMs: 280_000, what: "another test file's build" });
  try {
    const run = spawnSync(process.execPath, [join(ROOT, "scripts/build.mjs")], {
      cwd: ROOT,
      encoding: "utf8",
    });
    if (run.status !== 0) throw new Error(`build failed:\n${run.stdout}${run.stderr}`);
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

/** mkdir is the lock: it fails where the folder is. One that a killed run left is taken over. */
function take(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    const age = existsSync(lock) ? Date.now() - statSync(lock).mtimeMs : 0;
    if (age > STALE_LOCK_MS) rmSync(lock, { recursive: true, force: true });
    return false;
  }
}
