import { afterResolve, follow } from "../../../src/control/node/decision-follower.js";
import { type GateMove, type GateRow, moveGate } from "../../../src/resharding/model/gate-moves.js";
import {
  type DecisionEvent,
  type DecisionState,
  nextState,
  resolverMove,
  servingOf,
  stateOf,
} from "../../../src/resharding/model/protocol.js";

import {
  ATTEMPTS,
  type Attempt,
  at,
  epochOf,
  IDLE,
  keyOf,
  keyOfState,
  type ModelDecision,
  type ModelMigration,
  type Node,
  ownToken,
  type Pair,
  type Resolver,
  rotate,
  rowOf,
  type State,
  told,
} from "./switch-state.js";

/**
 * The switch as a state space: two attempts whose coordinators may freeze anywhere and go on much later (a
 * zombie is a coordinator that is scheduled late), two resolvers beside them, nodes that may freeze between a
 * look and what they do about it, a failover of the control server that may lose its last words, and an
 * application that writes whenever a gate lets it.
 *
 * What anybody decides is the product's own code, passed in as `Rules`: the tables of the decision and of the
 * resolver, the moves of the gate, the node's follower. Only the coordinator's order is written down here, as
 * `program`, in the words of `switch-step.ts` and `prepare-decision-step.ts`. One step is one statement on one
 * server.
 */
export interface Rules {
  readonly program: readonly Step[];
  readonly nextState: typeof nextState;
  readonly resolverMove: typeof resolverMove;
  readonly moveGate: typeof moveGate;
  readonly follow: ModelFollow;
}

export type ModelFollow = (
  seen: readonly ModelMigration[],
  memory: Parameters<typeof follow<ModelDecision, ModelMigration>>[1],
  nowMs: number,
) => ReturnType<typeof follow<ModelDecision, ModelMigration>>;

export type Step =
  | "readBoard"
  | "plan"
  /** The same without asking again what was read: only a bug has it. */
  | "planBlindly"
  | "assignSource"
  /** The same, and the gate stays as it is: only a bug has it. */
  | "assignSourceShut"
  | "assignDestination"
  | "markPrepared"
  | "awaitHeld"
  | "close"
  | "mark"
  | "commit"
  | "storeWitness"
  | "open"
  | "markOpened"
  | "done";

export const PROGRAM: readonly Step[] = [
  "readBoard",
  "plan",
  "assignSource",
  "assignDestination",
  "markPrepared",
  "awaitHeld",
  "close",
  "mark",
  "commit",
  "storeWitness",
  "open",
  "markOpened",
  "done",
];

export const RULES: Rules = {
  program: PROGRAM,
  nextState,
  resolverMove,
  moveGate,
  follow,
};

/** All states that one step of anybody leads to. */
export function successors(state: State, rules: Rules): readonly State[] {
  return [
    ...ATTEMPTS.flatMap((attempt) => stepCoordinator(state, attempt, rules)),
    ...ATTEMPTS.flatMap((index) => stepResolver(state, index, rules)),
    ...state.nodes.flatMap((_, index) => stepNode(state, index, rules)),
    ...ATTEMPTS.flatMap((attempt) => timePasses(state, attempt, rules)),
    ...failOver(state, rules),
  ].map((next) => noteWrites(next, rules));
}

/** The application writes the source whenever it may; what comes after a marker is not in the stream's drain. */
function noteWrites(state: State, rules: Rules): State {
  if (!state.source.isOpen) return state;
  const marked = rules.program.indexOf("mark");
  const isDirty = (attempt: Attempt) => state.coordinator[attempt] > marked || state.dirty[attempt];
  return { ...state, dirty: [isDirty(0), isDirty(1)] };
}

/** Only bystanders ask for it; the coordinator's resolver aborts what it finds, in time or not. */
function timePasses(state: State, attempt: Attempt, rules: Rules): readonly State[] {
  if (state.resolver[1].step === "away") return [];
  const next = rules.nextState(state.decision[attempt], "timePasses");
  if (typeof next !== "string" || next === state.decision[attempt]) return [];
  return [{ ...state, decision: at(state.decision, attempt, next) }];
}

/** What a promoted server may have instead: all of it, or less than was acknowledged. */
const LOST: Readonly<Partial<Record<DecisionState, readonly DecisionState[]>>> = {
  committed: ["prepared", "committed"],
  opened: ["prepared", "committed", "opened"],
};

function failOver(state: State, rules: Rules): readonly State[] {
  if (state.failedOver) return [];
  return ATTEMPTS.flatMap((attempt) =>
    (LOST[state.decision[attempt]] ?? []).map((left) => ({
      ...state,
      failedOver: true,
      isForeign: [state.decision[0] !== "none", state.decision[1] !== "none"] as const,
      decision: at(state.decision, attempt, left),
      coordinator: [orDead(state, 0, rules), orDead(state, 1, rules)] as const,
    })),
  );
}

