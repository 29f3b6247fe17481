import { logLevel } from "../config/environment.js";
import type { ConfigPaths } from "../config/read-config.js";
import { createLog } from "../observe/log.js";
import { reportFailure } from "./cli/failure-report.js";
import { Supervisor } from "./supervisor.js";

/**
 * `sluice run`: one node until a signal ends it. SIGHUP reloads; the first SIGTERM or SIGINT shuts down in
 * good order, the second at once.
 * @returns the exit code
 */
export async function runNode(paths: ConfigPaths): Promise<number> {
  const log = createLog({ process: "main" }, logLevel(process.env));
  let supervisor: Supervisor;
  try {
    supervisor = new Supervisor({ paths, log });
  } catch (error) {
    return reportFailure(error);
  }
  let signalCount = 0;
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      signalCount += 1;
      if (signalCount === 1) return void supervisor.shutdown();
      log.warn("second signal: ending at once", { signal });
      supervisor.kill();
      process.exit(1);
    });
  process.on("SIGHUP", () => {
    supervisor.reload().catch((error: unknown) =>
      log.error("reload refused, the running configuration stays in place", {
        error: error instanceof Error ? error.message : String(error),
      }),
    );
  });
  try {
    const { host, port } = await supervisor.start();
    // Tests and scripts wait for this line; it is the only one on standard output.
    process.stdout.write(`sluice: listening on ${host}:${port}\n`);
  } catch (error) {
    supervisor.kill();
    return reportFailure(error);
  }
  await supervisor.stopped;
  return 0;
}
