import { describe, expect, test } from "vitest";

/**
 * The switch as a state-space search: two attempts whose coordinators may freeze anywhere and go on much later
 * (a zombie is a coordinator that is scheduled late), two resolvers beside them, one failover of the control
 * server that loses the last decision, and an application that writes whenever a gate lets it. Every
 * interleaving of the steps is walked. Each flag of `Bug` takes one rule out of the protocol; then the search
 * must find a state that breaks an invariant, or the model proves nothing.
 *
 * Model and code share the granularity: one step is one statement on one server.
 */

type Bug =
  | "none"
  | "gate without token" // R27
  | "abort without a fresh token" // R27
  | "commit without compare-and-set" // R29
  | "reopen before the abort is stored" // R30
  | "no question to the witnesses" // R30
  | "witnesses asked without revoking" // R30
  | "commit before the gate is closed" // R22 to R24
  | "gates left closed by an abort"; // liveness of the source

type DecisionState = "none" | "planned" | "prepared" | "committed" | "aborted";

interface State {
  readonly decision: readonly [DecisionState, DecisionState];
  /** The control server is another one since; per attempt: somebody has settled it there. */
  readonly failedOver: boolean;
  readonly settled: readonly [boolean, boolean];
  readonly source: { readonly epoch: number; readonly token: number; readonly open: boolean };
  readonly destination: {
    readonly epoch: number;
    readonly token: number;
    readonly open: boolean;
    readonly opened: readonly [boolean, boolean];
    readonly witness: readonly [boolean, boolean];
  };
  /** What each coordinator does next; "dead" for ever. */
  readonly coordinator: readonly [Step, Step];
  /** An application has written the source after the attempt's marker. */
  readonly dirty: readonly [boolean, boolean];
  readonly resolver: readonly [Resolver, Resolver];
  /** A resolver has driven the aborted attempt home; nobody will look at it again. */
  readonly home: readonly [boolean, boolean];
}

type Step =
  | "prepare"
  | "assignSource"
  | "assignDestination"
  | "markPrepared"
  | "close"
  | "mark"
  | "commit"
  | "storeWitness"
  | "open"
  | "done"
  | "dead";

interface Resolver {
  readonly step: "idle" | "settle" | "look" | "store" | "storeWitness" | "open" | "reopen";
  readonly attempt: 0 | 1;
  readonly token: number;
  readonly sawWitness: boolean;
}

const IDLE: Resolver = { step: "idle", attempt: 0, token: -1, sawWitness: false };
const START: State = {
  decision: ["none", "none"],
  failedOver: false,
  settled: [false, false],
  source: { epoch: 0, token: 0, open: true },
  destination: { epoch: 0, token: 0, open: false, opened: [false, false], witness: [false, false] },
  coordinator: ["prepare", "prepare"],
  dirty: [false, false],
  resolver: [IDLE, IDLE],
  home: [false, false],
};

const ATTEMPTS = [0, 1] as const;
type Attempt = (typeof ATTEMPTS)[number];

/** Tokens: 10 and 20 are the attempts' own; each rotation adds one, at most MAX_ROTATIONS times. */
const ownToken = (attempt: Attempt) => (attempt + 1) * 10;
const MAX_ROTATIONS = 3;
const rotate = (token: number) => (token % 10 < MAX_ROTATIONS ? token + 1 : token);

function at<T>(pair: readonly [T, T], index: Attempt, value: T): readonly [T, T] {
  return index === 0 ? [value, pair[1]] : [pair[0], value];
}

/** All states that one step of anybody leads to. */
function successors(state: State, bug: Bug): State[] {
  return [
    ...ATTEMPTS.flatMap((attempt) => stepCoordinator(state, { attempt, bug })),
    ...ATTEMPTS.flatMap((index) => stepResolver(state, { index, bug })),
    ...failOver(state),
  ].map(noteWrites);
}

/** The application writes the source whenever it may; what comes after a marker is not in the stream's drain. */
function noteWrites(state: State): State {
  if (!state.source.open) return state;
  const isMarked = (step: Step) => ["commit", "storeWitness", "open", "done"].includes(step);
  const dirty = state.coordinator.map((step, index) => isMarked(step) || state.dirty[index]);
  return { ...state, dirty: [dirty[0] ?? false, dirty[1] ?? false] };
}

function failOver(state: State): State[] {
  if (state.failedOver) return [];
  return ATTEMPTS.filter((attempt) => state.decision[attempt] === "committed").map((attempt) => ({
    ...state,
    failedOver: true,
    decision: at(state.decision, attempt, "prepared"),
    // A session to the old server ends with it; whoever had committed there may still be on its way.
    coordinator: [orDead(state.coordinator[0]), orDead(state.coordinator[1])],
  }));
}