/** A session to the old server ends with it; who has not begun, or works at the destination, goes on. */
function orDead(state: State, attempt: Attempt, rules: Rules): number {
  const place = state.coordinator[attempt];
  const step = rules.program[place] ?? "done";
  return ["readBoard", "storeWitness", "open", "done"].includes(step) ? place : -1;
}

function stepCoordinator(state: State, attempt: Attempt, rules: Rules): readonly State[] {
  const place = state.coordinator[attempt];
  const step = rules.program[place];
  const to = (change: Partial<State>): readonly State[] => [
    { ...state, ...change, coordinator: at(state.coordinator, attempt, place + 1) },
  ];
  const dead = { ...state, coordinator: at(state.coordinator, attempt, -1) };
  const decide = (event: DecisionEvent): readonly State[] => {
    const next = rules.nextState(state.decision[attempt], event);
    return typeof next === "string" ? to({ decision: at(state.decision, attempt, next) }) : [dead];
  };
  const key = keyOf(attempt);
  const turn = (side: "source" | "destination", move: GateMove) => {
    const row = rules.moveGate(state[side], move);
    return row ? to({ [side]: row }) : [dead];
  };
  switch (step) {
    case "readBoard":
      if (attempt === 1 && state.decision[0] === "none") return [];
      return mayPlan(told(state), rules) ? to({}) : [];
    case "plan":
    case "planBlindly":
      return plan(state, attempt, { rules, isBlind: step === "planBlindly", to, dead });
    case "assignSource":
    case "assignSourceShut":
      return turn("source", { kind: "assign", key, opens: step === "assignSource" });
    case "assignDestination":
      return turn("destination", { kind: "assign", key, opens: false });
    case "markPrepared":
      return decide("prepare");
    case "awaitHeld":
      return state.nodes.every((node) => node.answered[attempt]) ? to({}) : [];
    case "close":
      return turn("source", { kind: "close", key });
    case "mark":
      return to({ dirty: at(state.dirty, attempt, false) });
    case "commit":
      return decide("commit");
    case "storeWitness":
      if (!hasKey(state.destination, keyOf(attempt))) return [dead];
      return to({ witness: at(state.witness, attempt, true) });
    case "open":
      return turn("destination", { kind: "open", key });
    case "markOpened":
      return decide("open");
    default:
      return [];
  }
}

function hasKey(gate: GateRow, key: { readonly epoch: number; readonly token: string }): boolean {
  return gate.epoch === key.epoch && gate.token === key.token;
}

/** Refuses unless the source serves and nothing is being decided. */
function mayPlan(decisions: readonly ModelDecision[], rules: Rules): boolean {
  if (servingOf(decisions).side === "destination") return false;
  return decisions.every((one) => typeof rules.nextState(stateOf(one), "replace") === "string");
}

/** In the statement itself it is asked again, of the control server's rows; `planned` rows before it lose. */
function plan(
  state: State,
  attempt: Attempt,
  move: {
    readonly rules: Rules;
    readonly isBlind: boolean;
    readonly to: (change: Partial<State>) => readonly State[];
    readonly dead: State;
  },
): readonly State[] {
  const { rules, isBlind, to, dead } = move;
  const rows = ATTEMPTS.flatMap((one) => rowOf(one, state.decision[one]));
  if (!isBlind && !mayPlan(rows, rules)) return [dead];
  const decision = ATTEMPTS.map((one) => {
    const next = rules.nextState(state.decision[one], one === attempt ? "plan" : "replace");
    return typeof next === "string" ? next : state.decision[one];
  });
  const [first = "none", second = "none"] = decision;
  return state.decision[attempt] === "none" ? to({ decision: [first, second] }) : [dead];
}

