import type { Comparison } from "../support/load/compare.js";
import type { LatencySummary } from "../support/load/latency.js";
import type { LoadReport } from "../support/load/load.js";
import type { ClientError } from "../support/load/session.js";
import type { Judgement } from "../support/load/verdict.js";
import type { SwitchSteps } from "./tasks.js";

const SHOWN_ERRORS = 10;

export interface ObservedSwitch {
  readonly direction: "forward" | "rollback";
  readonly steps: SwitchSteps;
  /** Of all operations of clients that were under way in the window of the switch. */
  readonly latency: LatencySummary;
}

/** What `--report` writes. */
export interface Report {
  readonly switches: readonly {
    readonly direction: ObservedSwitch["direction"];
    /** The longest that a client waited. */
    readonly pauseMs: number;
    readonly steps: SwitchSteps;
  }[];
  readonly clientErrors: number;
  readonly acknowledged: number;
  readonly lost: number;
  readonly doubled: number;
  readonly equal: boolean;
  readonly rows: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export interface Findings {
  readonly switches: readonly ObservedSwitch[];
  readonly load: LoadReport<unknown>;
  readonly judgement: Judgement;
  readonly comparison: Comparison;
}

export function toReport({ switches, load, judgement, comparison }: Findings): Report {
  const shards = comparison.rows.shards.map((rows, index) => [`shard_${index}`, rows] as const);
  return {
    switches: switches.map(({ direction, latency, steps }) => ({
      direction,
      pauseMs: Math.round(latency.maxMs),
      steps,
    })),
    clientErrors: load.errors.length,
    acknowledged: load.acknowledged,
    lost: judgement.lost,
    doubled: judgement.doubled,
    equal: comparison.isEqual,
    rows: { source: comparison.rows.source, ...Object.fromEntries(shards) },
  };
}

export function isSuccess({ load, judgement, comparison }: Findings): boolean {
  return isJudgedWell(load, judgement) && comparison.isEqual;
}

/** No client saw an error, and each finds what it was told. */
export function isJudgedWell(load: LoadReport<unknown>, judgement: Judgement): boolean {
  return load.errors.length === 0 && judgement.lost === 0 && judgement.doubled === 0;
}

/** The report for people. */
export function describe(findings: Findings): readonly string[] {
  const { switches, load, judgement, comparison } = findings;
  const ms = (value: number) => `${Math.round(value)}`.padStart(5);
  const lines = [
    "",
    "switch     clients waited (ms)     steps (ms)",
    "             max   p99   p50    pause  sync   rev  swap resume",
    ...switches.map(({ direction, latency, steps }) => {
      const waited = [latency.maxMs, latency.p99Ms, latency.p50Ms].map(ms).join(" ");
      const { pause, synchronize, swap, reverse, resume } = steps;
      const parts = [pause, synchronize, reverse, swap, resume].map(ms).join(" ");
      return `${direction.padEnd(9)} ${waited}    ${parts}`;
    }),
    "",
    ...tally(load, judgement),
    `both sides equal      ${comparison.isEqual ? "yes, row by row" : "NO"}`,
    "",
    ...rowsTable(comparison),
  ];
  const shown = [
    ...judgement.findings,
    ...comparison.findings.slice(0, 20),
    ...mostCommon(load.errors.map(inWords)),
  ];
  return shown.length === 0 ? lines : [...lines, "", ...shown];
}

/** The same of the clients alone, where nobody has looked at the switches. */
export function describeLoad(load: LoadReport<unknown>, judgement: Judgement): readonly string[] {
  return [
    ...tally(load, judgement),
    ...judgement.findings,
    ...mostCommon(load.errors.map(inWords)),
  ];
}

function tally(load: LoadReport<unknown>, judgement: Judgement): readonly string[] {
  return [
    `operations            ${load.operationCount}`,
    `acknowledged writes   ${load.acknowledged}`,
    `unknown outcomes      ${load.unknown}`,
    `client errors         ${load.errors.length}`,
    `lost                  ${judgement.lost}`,
    `doubled               ${judgement.doubled}`,
  ];
}

/** @returns a line for an error of a client; no text for none */
export function inWords(error: ClientError | undefined): string {
  if (error === undefined) return "";
  return `${error.operation}: ${error.message} (${error.sqlState ?? "no SQLSTATE"})`;
}

function mostCommon(texts: readonly string[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts]
    .toSorted(([, one], [, other]) => other - one)
    .slice(0, SHOWN_ERRORS)
    .map(([text, count]) => `${count} x ${text}`);
}

function rowsTable({ rows }: Comparison): readonly string[] {
  const columns = [rows.source, ...rows.shards];
  const header = ["source", ...rows.shards.map((_, index) => `shard ${index}`)];
  const line = (name: string, values: readonly (string | number)[]) =>
    `${name.padEnd(12)}${values.map((value) => String(value).padStart(10)).join("")}`;
  return [
    line("rows", header),
    ...Object.keys(rows.source).map((table) =>
      line(
        table,
        columns.map((column) => column[table] ?? 0),
      ),
    ),
  ];
}
