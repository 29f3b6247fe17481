import type { Load, LoadReport } from "../support/load/load.js";
import { judgeOrdinary } from "../support/load/ordinary/judge.js";
import type { Known } from "../support/load/ordinary/ledger.js";
import { startOrdinaryLoad } from "../support/load/ordinary/load.js";
import { readScript } from "../support/load/ordinary/script.js";
import { readOrdinary } from "../support/load/ordinary/state.js";
import type { Judgement } from "../support/load/verdict.js";
import type { Stack } from "../support/stack.js";
import { LOAD_FILE } from "./ordinary/application.js";

/** The application's clients, who may rest and go on, and remember everything until the end. */
export interface Clients {
  /** Begins to work, or goes on. */
  start(): Promise<Load<Known>>;
  /** What is under way ends first. */
  rest(): Promise<void>;
  report(): LoadReport<Known>;
  /** By what each was told, and the side that serves, at rest. */
  judge(side: "source" | "shards"): Promise<Judgement>;
}

/** Reads the tables as they are before anybody writes. */
export async function clientsOf(stack: Stack, clients: number): Promise<Clients> {
  const before = await readOrdinary([stack.source]);
  const script = readScript(LOAD_FILE);
  const loads: Load<Known>[] = [];
  const report = () => sumOf(loads.map((load) => load.report()));
  return {
    start: async () => {
      const round = loads.length;
      const options = { addresses: stack.addresses, clients, script, before, round };
      const load = await startOrdinaryLoad(options);
      loads.push(load);
      return load;
    },
    rest: async () => {
      for (const load of loads) await load.stop();
    },
    report,
    judge: async (side) =>
      judgeOrdinary({
        known: report().histories,
        before,
        after: await readOrdinary(side === "source" ? [stack.source] : stack.shards),
      }),
  };
}

function sumOf(reports: readonly LoadReport<Known>[]): LoadReport<Known> {
  const sum = (of: (report: LoadReport<Known>) => number) =>
    reports.reduce((total, report) => total + of(report), 0);
  return {
    histories: reports.flatMap(({ histories }) => histories),
    errors: reports.flatMap(({ errors }) => errors),
    operationCount: sum(({ operationCount }) => operationCount),
    acknowledged: sum(({ acknowledged }) => acknowledged),
    unknown: sum(({ unknown }) => unknown),
  };
}