function stepResolver(state: State, index: Attempt, rules: Rules): readonly State[] {
  const resolver = state.resolver[index];
  const { attempt, token } = resolver;
  const epoch = epochOf(attempt);
  const { destination, decision } = state;
  const to = (next: Partial<Resolver>, change: Partial<State> = {}): readonly State[] => [
    { ...state, ...change, resolver: at(state.resolver, index, { ...resolver, ...next }) },
  ];
  const done = (change: Partial<State> = {}) => to(IDLE, change);
  const moved = (side: "source" | "destination", move: GateMove): Partial<State> => ({
    [side]: rules.moveGate(state[side], move) ?? state[side],
  });
  switch (resolver.step) {
    case "away":
      return [];
    case "idle":
      return ATTEMPTS.filter((one) => decision[one] !== "none").flatMap((one) =>
        to({
          step: "settle",
          attempt: one,
          token: destination.epoch === epochOf(one) ? destination.token : ownToken(one),
        }),
      );
    case "settle":
      return settle(state, index, { rules, to, done, moved });
    case "look":
      return to({ step: "store", sawWitness: state.witness[attempt] });
    case "store": {
      const event = resolver.sawWitness ? "failoverWitnessed" : "failoverUnwitnessed";
      const next = rules.nextState(decision[attempt], event);
      if (typeof next !== "string") return done();
      return to(
        { step: next === "aborted" ? "reopen" : "storeWitness", sawWitness: false },
        {
          decision: at(decision, attempt, next),
          isForeign: at(state.isForeign, attempt, false),
        },
      );
    }
    case "storeWitness":
      if (!hasKey(destination, { epoch, token })) return done();
      return to({ step: "open" }, { witness: at(state.witness, attempt, true) });
    case "open":
      return rules.moveGate(destination, { kind: "open", key: { epoch, token } })
        ? to({ step: "markOpened" }, moved("destination", { kind: "open", key: { epoch, token } }))
        : done();
    case "markOpened": {
      const next = rules.nextState(decision[attempt], "open");
      return done(typeof next === "string" ? { decision: at(decision, attempt, next) } : {});
    }
    case "reopen": {
      const nextToken = rotate(state.source.token);
      return done({
        home: at(state.home, attempt, true),
        ...moved("source", { kind: "reopen", epoch, nextToken }),
      });
    }
  }
}

/** The first resolver is the coordinator's, the second a node's. */
function settle(
  state: State,
  index: Attempt,
  move: {
    readonly rules: Rules;
    readonly to: (next: Partial<Resolver>, change?: Partial<State>) => readonly State[];
    readonly done: () => readonly State[];
    readonly moved: (side: "destination", gateMove: GateMove) => Partial<State>;
  },
): readonly State[] {
  const { rules, to, done, moved } = move;
  const { attempt } = state.resolver[index];
  const stored = state.decision[attempt];
  const todo = rules.resolverMove(stored, {
    role: index === 0 ? "coordinator" : "bystander",
    isSameServer: !state.isForeign[attempt],
  });
  switch (todo) {
    case "askWitnesses": {
      const nextToken = rotate(state.destination.token);
      const revoke: GateMove = { kind: "revoke", epoch: epochOf(attempt), nextToken };
      return to({ step: "look" }, moved("destination", revoke));
    }
    case "driveForward":
      return to({ step: "storeWitness" });
    case "driveBack":
      return to({ step: "reopen" });
    case "wait":
      return done();
    case "giveUp":
    case "expire": {
      const next = rules.nextState(stored, todo);
      if (typeof next !== "string") return done();
      return to({ step: "reopen" }, { decision: at(state.decision, attempt, next) });
    }
  }
}

/** A node looks, and some time later does what that look asked for. */
function stepNode(state: State, index: number, rules: Rules): readonly State[] {
  const node = state.nodes[index];
  if (!node) return [];
  const put = (next: Node): State => ({
    ...state,
    nodes: state.nodes.map((one, place) => (place === index ? next : one)),
  });
  const looks: State[] = [];
  const seen = seenNow(state);
  const isNews = node.seen === null || seen.join() !== node.seen.join();
  // Nothing to do about it: the next look may as well be later.
  if (isNews && node.seen === null && effectsOf(seen, node, rules).length > 0)
    looks.push(put({ ...node, seen }));
  if (node.seen === null) return looks;
  return [...looks, put(act(state, node, rules))];
}

function seenNow(state: State): Pair<DecisionState> {
  const decisions = told(state);
  const of = (attempt: Attempt) =>
    stateOf(decisions.find((one) => one.epoch === epochOf(attempt)) ?? null);
  return [of(0), of(1)];
}

function act(state: State, node: Node, rules: Rules): Node {
  let next: Node = { ...node, seen: null };
  for (const effect of effectsOf(node.seen ?? ["none", "none"], node, rules)) {
    const attempt = effect.attempt;
    switch (effect.kind) {
      case "adopt":
        next = { ...next, adopted: epochOf(attempt) };
        break;
      case "hold":
        next = {
          ...next,
          holds: at(next.holds, attempt, true),
          answered: at(next.answered, attempt, true),
        };
        break;
      case "release":
        next = { ...next, holds: at(next.holds, attempt, false) };
        break;
      case "resolve":
        // One of the resolvers does it; its end is what the node goes on with.
        if (state.home[attempt] && afterResolve("aborted", ownToken(attempt)).length > 0)
          next = { ...next, holds: at(next.holds, attempt, false) };
        break;
    }
  }
  return next;
}

interface ModelEffect {
  readonly kind: "adopt" | "hold" | "resolve" | "release";
  readonly attempt: Attempt;
}

