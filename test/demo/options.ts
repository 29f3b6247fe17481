import { parseArgs } from "node:util";

export interface DemoOptions {
  /** About so many; absent: what the application's files say. */
  readonly rows: number | undefined;
  readonly clients: number;
  /** File for the report as JSON. */
  readonly report: string | null;
  readonly keep: boolean;
  /** Whoever sits there gives the orders. */
  readonly byHand: boolean;
}

const USAGE = `npm run demo -- [options]
  --rows N       rows of the application (default about 145000)
  --clients N    connections that read and write all the time (default 16)
  --report FILE  write the report as JSON
  --keep         leave everything running until Ctrl-C and print how to connect
  --by-hand      you give the orders: clients work until Ctrl-C, and then it is judged`;

/** @returns null when help was asked for and printed */
export function parseOptions(args: readonly string[]): DemoOptions | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rows: { type: "string" },
      clients: { type: "string", default: "16" },
      report: { type: "string" },
      keep: { type: "boolean", default: false },
      "by-hand": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return null;
  }
  return {
    rows: values.rows === undefined ? undefined : wholeNumber("--rows", values.rows),
    clients: wholeNumber("--clients", values.clients),
    report: values.report ?? null,
    keep: values.keep,
    byHand: values["by-hand"],
  };
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text.replaceAll("_", ""));
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${name} takes a whole number above 0, not "${text}"\n${USAGE}`);
  return value;
}
