// Everything that CI runs, one part after the other: `npm test`, the slow matrices, and what a machine without an
// installed PostgreSQL runs. The last line on standard output is "N passed, N failed", over all parts.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const scripts = dirname(fileURLToPath(import.meta.url));
const PARTS = ["test", "test-bare", "test-full"];
const startedAt = Date.now();
const total = { passed: 0, failed: 0 };

for (const part of PARTS) {
  console.log(`== ${part}`);
  const { passed, failed } = await runPart(part);
  total.passed += passed;
  total.failed += failed;
}
console.log(`${((Date.now() - startedAt) / 1000).toFixed(0)} s in all`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;

/** A part that ends badly without a failure in its last line has failed once more. */
async function runPart(part) {
  const child = spawn(process.execPath, [join(scripts, `${part}.mjs`)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const forward = (signal) => () => child.kill(signal);
  const onSignal = { SIGINT: forward("SIGINT"), SIGTERM: forward("SIGTERM") };
  for (const [signal, handler] of Object.entries(onSignal)) process.on(signal, handler);
  const ended = new Promise((resolve) => child.once("close", resolve));
  let counts = { passed: 0, failed: 0 };
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line);
    const found = /^(\d+) passed, (\d+) failed$/.exec(line);
    if (found) counts = { passed: Number(found[1]), failed: Number(found[2]) };
  }
  const code = await ended;
  for (const [signal, handler] of Object.entries(onSignal)) process.removeListener(signal, handler);
  if (code !== 0 && counts.failed === 0) {
    console.log(`failed: ${part} ended with ${code}`);
    counts = { ...counts, failed: 1 };
  }
  return counts;
}