const asked = new WeakMap<ModelFollow, Map<string, readonly ModelEffect[]>>();

/** The follower is pure, so each of its few questions is asked once. */
function effectsOf(seen: Pair<DecisionState>, node: Node, rules: Rules): readonly ModelEffect[] {
  const answers = asked.get(rules.follow) ?? new Map<string, readonly ModelEffect[]>();
  asked.set(rules.follow, answers);
  const question = `${seen} ${node.holds} ${node.adopted}`;
  const known = answers.get(question);
  if (known) return known;
  const decisions = ATTEMPTS.flatMap((attempt) => rowOf(attempt, seen[attempt]));
  const migration: ModelMigration = { id: "m", state: "active", decisions };
  const holds = new Map(
    ATTEMPTS.filter((attempt) => node.holds[attempt]).flatMap((attempt) =>
      rowOf(attempt, "prepared").map((decision) => [ownToken(attempt), { migration, decision }]),
    ),
  );
  // A gate that stays shut is looked at for long: a resolver may come at any time.
  const shutSinceMs = new Map(ATTEMPTS.map((attempt) => [ownToken(attempt), 0]));
  const memory = { holds, adopted: { m: node.adopted }, shutSinceMs };
  const effects = rules
    .follow([migration], memory, 1_000_000)
    .effects.flatMap((effect): readonly ModelEffect[] => {
      if (effect.kind === "record") return [];
      const token = effect.kind === "release" ? effect.token : effect.decision.token;
      return [{ kind: effect.kind, attempt: token === ownToken(0) ? 0 : 1 }];
    });
  answers.set(question, effects);
  return effects;
}

/** @returns what is broken, or null */
export function broken(state: State, rules: Rules): string | null {
  const { source, destination } = state;
  if (source.isOpen && destination.isOpen) return "both sides take writes";
  for (const attempt of ATTEMPTS) {
    if (destination.openedEpochs.includes(epochOf(attempt)) && state.dirty[attempt])
      return "the destination was opened without what the source took after the marker";
  }
  for (const node of state.nodes) {
    if (node.holds[0] || node.holds[1]) continue;
    if (node.adopted === 0 && destination.isOpen) return "clients go on at the side that was left";
    if (node.adopted > 0 && !destination.isOpen)
      return "clients go on at a side that takes nothing yet";
  }
  return isShutForNothing(state, rules)
    ? "the source refuses writes although nothing is under way"
    : null;
}

/** Each attempt is aborted and driven home, or has only just been planned: then the source must be open. */
function isShutForNothing(state: State, rules: Rules): boolean {
  if (state.source.isOpen) return false;
  const { program } = rules;
  const isIdle = (place: number) =>
    place >= program.indexOf("assignDestination") && place <= program.indexOf("markPrepared");
  return ATTEMPTS.every((attempt) => {
    const decision = state.decision[attempt];
    if (decision === "aborted") return state.home[attempt];
    return decision === "none" || (decision === "planned" && isIdle(state.coordinator[attempt]));
  });
}

const rested = new WeakMap<Rules, Map<string, boolean>>();

/** Asked once of all states that differ in what does not matter for it. */
export function comesToRest(state: State, rules: Rules): boolean {
  const answers = rested.get(rules) ?? new Map<string, boolean>();
  rested.set(rules, answers);
  const dead: State = {
    ...state,
    ...{ coordinator: [-1, -1], resolver: [IDLE, IDLE], dirty: [false, false] },
  };
  const key = keyOfState(dead);
  const known = answers.get(key) ?? restsOnOneSide(dead, rules);
  answers.set(key, known);
  return known;
}

/** With all coordinators dead, resolvers open exactly one side, and every node's clients go on there. */
function restsOnOneSide(state: State, rules: Rules): boolean {
  let current = state;
  for (const attempt of [0, 1, 0, 1] as const) {
    if (current.decision[attempt] === "none") continue;
    const { destination } = current;
    const token = destination.epoch === epochOf(attempt) ? destination.token : ownToken(attempt);
    let run: State = {
      ...current,
      resolver: [{ ...IDLE, step: "settle", attempt, token }, IDLE],
    };
    for (let guard = 0; run.resolver[0].step !== "idle" && guard < 20; guard++)
      run = stepResolver(run, 0, rules).at(-1) ?? run;
    current = run;
  }
  if (current.source.isOpen === current.destination.isOpen) return false;
  return current.nodes.every((node) => goesOn(current, node, rules));
}

function goesOn(state: State, node: Node, rules: Rules): boolean {
  let next = act(state, node, rules);
  for (let looks = 0; looks < 3; looks++)
    next = act(state, { ...next, seen: seenNow(state) }, rules);
  const isThere = next.adopted > 0 === state.destination.isOpen;
  return isThere && !next.holds[0] && !next.holds[1];
}
