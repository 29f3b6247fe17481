import type { Side } from "./migration.js";

/**
 * The protocol of a switch as data: what becomes of a decision, what a node does about it, what whoever
 * resolves it does. Node, `resolve`, the switch, docs/protocol.md and the state-space search
 * (test/unit/resharding/switch-model.test.ts) read these tables and nothing else. Pure; no clock.
 */

/** What column `state` of `sluice.decision` says. */
export type StoredState = "planned" | "prepared" | "committed" | "aborted";

/**
 * - none: this server has no row of the epoch.
 * - planned: inserted by `prepareDecision`; nothing has happened yet, and nothing expires.
 * - prepared: set by the switch at the hold; expires by the control database's clock.
 * - expired: prepared, and its time is over: whoever comes first aborts it.
 * - committed: the switch has happened; the gates of the side that serves may be shut still.
 * - opened: committed, and a gate of the side that serves has been opened.
 * - aborted: the switch has not happened, for ever.
 */
export type DecisionState =
  | "none"
  | "planned"
  | "prepared"
  | "expired"
  | "committed"
  | "opened"
  | "aborted";

/**
 * - plan: `prepareDecision` inserts the row.
 * - replace: `prepareDecision` of a later attempt meets the row.
 * - prepare: the switch begins the hold (`markPrepared`).
 * - timePasses: the cap is over.
 * - commit: the compare-and-set (`markCommitted`).
 * - open: a gate of the side that serves was opened (`markOpened`).
 * - giveUp: the coordinator, or a hold past its bound, aborts at once (`markAborted`, always).
 * - expire: anybody aborts what has expired (`markAborted`, expired).
 * - failoverWitnessed: the control server is another one, and a shard that will serve has the committed row.
 * - failoverUnwitnessed: it is another one, no shard has it, and none can open its gate any more.
 */
export type DecisionEvent =
  | "plan"
  | "replace"
  | "prepare"
  | "timePasses"
  | "commit"
  | "open"
  | "giveUp"
  | "expire"
  | "failoverWitnessed"
  | "failoverUnwitnessed";

/** Nothing happens, and why. */
export interface Refused {
  readonly refused: string;
}

const no = (refused: string): Refused => ({ refused });

// Each goes on after "epoch 3" or "the decision".
const NO_ROW = no("is not on this server");
const TAKEN = no("was taken by another attempt");
const NOT_PLANNED = no("is not planned any more");
const NOT_PREPARED = no("is not prepared");
const TOO_LATE = no("expired or was aborted before it could be committed");
const COMMITTED_ALREADY = no("is committed already");
const FOR_EVER = no("has happened; only another switch goes back");
const NOT_EXPIRED = no("is still being decided");
const IS_ABORTED = no("is aborted already");
const UNDER_WAY = no("is not final yet");
const NOT_COMMITTED = no("is not committed, so no gate of the new side opens");
const NOBODY_KNOWS = no("is on no server that answers");

/** R29, R30: every state answers every event. */
export const DECISION: Readonly<
  Record<DecisionState, Readonly<Record<DecisionEvent, DecisionState | Refused>>>
> = {
  none: {
    plan: "planned",
    replace: "none",
    prepare: NO_ROW,
    timePasses: "none",
    commit: NO_ROW,
    open: NO_ROW,
    giveUp: NO_ROW,
    expire: NO_ROW,
    failoverWitnessed: "committed",
    failoverUnwitnessed: NOBODY_KNOWS,
  },
  planned: {
    plan: TAKEN,
    replace: "aborted",
    prepare: "prepared",
    timePasses: "planned",
    commit: NOT_PREPARED,
    open: NOT_COMMITTED,
    giveUp: "aborted",
    expire: NOT_EXPIRED,
    failoverWitnessed: "committed",
    failoverUnwitnessed: "aborted",
  },
  prepared: {
    plan: TAKEN,
    replace: UNDER_WAY,
    prepare: NOT_PLANNED,
    timePasses: "expired",
    commit: "committed",
    open: NOT_COMMITTED,
    giveUp: "aborted",
    expire: NOT_EXPIRED,
    failoverWitnessed: "committed",
    failoverUnwitnessed: "aborted",
  },
  expired: {
    plan: TAKEN,
    replace: UNDER_WAY,
    prepare: NOT_PLANNED,
    timePasses: "expired",
    commit: TOO_LATE,
    open: NOT_COMMITTED,
    giveUp: "aborted",
    expire: "aborted",
    failoverWitnessed: "committed",
    failoverUnwitnessed: "aborted",
  },
  committed: {
    plan: TAKEN,
    replace: "committed",
    prepare: NOT_PLANNED,
    timePasses: "committed",
    commit: COMMITTED_ALREADY,
    open: "opened",
    giveUp: FOR_EVER,
    expire: FOR_EVER,
    failoverWitnessed: "committed",
    // Nothing was opened under it and nothing can be any more, so no client has seen it.
    failoverUnwitnessed: "aborted",
  },
  opened: {
    plan: TAKEN,
    replace: "opened",
    prepare: NOT_PLANNED,
    timePasses: "opened",
    commit: COMMITTED_ALREADY,
    open: "opened",
    giveUp: FOR_EVER,
    expire: FOR_EVER,
    failoverWitnessed: "opened",
    // Written after every witness: a promoted server that has it proves the commit by itself.
    failoverUnwitnessed: "opened",
  },
  aborted: {
    plan: TAKEN,
    replace: "aborted",
    prepare: NOT_PLANNED,
    timePasses: "aborted",
    commit: TOO_LATE,
    open: NOT_COMMITTED,
    giveUp: IS_ABORTED,
    expire: IS_ABORTED,
    failoverWitnessed: "committed",
    failoverUnwitnessed: "aborted",
  },
};

