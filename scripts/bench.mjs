// `npm run bench -- NAME [options]` runs test/bench/NAME.bench.ts; without a name it lists them.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = `${root}test/bench/`;
const [name, ...options] = process.argv.slice(2);
const file = `${folder}${name}.bench.ts`;
if (name === undefined || !existsSync(file)) {
  const names = existsSync(folder)
    ? readdirSync(folder)
        .filter((entry) => entry.endsWith(".bench.ts"))
        .map((entry) => entry.slice(0, -".bench.ts".length))
    : [];
  console.error(`usage: npm run bench -- NAME\nbenchmarks: ${names.join(", ") || "none"}`);
  process.exit(2);
}
const result = spawnSync(process.execPath, ["--import", "tsx", file, ...options], {
  cwd: root,
  stdio: "inherit",
});
process.exitCode = result.status ?? 1;
