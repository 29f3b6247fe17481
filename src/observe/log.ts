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

/** JSON lines on standard error, so that standard output stays the command's. Level: SLUICE_LOG_LEVEL. */
export function createLog(fields: LogFields, level: string): Log {
  const logger = pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
  return wrap(logger.child(fields));
}

type PinoLogger = ReturnType<typeof pino>;

function wrap(logger: PinoLogger): Log {
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
    child: (fields) => wrap(logger.child(fields)),
  };
}
