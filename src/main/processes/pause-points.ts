import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "../../config/environment.js";

const LOOK_MS = 10;

/**
 * For crash tests only: with SLUICE_TEST_ANNOUNCE=<folder>, a step that announces NAME while the file
 * `<folder>/pause/NAME` exists writes its pid to `<folder>/at/NAME` and waits until the file is gone (or the
 * process killed, which is what the test is about). Without the variable: nothing at all.
 */
export function announcer(environment: Environment): (step: string) => Promise<void> {
  const folder = environment.SLUICE_TEST_ANNOUNCE;
  if (folder === undefined || folder === "") return async () => {};
  mkdirSync(join(folder, "pause"), { recursive: true });
  mkdirSync(join(folder, "at"), { recursive: true });
  return async (step) => {
    const pause = join(folder, "pause", step);
    if (!existsSync(pause)) return;
    writeFileSync(join(folder, "at", step), String(process.pid));
    while (existsSync(pause)) await sleep(LOOK_MS);
  };
}