function orDead(step: Step): Step {
  return step === "storeWitness" || step === "open" || step === "done" ? step : "dead";
}

interface CoordinatorMove {
  readonly attempt: Attempt;
  readonly bug: Bug;
}

function stepCoordinator(state: State, move: CoordinatorMove): State[] {
  const { attempt, bug } = move;
  const step = state.coordinator[attempt];
  const to = (next: Step, change: Partial<State> = {}): State[] => [
    { ...state, ...change, coordinator: at(state.coordinator, attempt, next) },
  ];
  const epoch = attempt + 1;
  const { source, destination } = state;
  const hasSource =
    bug === "gate without token" || (source.epoch === epoch && source.token === ownToken(attempt));
  const hasDestination = destination.epoch === epoch && destination.token === ownToken(attempt);
  switch (step) {
    case "prepare":
      return prepare(state, attempt, to);
    case "assignSource":
      if (source.epoch >= epoch) return to("dead");
      return to("assignDestination", {
        source: {
          epoch,
          token: ownToken(attempt),
          open: bug === "gates left closed by an abort" ? source.open : true,
        },
      });
    case "assignDestination":
      if (destination.epoch >= epoch) return to("dead");
      return to("markPrepared", {
        destination: { ...destination, epoch, token: ownToken(attempt) },
      });
    case "markPrepared":
      if (state.decision[attempt] !== "planned") return to("dead");
      return to(bug === "commit before the gate is closed" ? "commit" : "close", {
        decision: at(state.decision, attempt, "prepared"),
      });
    case "close":
      return hasSource ? to("mark", { source: { ...source, open: false } }) : to("dead");
    case "mark":
      return to("commit", { dirty: at(state.dirty, attempt, false) });
    case "commit":
      if (state.decision[attempt] !== "prepared" && bug !== "commit without compare-and-set") {
        return to("dead");
      }
      return to("storeWitness", { decision: at(state.decision, attempt, "committed") });
    case "storeWitness":
      if (!hasDestination) return to("dead");
      return to("open", {
        destination: { ...destination, witness: at(destination.witness, attempt, true) },
      });
    case "open":
      return hasDestination
        ? to("done", { destination: opened(destination, attempt) })
        : to("dead");
    case "done":
    case "dead":
      return [];
  }
}

function opened(destination: State["destination"], attempt: Attempt): State["destination"] {
  return { ...destination, open: true, opened: at(destination.opened, attempt, true) };
}

/** Refuses unless the source serves and nothing is being decided; `planned` rows before it lose. */
function prepare(
  state: State,
  attempt: Attempt,
  to: (next: Step, change?: Partial<State>) => State[],
): State[] {
  const isBusy = state.decision.some((one) => one === "committed" || one === "prepared");
  if (isBusy || (attempt === 1 && state.decision[0] === "none")) return [];
  const decision = state.decision.map((one) => (one === "planned" ? "aborted" : one));
  const [first = "none", second = "none"] = decision;
  return to("assignSource", { decision: at([first, second], attempt, "planned") });
}

interface ResolverMove {
  readonly index: Attempt;
  readonly bug: Bug;
}

/** Time is left out: a decision may be aborted from the moment it is prepared, expired or not. */
function stepResolver(state: State, move: ResolverMove): State[] {
  const { index, bug } = move;
  const resolver = state.resolver[index];
  const { attempt } = resolver;
  const epoch = attempt + 1;
  const { source, destination } = state;
  const to = (next: Partial<Resolver>, change: Partial<State> = {}): State[] => [
    { ...state, ...change, resolver: at(state.resolver, index, { ...resolver, ...next }) },
  ];
  const done = (change: Partial<State> = {}) => to(IDLE, change);
  switch (resolver.step) {
    case "idle":
      return ATTEMPTS.filter((one) => state.decision[one] !== "none").flatMap((one) =>
        to({
          step: "settle",
          attempt: one,
          token: destination.epoch === one + 1 ? destination.token : ownToken(one),
        }),
      );
    case "settle":
      return settle(state, { ...move, to });
    case "look":
      return to({ step: "store", sawWitness: destination.witness[attempt] });
    case "store": {
      const verdict = resolver.sawWitness ? "committed" : "aborted";
      return to(
        { step: resolver.sawWitness ? "storeWitness" : "reopen", sawWitness: false },
        {
          decision: at(state.decision, attempt, verdict),
          settled: at(state.settled, attempt, true),
        },
      );
    }
    case "storeWitness":
      if (destination.epoch !== epoch || destination.token !== resolver.token) return done();
      return to(
        { step: "open" },
        { destination: { ...destination, witness: at(destination.witness, attempt, true) } },
      );
    case "open":
      if (destination.epoch !== epoch || destination.token !== resolver.token) return done();
      return done({ destination: opened(destination, attempt) });
    case "reopen":
      if (source.epoch !== epoch) return done({ home: at(state.home, attempt, true) });
      return done({
        home: at(state.home, attempt, true),
        source: {
          epoch,
          open: true,
          token: bug === "abort without a fresh token" ? source.token : rotate(source.token),
        },
      });
  }
}

