import { judgeOwned } from "../judge.js";
import { type Judgement, Verdict } from "../verdict.js";
import { type Counted, type Known, type Ledger, type Span, together } from "./ledger.js";
import { busyTenants, type EverywhereState, type OrdinaryState, type StampState } from "./state.js";

/** What is judged: what clients were told, and a side before the first and after the last of their writes. */
export interface Story {
  readonly known: readonly Known[];
  readonly before: OrdinaryState;
  readonly after: OrdinaryState;
}

/**
 * Judges by what clients were told and what the tables say, and by nothing else. What nobody has written is to
 * be as it was.
 */
export function judgeOrdinary({ known, before, after }: Story): Judgement {
  const verdict = new Verdict();
  const told = together(known.flatMap((one) => (one.kind === "script" ? [one.ledger] : [])));
  const teams = known.flatMap((one) => (one.kind === "team" ? [one.history] : []));
  judgeOwned(verdict, teams, after.owned);
  judgeRows(verdict, told, before, after);
  judgeLog(verdict, told, after);
  judgeClasses(verdict, told, before, after);
  judgeStamps(verdict, told, { before: before.stamps, after: after.stamps, place: "" });
  const [source] = before.shards;
  for (const [index, shard] of after.shards.entries()) {
    const place = ` on shard ${index}`;
    if (source) judgeEverywhere(verdict, told, { before: source, after: shard, place });
  }
  judgeStill(verdict, before.still, after.still, "");
  for (const id of after.repeatedIds) verdict.doubled(`generated id ${id} was given twice`);
  return verdict.result();
}

function judgeRows(
  verdict: Verdict,
  told: Ledger,
  before: OrdinaryState,
  after: OrdinaryState,
): void {
  const withTasks = new Set(busyTenants(before));
  for (const [key, outcome] of told.rows) {
    const found = after.rows.get(key) ?? 0;
    if (found > 1) verdict.doubled(`${key} is there ${found} times`);
    else if (outcome === "acknowledged" && found === 0) verdict.lost(`${key} is not there`);
    else if (outcome === "absent") {
      // Only a comment has a reason: it goes to a task of the tenant, if there is one.
      const tenant = /^comments (\d+) /u.exec(key)?.[1];
      if (tenant === undefined || withTasks.has(Number(tenant)))
        verdict.lost(`${key} was acknowledged without a row`);
      if (found > 0) verdict.doubled(`${key} is there, and was acknowledged without a row`);
    }
  }
  for (const key of after.rows.keys())
    if (!told.rows.has(key)) verdict.doubled(`${key} was written by nobody`);
}

function judgeLog(verdict: Verdict, told: Ledger, after: OrdinaryState): void {
  const keys = [...told.counts.keys()].filter((key) => key.startsWith("audit_log "));
  for (const key of new Set([...keys, ...after.logged.keys()])) {
    const { acknowledged = 0, unknown = 0 } = told.counts.get(key) ?? {};
    const found = after.logged.get(key) ?? 0;
    const story = `${key} has ${found} rows after ${acknowledged} acknowledged inserts`;
    if (found < acknowledged) verdict.lost(story, acknowledged - found);
    if (found > acknowledged + unknown) verdict.doubled(story, found - acknowledged - unknown);
  }
}

/** Rows that are written together: those of one class, of which load.sql makes none. */
function judgeClasses(
  verdict: Verdict,
  told: Ledger,
  before: OrdinaryState,
  after: OrdinaryState,
): void {
  const NONE = { rows: 0, done: 0 };
  const keys = [...told.counts.keys()].filter((key) => /^(?:users|tasks|attachments) /u.test(key));
  for (const key of new Set([...keys, ...before.classes.keys(), ...after.classes.keys()])) {
    const was = before.classes.get(key) ?? NONE;
    const is = after.classes.get(key) ?? NONE;
    const count = told.counts.get(key);
    if (key.startsWith("attachments "))
      judgeDropped(verdict, key, { was: was.rows, is: is.rows, count });
    else {
      if (is.rows < was.rows) verdict.lost(`${key}: ${is.rows} rows of ${was.rows}`);
      if (is.rows > was.rows) verdict.doubled(`${key}: ${is.rows} rows of ${was.rows}`);
      if (count) judgeAnswers(verdict, key, { rows: was.rows, count });
      if (key.startsWith("tasks ")) judgeDone(verdict, key, { was: was.done, is, count });
    }
  }
}

function judgeDropped(
  verdict: Verdict,
  key: string,
  what: { readonly was: number; readonly is: number; readonly count: Counted | undefined },
): void {
  const { was, is, count } = what;
  const { acknowledged = 0, unknown = 0, sum = 0 } = count ?? {};
  const story = `${key}: ${is} rows of ${was} after deletes that counted ${sum}`;
  if (acknowledged > 0 && is > 0) verdict.doubled(`${story}, and all of them were deleted`, is);
  else if (was - is > sum && unknown === 0) verdict.lost(story, was - is - sum);
  else if (was - is < sum) verdict.doubled(story, sum - (was - is));
}

