import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { findPgbench } from "./binaries.js";
import type { LoadAddress } from "./load/session.js";

export interface PgbenchOptions {
  readonly addresses: readonly LoadAddress[];
  /** null: what pgbench runs by itself, TPC-B. */
  readonly script: URL | null;
  readonly clients: number;
  /** Turns of each client in a round. */
  readonly turns: number;
  /** Rounds that began before these, on the same tables: numbers are drawn anew in each. */
  readonly firstRound: number;
}

export interface PgbenchReport {
  readonly rounds: number;
  readonly transactions: number;
  /** What rounds with an error have said. */
  readonly errors: readonly string[];
}

/** A real pgbench that runs a script, round after round, each in the next protocol and at the next node. */
export interface Pgbench {
  report(): PgbenchReport;
  /** Resolves when the round under way has ended. */
  stop(): Promise<PgbenchReport>;
}

const PROTOCOLS = ["simple", "extended", "prepared"] as const;

export async function startPgbench(options: PgbenchOptions): Promise<Pgbench> {
  const executable = await findPgbench();
  const errors: string[] = [];
  let rounds = 0;
  let transactions = 0;
  let isStopping = false;
  const work = async () => {
    while (!isStopping) {
      const round = options.firstRound + rounds++;
      const { code, output } = await runRound(executable, options, round);
      const processed = /number of transactions actually processed: (\d+)/u.exec(output)?.[1];
      transactions += Number(processed ?? 0);
      const isWhole = Number(processed) === options.clients * options.turns;
      if (code !== 0 || !isWhole || output.includes("ERROR")) errors.push(output);
    }
  };
  const working = work();
  const report = () => ({ rounds, transactions, errors: [...errors] });
  return {
    report,
    stop: async () => {
      isStopping = true;
      await working;
      return report();
    },
  };
}

async function runRound(executable: string, options: PgbenchOptions, round: number) {
  const address = options.addresses[round % options.addresses.length];
  const protocol = PROTOCOLS[round % PROTOCOLS.length] ?? "simple";
  if (!address) throw new Error("no address");
  const child = spawn(
    executable,
    [
      ...["-n", "-M", protocol],
      ...(options.script === null ? [] : ["-f", fileURLToPath(options.script)]),
      ...["-c", String(options.clients), "-t", String(options.turns)],
      // What is drawn is the same in every run of the test.
      `--random-seed=${1 + round}`,
      ...["-h", address.host, "-p", String(address.port), "-U", address.user, address.database],
    ],
    { env: { ...process.env, PGPASSWORD: address.password }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = `round ${round}, ${protocol}: `;
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}
