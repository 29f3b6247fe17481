import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = ["src", "workflows", "activities", "scripts/build.mjs"];
const ENTRY = join(ROOT, "dist/src/main/cli.js");

/** The launcher of a checkout that is built: `dist/` is made anew when a source is newer. */
export async function builtLauncher(): Promise<string> {
  const lock = join(tmpdir(), `sluice-build-${Buffer.from(ROOT).toString("hex").slice(-40)}`);
  await until(() => take(lock), { timeoutMs: 120_000, what: "another test file's build" });
  try {
    if (!isFresh()) {
      const build = spawnSync(process.execPath, [join(ROOT, "scripts/build.mjs")], {
        cwd: ROOT,
        encoding: "utf8",
      });
      if (build.status !== 0) throw new Error(`build failed:\n${build.stdout}${build.stderr}`);
    }
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
  return join(ROOT, "bin/sluice.js");
}

/** mkdir is the lock: it fails where the folder is. One that a killed run left is taken over. */
function take(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    const age = existsSync(lock) ? Date.now() - statSync(lock).mtimeMs : 0;
    if (age > 110_000) rmSync(lock, { recursive: true, force: true });
    return false;
  }
}

function isFresh(): boolean {
  if (!existsSync(ENTRY)) return false;
  const newest = Math.max(...SOURCES.map((source) => newestIn(join(ROOT, source))));
  return statSync(ENTRY).mtimeMs >= newest;
}

function newestIn(path: string): number {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newestIn(join(path, name))));
}