/** @testonly */
export const DECISION_STATES = Object.keys(DECISION) as readonly DecisionState[];
/** @testonly */
export const DECISION_EVENTS = Object.keys(DECISION.none) as readonly DecisionEvent[];

/** What becomes of a decision. */
export function nextState(state: DecisionState, event: DecisionEvent): DecisionState | Refused {
  return DECISION[state][event];
}

/** Why nothing becomes of it, to go on after "epoch 3"; null: something does. */
export function refusalOf(state: DecisionState, event: DecisionEvent): string | null {
  const next = nextState(state, event);
  return typeof next === "string" ? null : next.refused;
}

/** The columns that tell in which state a decision is. */
export interface DecisionFacts {
  readonly state: StoredState;
  /** The gates of the serving side are open. */
  readonly isOpened: boolean;
  /** Time left by the database's clock, negative when over; null while planned. */
  readonly expiresInMs: number | null;
}

export function stateOf(decision: DecisionFacts | null): DecisionState {
  if (decision === null) return "none";
  switch (decision.state) {
    case "planned":
    case "aborted":
      return decision.state;
    case "prepared":
      return (decision.expiresInMs ?? 0) > 0 ? "prepared" : "expired";
    case "committed":
      return decision.isOpened ? "opened" : "committed";
  }
}

/** Nothing but a failover of the control server changes it any more. */
export function isFinal(
  decision: Pick<DecisionFacts, "state"> | null,
): decision is { readonly state: "committed" | "aborted" } {
  return decision?.state === "committed" || decision?.state === "aborted";
}

/**
 * Who resolves: "coordinator": the switch activity has ended or may end now. "bystander": a node, or an
 * operator on any of them.
 */
export type ResolverRole = "coordinator" | "bystander";

/**
 * - giveUp, expire: that event, by compare-and-set; then read again, for one of two wins.
 * - wait: not ours to end; it expires by itself.
 * - askWitnesses: the row proves nothing; take the tokens of shut gates away, then look who has opened.
 * - driveForward: open the gates of the new side, witness first; tell the old side; end its stray sessions.
 * - driveBack: open the gates of the side that stays, with a fresh token; no other server is needed.
 */
export type ResolverMove =
  | "giveUp"
  | "expire"
  | "wait"
  | "askWitnesses"
  | "driveForward"
  | "driveBack";

type ResolverRow = Readonly<Record<ResolverRole, ResolverMove>>;
const both = (move: ResolverMove): ResolverRow => ({ coordinator: move, bystander: move });
const ASK = both("askWitnesses");

/** R30: the row decides while its server is the same as when it was planned. */
export const RESOLVER: Readonly<
  Record<"same server" | "another server", Readonly<Record<DecisionState, ResolverRow>>>
> = {
  "same server": {
    none: ASK,
    planned: { coordinator: "giveUp", bystander: "wait" },
    prepared: { coordinator: "giveUp", bystander: "wait" },
    expired: { coordinator: "giveUp", bystander: "expire" },
    committed: both("driveForward"),
    opened: both("driveForward"),
    aborted: both("driveBack"),
  },
  "another server": {
    none: ASK,
    planned: ASK,
    prepared: ASK,
    expired: ASK,
    committed: ASK,
    opened: ASK,
    aborted: ASK,
  },
};

/** What whoever resolves does next about a decision as it is stored. */
export function resolverMove(
  state: DecisionState,
  as: { readonly role: ResolverRole; readonly isSameServer: boolean },
): ResolverMove {
  return RESOLVER[as.isSameServer ? "same server" : "another server"][state][as.role];
}

