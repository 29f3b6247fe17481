// `npm run demo [-- --rows N --clients N --report FILE --keep]`: the story is test/demo/main.ts.
// Nodes run as they are installed (bin/sluice.js), so the build has to be there.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
if (!existsSync(`${root}dist/src/main/cli.js`)) {
  const build = spawnSync(process.execPath, [`${root}scripts/build.mjs`], { stdio: "inherit" });
  if (build.status !== 0) process.exit(1);
}
const child = spawn(
  process.execPath,
  ["--import", "tsx", `${root}test/demo/main.ts`, ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit" },
);
// Ctrl-C reaches the child too; it cleans up, and we wait for it.
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    if (signal === "SIGTERM") child.kill(signal);
  });
child.once("close", (code) => {
  process.exitCode = code ?? 1;
});
