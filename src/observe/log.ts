import { pino } from "pino";

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Lower-case sentence plus fields with units; never row values, literals, parameters or secrets. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields & { readonly error?: string }): void;
  child(fields: LogFields): Log;
}

/** The log of a process: its level follows the configuration, which is read later than the log is made. */
export interface ProcessLog extends Log {
  /** Of this log and of all its children. @param level one of pino's */
  setLevel(level: string): void;
}

/** JSON lines on standard error, so that standard output stays the command's. */
export function createLog(fields: LogFields, level: string): ProcessLog {
  // pino's children keep the level that they were made with, so the threshold is ours and shared.
  const logger = pino({ level: "trace", base: null }, pino.destination({ dest: 2, sync: true }));
  const threshold = { value: rankOf(level) };
  return {
    ...wrap(logger.child(fields), threshold),
    setLevel: (next) => {
      threshold.value = rankOf(next);
    },
  };
}

type PinoLogger = ReturnType<typeof pino>;

function rankOf(level: string): number {
  return pino.levels.values[level] ?? Number.POSITIVE_INFINITY; // "silent" has no value.
}

function wrap(logger: PinoLogger, threshold: { readonly value: number }): Log {
  const at =
    (level: "debug" | "info" | "warn" | "error") => (message: string, fields?: LogFields) => {
      if (rankOf(level) >= threshold.value) logger[level](fields ?? {}, message);
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => wrap(logger.child(fields), threshold),
  };
}
