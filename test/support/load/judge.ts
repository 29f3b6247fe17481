import type { ClientHistory, RowState } from "./history.js";
import { type Judgement, Verdict } from "./verdict.js";

/** The serving side as it is at the end, over all its shards. */
export interface FinalTables {
  /** By table and id; two states where the row is there twice. */
  readonly rows: Readonly<Record<string, ReadonlyMap<string, readonly RowState[]>>>;
  /** Counter of each tenant; 0 at the beginning. */
  readonly writes: ReadonlyMap<number, number>;
  /** Values of generated ids that more than one row has. */
  readonly repeatedIds: readonly string[];
}

/** Judges by what clients were told and what the tables say, and by nothing else. */
export function judge(histories: readonly ClientHistory[], tables: FinalTables): Judgement {
  const verdict = new Verdict();
  judgeOwned(verdict, histories, tables.rows);
  judgeCounters(verdict, histories, tables.writes);
  for (const id of tables.repeatedIds) verdict.doubled(`generated id ${id} was given twice`);
  return verdict.result();
}

/** Rows that have one writer each. */
export function judgeOwned(
  verdict: Verdict,
  histories: readonly ClientHistory[],
  rows: FinalTables["rows"],
): void {
  const known = new Set<string>();
  for (const history of histories) {
    for (const row of history.rows) {
      known.add(`${row.table} ${row.id}`);
      const possible = row.maybe ? [row.acknowledged, row.maybe.state] : [row.acknowledged];
      judgeRow(verdict, {
        what: `${row.table} ${row.id} of client ${history.client}`,
        possible,
        found: rows[row.table]?.get(row.id) ?? [],
      });
    }
  }
  for (const [table, states] of Object.entries(rows))
    for (const id of states.keys())
      if (!known.has(`${table} ${id}`)) verdict.doubled(`${table} ${id} was written by nobody`);
}

function judgeRow(
  verdict: Verdict,
  row: {
    readonly what: string;
    readonly possible: readonly (RowState | null)[];
    readonly found: readonly RowState[];
  },
): void {
  const { what, possible, found } = row;
  const [state] = found;
  if (found.length > 1) {
    verdict.doubled(`${what} is there ${found.length} times`);
    return;
  }
  if (possible.some((one) => isSame(one, state ?? null))) return;
  const expected = possible[0] ?? null;
  const story = `${what} is ${inWords(state ?? null)} instead of ${possible.map(inWords).join(" or ")}`;
  const isAhead = expected !== null && state !== undefined && state.revision > expected.revision;
  if (isAhead) verdict.doubled(story);
  else verdict.lost(story);
}

function judgeCounters(
  verdict: Verdict,
  histories: readonly ClientHistory[],
  writes: ReadonlyMap<number, number>,
): void {
  const sums = new Map<number, { least: number; most: number }>();
  for (const { increments } of histories)
    for (const [tenant, { acknowledged, unknown }] of increments) {
      const sum = sums.get(tenant) ?? { least: 0, most: 0 };
      sum.least += acknowledged;
      sum.most += acknowledged + unknown;
      sums.set(tenant, sum);
    }
  for (const tenant of new Set([...sums.keys(), ...writes.keys()])) {
    const { least, most } = sums.get(tenant) ?? { least: 0, most: 0 };
    const found = writes.get(tenant) ?? 0;
    const story = `counter of tenant ${tenant} is ${found} after ${least} acknowledged increments`;
    if (found < least) verdict.lost(story, least - found);
    if (found > most) verdict.doubled(story, found - most);
  }
}

function isSame(one: RowState | null, other: RowState | null): boolean {
  if (one === null || other === null) return one === other;
  return (
    one.tenant === other.tenant && one.revision === other.revision && one.lines === other.lines
  );
}

function inWords(state: RowState | null): string {
  if (state === null) return "absent";
  return `tenant ${state.tenant} revision ${state.revision} lines ${state.lines}`;
}
