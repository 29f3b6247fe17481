// Compiles to dist/ and bundles the workflows once, so that no proxy process ever runs webpack. Does nothing
// when dist/ is newer than everything it is made of: npm runs this at `npm ci` and again at the first `npx
// sluice`, when nodes may be running from it. The folder is exchanged as a whole for the same reason.
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
/** Its time of change is when the build began: what was saved meanwhile is newer. */
const stamp = join(dist, "built-at");
const sources = [
  "src",
  "workflows",
  "activities",
  "scripts/build.mjs",
  "tsconfig.json",
  "tsconfig.build.json",
  "package-lock.json",
];

const startedAt = new Date();
if (!isFresh()) await build();

/** Folders count as well: a file that was removed changes only its folder. */
function newestIn(path) {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  const inside = stats.isDirectory() ? readdirSync(path) : [];
  return Math.max(stats.mtimeMs, ...inside.map((name) => newestIn(join(path, name))));
}

function isFresh() {
  if (!existsSync(stamp)) return false;
  const newest = Math.max(...sources.map((source) => newestIn(join(root, source))));
  return statSync(stamp).mtimeMs > newest;
}

async function build() {
  // Beside node_modules' own caches: the same file system, and no tool looks there.
  const next = join(root, "node_modules", ".cache", `sluice-build-${process.pid}`);
  rmSync(next, { recursive: true, force: true });
  mkdirSync(next, { recursive: true });
  try {
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    const args = [tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", next];
    execFileSync(process.execPath, args, { stdio: "inherit", cwd: root });
    writeFileSync(join(next, "workflows.bundle.js"), await bundleWorkflows());
    writeFileSync(join(next, "built-at"), "");
    utimesSync(join(next, "built-at"), startedAt, startedAt);
    exchange(next);
  } finally {
    rmSync(next, { recursive: true, force: true });
  }
}

async function bundleWorkflows() {
  const { bundleWorkflowCode } = await import("@temporalio/worker");
  const quiet = () => {};
  const logger = {
    trace: quiet,
    debug: quiet,
    info: quiet,
    warn: quiet,
    error: console.error,
    log: quiet,
  };
  const workflowsPath = join(root, "workflows/index.ts");
  const { code } = await bundleWorkflowCode({ workflowsPath, logger });
  return code;
}

function exchange(next) {
  const old = `${next}-old`;
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(next, dist);
  rmSync(old, { recursive: true, force: true });
}