/** Each update of a class meets all of its rows, so each answer says the same number. */
function judgeAnswers(
  verdict: Verdict,
  key: string,
  { rows, count }: { readonly rows: number; readonly count: Counted },
): void {
  if (count.acknowledged === 0) return;
  if (count.least < rows) verdict.lost(`${key}: an update met ${count.least} rows of ${rows}`);
  if (count.most > rows) verdict.doubled(`${key}: an update met ${count.most} rows of ${rows}`);
}

function judgeDone(
  verdict: Verdict,
  key: string,
  what: {
    readonly was: number;
    readonly is: { readonly rows: number; readonly done: number };
    readonly count: Counted | undefined;
  },
): void {
  const { was, is, count } = what;
  if (count && count.acknowledged > 0) {
    if (is.done < is.rows)
      verdict.lost(`${key}: ${is.rows - is.done} are open after they were finished`);
  } else if (!count && is.done !== was) {
    const story = `${key}: ${is.done} are done, ${was} were, and nobody has written`;
    if (is.done > was) verdict.doubled(story);
    else verdict.lost(story);
  }
}

interface StampsOf {
  readonly before: ReadonlyMap<string, StampState>;
  readonly after: ReadonlyMap<string, StampState>;
  readonly place: string;
}

function judgeStamps(verdict: Verdict, told: Ledger, { before, after, place }: StampsOf): void {
  for (const [key, state] of after) {
    const spans = told.stamps.get(key);
    const was = before.get(key);
    if (spans) {
      if (!isWrittenLast(state, spans, was))
        verdict.lost(`${key}${place} does not show its last acknowledged write`);
    } else if (was === undefined) verdict.doubled(`${key}${place} was written by nobody`);
    else if (was.fromMs !== state.fromMs || was.toMs !== state.toMs)
      verdict.doubled(`${key}${place} has changed, and nobody has written`);
  }
  for (const key of before.keys())
    if (!after.has(key) && !told.ended.has(key)) verdict.lost(`${key}${place} is not there`);
}

/**
 * Whether each value is that of a write that no other write was surely after: one that had been sent only when
 * this one was acknowledged.
 */
function isWrittenLast(
  state: StampState,
  spans: readonly Span[],
  was: StampState | undefined,
): boolean {
  const acknowledged = spans.filter(({ isAcknowledged }) => isAcknowledged);
  if (acknowledged.length === 0 && was && was.fromMs === state.fromMs && was.toMs === state.toMs)
    return true;
  const lastSentMs = Math.max(...acknowledged.map(({ fromMs }) => fromMs));
  const possible = spans.filter(({ toMs }) => toMs >= lastSentMs);
  return [state.fromMs, state.toMs].every(
    (value) =>
      value !== null && possible.some(({ fromMs, toMs }) => fromMs <= value && value <= toMs),
  );
}

function judgeEverywhere(
  verdict: Verdict,
  told: Ledger,
  sides: {
    readonly before: EverywhereState;
    readonly after: EverywhereState;
    readonly place: string;
  },
): void {
  const { before, after, place } = sides;
  judgeStamps(verdict, told, { before: before.stamps, after: after.stamps, place });
  for (const [key, spans] of told.stamps) {
    const isHere = after.stamps.has(key) || before.stamps.has(key) || told.ended.has(key);
    if (!isHere && /^(?:sessions|feature_flags) /u.test(key)) {
      const isAcknowledged = spans.some((span) => span.isAcknowledged);
      if (isAcknowledged) verdict.lost(`${key}${place} is not there`);
    }
  }
  for (const [key, { isEnabled }] of after.flags) {
    const count = told.counts.get(key);
    if (count === undefined) {
      if (before.flags.get(key)?.isEnabled !== isEnabled)
        verdict.doubled(`${key}${place} has changed, and nobody has written`);
    } else if (count.unknown === 0 && isEnabled !== (count.acknowledged % 2 === 0))
      // The first made it, off; each one after that turned it. Whether one is missing or too much, one is wrong.
      verdict.lost(
        `${key}${place} is ${isEnabled ? "on" : "off"} after ${count.acknowledged} turns`,
      );
  }
  judgeStill(verdict, before.still, after.still, place);
}

function judgeStill(
  verdict: Verdict,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
  place: string,
): void {
  for (const [table, digest] of before) {
    const found = after.get(table);
    if (found !== digest)
      verdict.lost(`${table}${place} is ${found ?? "not there"}, and was ${digest}`);
  }
}
