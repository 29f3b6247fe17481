import { makeTelemetryFilterString, Runtime } from "@temporalio/worker";
import type { Log } from "../../observe/log.js";

/**
 * Once per process, before anything else of the worker package. Without it the runtime would take over
 * SIGINT, SIGTERM, SIGQUIT and SIGUSR2, and write logs of its own.
 */
export function installTemporalRuntime(log: Log): void {
  const write =
    (level: "debug" | "info" | "warn" | "error") =>
    (message: string, fields?: object): void => {
      log[level](message.toLowerCase(), flat(fields));
    };
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: "WARN", other: "ERROR" }) },
    },
    logger: {
      trace: () => {},
      debug: write("debug"),
      // The SDK's information is about its own states; ours says what matters of them.
      info: write("debug"),
      warn: write("warn"),
      error: write("error"),
      log: () => {},
    },
  });
}

/** Scalars only: nested objects may carry inputs. */
function flat(fields: object | undefined): Readonly<Record<string, string | number | boolean>> {
  const entries = Object.entries(fields ?? {}).flatMap(([name, value]: [string, unknown]) => {
    if (value instanceof Error) return [[name, value.message] as const];
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      return [[name, value] as const];
    return [];
  });
  return Object.fromEntries(entries);
}
