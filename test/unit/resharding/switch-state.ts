import type { GateRow } from "../../../src/resharding/model/gate-moves.js";
import { type DecisionState, furthestDecisions } from "../../../src/resharding/model/protocol.js";

/** What the state-space search of the switch walks over, and how two states are told apart. */

export interface ModelDecision {
  readonly epoch: number;
  readonly token: string;
  readonly state: "planned" | "prepared" | "committed" | "aborted";
  readonly isOpened: boolean;
  readonly expiresInMs: number | null;
  readonly serving: "destination";
  readonly timings: Readonly<Record<string, never>>;
}
export interface ModelMigration {
  readonly id: string;
  readonly state: "active";
  readonly decisions: readonly ModelDecision[];
}

export const ATTEMPTS = [0, 1] as const;
export type Attempt = (typeof ATTEMPTS)[number];
export type Pair<T> = readonly [T, T];

export interface Node {
  /** Of each attempt, as its last look found it; null: it has done everything about it. */
  readonly seen: Pair<DecisionState> | null;
  /** Under which attempts its clients wait, and for which it has answered. */
  readonly holds: Pair<boolean>;
  readonly answered: Pair<boolean>;
  readonly adopted: number;
}

export interface Resolver {
  readonly step:
    | "away"
    | "idle"
    | "settle"
    | "look"
    | "store"
    | "storeWitness"
    | "open"
    | "markOpened"
    | "reopen";
  readonly attempt: Attempt;
  readonly token: string;
  readonly sawWitness: boolean;
}

export interface State {
  /** On the control server. */
  readonly decision: Pair<DecisionState>;
  /** The row was planned on another server than the one that has it now, and nobody has settled it since. */
  readonly isForeign: Pair<boolean>;
  readonly failedOver: boolean;
  readonly source: GateRow;
  readonly destination: GateRow;
  /** The destination has a committed copy. */
  readonly witness: Pair<boolean>;
  /** What each coordinator does next, as a place in the program; -1: dead. */
  readonly coordinator: Pair<number>;
  /** An application has written the source after the attempt's marker. */
  readonly dirty: Pair<boolean>;
  readonly resolver: Pair<Resolver>;
  /** A resolver has driven the aborted attempt home. */
  readonly home: Pair<boolean>;
  readonly nodes: readonly Node[];
}

export const IDLE: Resolver = { step: "idle", attempt: 0, token: "", sawWitness: false };
const GATE: GateRow = { epoch: 0, token: "", isOpen: true, openedEpochs: [] };
const NODE: Node = {
  seen: null,
  holds: [false, false],
  answered: [false, false],
  adopted: 0,
};

/** How many there are besides the two coordinators: all together would be too many states to walk. */
export interface Cast {
  readonly nodes: 0 | 1 | 2;
  readonly resolvers: 1 | 2;
}

export function start({ nodes, resolvers }: Cast): State {
  return {
    decision: ["none", "none"],
    isForeign: [false, false],
    failedOver: false,
    source: GATE,
    destination: { ...GATE, isOpen: false },
    witness: [false, false],
    coordinator: [0, 0],
    dirty: [false, false],
    resolver: [IDLE, resolvers === 2 ? IDLE : { ...IDLE, step: "away" }],
    home: [false, false],
    nodes: Array.from({ length: nodes }, () => NODE),
  };
}

/** Tokens: each attempt has its own; each rotation makes the next, at most MAX_ROTATIONS times. */
export const ownToken = (attempt: Attempt) => `${attempt}`;
const MAX_ROTATIONS = 3;
export const rotate = (token: string) => (token.length <= MAX_ROTATIONS ? `${token}'` : token);
export const epochOf = (attempt: Attempt) => attempt + 1;
export const keyOf = (attempt: Attempt) => ({ epoch: epochOf(attempt), token: ownToken(attempt) });

export function at<T>(pair: Pair<T>, index: number, value: T): Pair<T> {
  return index === 0 ? [value, pair[1]] : [pair[0], value];
}

const bits = (two: Pair<boolean>) => (two[0] ? 1 : 0) + (two[1] ? 2 : 0);

/** Parts are shared between states, so each is written down once. */
function written<T extends object>(write: (part: T) => string): (part: T) => string {
  const known = new WeakMap<T, string>();
  return (part) => {
    const text = known.get(part) ?? write(part);
    known.set(part, text);
    return text;
  };
}
const gateKey = written<GateRow>(
  (gate) => `${gate.epoch}${gate.token}${gate.isOpen ? "o" : "c"}${gate.openedEpochs.join("")}`,
);
const nodeKey = written<Node>(
  (node) => `${node.seen ?? ""}${bits(node.holds)}${bits(node.answered)}${node.adopted}`,
);
const resolverKey = written<Resolver>(
  (one) => `${one.step}${one.attempt}${one.token}${one.sawWitness ? 1 : 0}`,
);

/** What tells two states apart. Nodes are interchangeable. */
export function keyOfState(state: State): string {
  const { decision, coordinator, resolver, isForeign, witness, dirty, home } = state;
  const nodes = state.nodes.map(nodeKey).sort().join();
  const flags = [isForeign, witness, dirty, home].map(bits).join("");
  return (
    `${decision} ${coordinator} ${resolverKey(resolver[0])} ${resolverKey(resolver[1])} ${nodes} ` +
    `${gateKey(state.source)} ${gateKey(state.destination)} ${flags}${state.failedOver ? 1 : 0}`
  );
}

const heard = new Map<string, readonly ModelDecision[]>();

/** What the servers say of each attempt, put together as a node and a board do it; pure, so asked once. */
export function told(state: State): readonly ModelDecision[] {
  const key = `${state.decision} ${state.witness} ${state.destination.openedEpochs}`;
  const known = heard.get(key) ?? furthest(state);
  heard.set(key, known);
  return known;
}

function furthest(state: State): readonly ModelDecision[] {
  const copies = ATTEMPTS.flatMap((attempt) => {
    const isOpened = state.destination.openedEpochs.includes(epochOf(attempt));
    const copy: DecisionState = isOpened ? "opened" : "committed";
    return [state.decision[attempt], ...(state.witness[attempt] ? [copy] : [])].flatMap((one) =>
      rowOf(attempt, one),
    );
  });
  return furthestDecisions(copies);
}

export function rowOf(attempt: Attempt, state: DecisionState): readonly ModelDecision[] {
  if (state === "none") return [];
  const column = { expired: "prepared", opened: "committed" } as const;
  const stored = state === "expired" || state === "opened" ? column[state] : state;
  return [
    {
      ...{ epoch: epochOf(attempt), token: ownToken(attempt), serving: "destination", timings: {} },
      state: stored,
      isOpened: state === "opened",
      expiresInMs: state === "prepared" ? 1 : state === "expired" ? 0 : null,
    },
  ];
}
