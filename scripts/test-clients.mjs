// `npm run test:clients -- frameworks [django sqlalchemy knex drizzle]`: real clients of applications against Sluice;
// what they need is installed into our cache, once. The last line on standard output is "N passed, N failed".
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const [suite, ...names] = process.argv.slice(2);
const file = `${root}test/clients/${suite}/main.ts`;
if (suite === undefined || !existsSync(file)) {
  console.error("usage: npm run test:clients -- frameworks [NAME ...]");
  process.exit(2);
}
const child = spawn(process.execPath, ["--import", "tsx", file, ...names], {
  cwd: root,
  stdio: "inherit",
});
// Ctrl-C reaches the child too; it cleans up, and we wait for it.
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    if (signal === "SIGTERM") child.kill(signal);
  });
child.once("close", (code) => {
  process.exitCode = code ?? 1;
});