/**
 * - hold: its clients wait; it answers by a row when nothing is in flight.
 * - holdAndResolve: the same, and it tries to end the decision beside its looks.
 * - holdUntilOpened: the same; when no gate opens for a while it drives the decision forward itself.
 * - adopt: names mean the new side from now on; then whoever waited under this decision goes on.
 * - resolveThenRelease: gates first, or each client would be refused once more; then they go on.
 */
export type NodeDuty =
  | "nothing"
  | "hold"
  | "holdAndResolve"
  | "holdUntilOpened"
  | "adopt"
  | "resolveThenRelease";

/**
 * A statement that a gate refused:
 * - answer: no switch is in sight, so the refusal is the client's answer.
 * - lookAgain: it waits, and the node looks again; once it holds, the release is the reason to try again.
 * - resolveThenAnswer: gates first, then it is tried again.
 */
export type StaleDuty = "answer" | "lookAgain" | "resolveThenAnswer";

export interface NodeRow {
  /** About the latest decision of a migration, and about the last committed one. */
  readonly free: NodeDuty;
  /** About any decision under whose token its clients wait. */
  readonly holding: NodeDuty;
  readonly stale: StaleDuty;
}

/** R29: what a node does about a decision in each state. Time only makes things go on; tokens make it safe. */
export const NODE: Readonly<Record<DecisionState, NodeRow>> = {
  // Held, and the row is gone: a server came back from the past, so the witnesses have to be asked (R31).
  none: { free: "nothing", holding: "resolveThenRelease", stale: "answer" },
  // Held, and planned again: the same, a failover lost what was prepared.
  planned: { free: "nothing", holding: "resolveThenRelease", stale: "lookAgain" },
  prepared: { free: "hold", holding: "hold", stale: "lookAgain" },
  expired: { free: "holdAndResolve", holding: "holdAndResolve", stale: "lookAgain" },
  committed: { free: "holdUntilOpened", holding: "holdUntilOpened", stale: "resolveThenAnswer" },
  opened: { free: "adopt", holding: "adopt", stale: "resolveThenAnswer" },
  aborted: { free: "nothing", holding: "resolveThenRelease", stale: "resolveThenAnswer" },
};

/** What a node does about a decision; `isHolding`: its clients wait under this decision's token. */
export function nodeDuty(state: DecisionState, isHolding: boolean): NodeDuty {
  return isHolding ? NODE[state].holding : NODE[state].free;
}

/** What is compared and kept when several servers tell of one decision. */
export interface DecisionCopy extends DecisionFacts {
  readonly epoch: number;
  readonly timings: { readonly steps?: unknown };
}

/**
 * Opened is further than aborted: a gate opens after the commit only, and then for ever. Aborted is further
 * than committed: both are told of one epoch only when a failover lost the commit, and then no gate had
 * opened and none can. Committed is further than prepared: the copy of a witness.
 */
const RANK: Readonly<Record<DecisionState, number>> = {
  none: 0,
  planned: 1,
  prepared: 2,
  expired: 3,
  committed: 4,
  aborted: 5,
  opened: 6,
};

/**
 * R32: one decision per epoch out of what several servers say, the furthest state of each; by epoch. Of two
 * copies of the same state one knows how long the switch took, another that a gate is open: both are kept.
 */
export function furthestDecisions<T extends DecisionCopy>(copies: readonly T[]): readonly T[] {
  const furthest = new Map<number, T>();
  for (const copy of copies) {
    const known = furthest.get(copy.epoch);
    furthest.set(copy.epoch, known === undefined ? copy : further(known, copy));
  }
  return [...furthest.values()].sort((a, b) => a.epoch - b.epoch);
}

function further<T extends DecisionCopy>(a: T, b: T): T {
  const rank = RANK[stateOf(b)] - RANK[stateOf(a)];
  const [best, other] = rank > 0 ? [b, a] : [a, b];
  return best.timings.steps || !other.timings.steps ? best : { ...best, timings: other.timings };
}

/** R32: who serves by these decisions: the side of the highest committed epoch, the source before any. */
export function servingOf(
  decisions: readonly {
    readonly epoch: number;
    readonly serving: Side;
    readonly state: StoredState;
  }[],
): { readonly epoch: number; readonly side: Side } {
  let best: { epoch: number; side: Side } = { epoch: 0, side: "source" };
  for (const decision of decisions) {
    if (decision.state === "committed" && decision.epoch > best.epoch) {
      best = { epoch: decision.epoch, side: decision.serving };
    }
  }
  return best;
}
