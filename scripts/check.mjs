// Every static check, two at a time. `npm run check` prints what fails and exits non-zero then.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const rooms = ["src", "workflows", "activities"].filter((name) => existsSync(`${root}${name}`));
const cache = `${root}node_modules/.cache/sluice-check`;
// The longest first, so that the short ones fill the other core.
const CHECKS = [
  ["eslint", ["--max-warnings", "0", ...rooms, "test"]],
  // What it keeps are hashes of the files: it believes no time of change.
  [
    "tsc",
    ["--noEmit", "-p", ".", "--incremental", "--tsBuildInfoFile", `${cache}/tsc.tsbuildinfo`],
  ],
  ["depcruise", ["--config", ".dependency-cruiser.cjs", ...rooms]],
  ["knip", ["--no-progress"]],
  // What only tests use, unless it says so: dead code of the product.
  ["knip", ["--no-progress", "--production", "--tags=-testonly"]],
  ["biome", ["check", "--error-on-warnings", "."]],
];
const SIDE_BY_SIDE = 2;

/** @returns {Promise<{name: string, passed: boolean}[]>} */
export async function runChecks() {
  const waiting = [...CHECKS];
  const results = [];
  const worker = async () => {
    for (let check = waiting.shift(); check; check = waiting.shift())
      results.push(await runCheck(...check));
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  return results;
}

function runCheck(name, args) {
  const startedAt = Date.now();
  return new Promise((resolve) => {
    const output = [];
    const child = spawn(`${root}node_modules/.bin/${name}`, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.on("data", (chunk) => output.push(chunk));
    child.stderr.on("data", (chunk) => output.push(chunk));
    child.once("error", (error) => output.push(`${error.message}\n`));
    child.once("close", (code) => {
      const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
      console.log(`${code === 0 ? "ok  " : "FAIL"} check ${name} (${seconds} s)`);
      if (code !== 0) console.log(output.join(""));
      resolve({ name: `check ${name}`, passed: code === 0 });
    });
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const results = await runChecks();
  process.exitCode = results.every((result) => result.passed) ? 0 : 1;
}