function settle(
  state: State,
  move: ResolverMove & {
    readonly to: (next: Partial<Resolver>, change?: Partial<State>) => State[];
  },
): State[] {
  const { bug, to } = move;
  const { attempt } = state.resolver[move.index];
  const decision = state.decision[attempt];
  const mustAsk = state.failedOver && !state.settled[attempt];
  if (mustAsk && bug !== "no question to the witnesses") {
    const { destination } = state;
    const mayRevoke = destination.epoch === attempt + 1 && !destination.opened[attempt];
    const isRevoked = mayRevoke && bug !== "witnesses asked without revoking";
    const token = isRevoked ? rotate(destination.token) : destination.token;
    return to({ step: "look" }, { destination: { ...destination, token } });
  }
  if (decision === "committed") return to({ step: "storeWitness" });
  if (decision === "aborted") return to({ step: "reopen" });
  if (bug === "reopen before the abort is stored") {
    return to(
      { step: "settle" },
      {
        source: { ...state.source, open: state.source.epoch === attempt + 1 || state.source.open },
      },
    ).concat(to({ step: "reopen" }, { decision: at(state.decision, attempt, "aborted") }));
  }
  return to({ step: "reopen" }, { decision: at(state.decision, attempt, "aborted") });
}

/** @returns what is broken, or null */
function broken(state: State): string | null {
  if (state.source.open && state.destination.open) return "both sides take writes";
  for (const attempt of ATTEMPTS) {
    if (state.destination.opened[attempt] && state.dirty[attempt]) {
      return "the destination was opened without what the source took after the marker";
    }
  }
  return isShutForNothing(state) ? "the source refuses writes although nothing is under way" : null;
}

/** Each attempt is aborted and driven home, or has only just been planned: then the source must be open. */
function isShutForNothing(state: State): boolean {
  const isQuiet = (attempt: Attempt) =>
    state.decision[attempt] === "none" ||
    (state.decision[attempt] === "aborted" && state.home[attempt]) ||
    (state.decision[attempt] === "planned" &&
      ["assignDestination", "markPrepared"].includes(state.coordinator[attempt]));
  return !state.source.open && ATTEMPTS.every(isQuiet);
}

/** With everybody else dead, one resolver per attempt is enough to open exactly one side. */
function comesToRest(state: State, bug: Bug): boolean {
  let current: State = { ...state, coordinator: ["dead", "dead"], resolver: [IDLE, IDLE] };
  for (const attempt of [0, 1, 0, 1] as const) {
    if (current.decision[attempt] === "none") continue;
    let run: State = {
      ...current,
      resolver: [
        {
          ...IDLE,
          step: "settle",
          attempt,
          token:
            current.destination.epoch === attempt + 1
              ? current.destination.token
              : ownToken(attempt),
        },
        IDLE,
      ],
    };
    for (let guard = 0; run.resolver[0].step !== "idle" && guard < 20; guard++) {
      run = stepResolver(run, { index: 0, bug }).at(-1) ?? run;
    }
    current = run;
  }
  return current.source.open !== current.destination.open;
}

interface Found {
  readonly states: number;
  readonly broken: string | null;
}

function search(bug: Bug): Found {
  const seen = new Set<string>();
  const queue: State[] = [START];
  for (let state = queue.pop(); state; state = queue.pop()) {
    const key = JSON.stringify(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const what = broken(state) ?? (comesToRest(state, bug) ? null : "no side comes to serve");
    if (what !== null) return { states: seen.size, broken: what };
    queue.push(...successors(state, bug));
  }
  return { states: seen.size, broken: null };
}

describe("the switch protocol, every interleaving", () => {
  test("R27 R29 R30: never both sides, never a lost write, always one side in the end", () => {
    const found = search("none");
    expect(found.broken).toBeNull();
    expect(found.states).toBeGreaterThan(10_000);
  }, 120_000);

  const bugs: readonly Bug[] = [
    "gate without token",
    "abort without a fresh token",
    "commit without compare-and-set",
    "reopen before the abort is stored",
    "no question to the witnesses",
    "witnesses asked without revoking",
    "commit before the gate is closed",
    "gates left closed by an abort",
  ];
  test.each(bugs)(
    "finds what goes wrong with: %s",
    (bug) => {
      expect(search(bug).broken).not.toBeNull();
    },
    120_000,
  );
});
