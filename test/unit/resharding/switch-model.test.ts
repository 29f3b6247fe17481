import { describe, expect, test } from "vitest";
import { follow } from "../../../src/control/node/decision-follower.js";
import { moveGate } from "../../../src/resharding/model/gate-moves.js";
import { nextState, resolverMove } from "../../../src/resharding/model/protocol.js";
import {
  broken,
  comesToRest,
  type ModelFollow,
  PROGRAM,
  RULES,
  type Rules,
  type Step,
  successors,
} from "./switch-model.js";
import { type Cast, keyOfState, type State, start } from "./switch-state.js";

interface Found {
  readonly states: number;
  readonly broken: string | null;
}

/** Walks every interleaving, until something is broken. */
function search(rules: Rules, cast: Cast): Found {
  const seen = new Set<string>();
  const queue: State[] = [start(cast)];
  for (let state = queue.pop(); state; state = queue.pop()) {
    const key = keyOfState(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const stands = () => (comesToRest(state, rules) ? null : "no side comes to serve");
    const what = broken(state, rules) ?? stands();
    if (what !== null) return { states: seen.size, broken: what };
    queue.push(...successors(state, rules));
  }
  return { states: seen.size, broken: null };
}

/** The coordinator's order with one step taken out, and put before another or replaced. */
function program(change: {
  readonly take: Step;
  readonly before?: Step;
  readonly put?: Step;
}): Rules {
  const { take, before, put } = change;
  const steps = PROGRAM.flatMap((step): readonly Step[] => {
    if (step === take) return put ? [put] : [];
    return step === before ? [take, step] : [step];
  });
  return { ...RULES, program: steps };
}

const SERVERS: Cast = { nodes: 0, resolvers: 2 };
const NODES: Cast = { nodes: 2, resolvers: 1 };

/** A node that looks at the decisions through these glasses. */
const seeing = (glasses: (of: Parameters<ModelFollow>[0][number]) => typeof of): Rules => ({
  ...RULES,
  follow: (seen, memory, nowMs) => follow(seen.map(glasses), memory, nowMs),
});

/** Each takes one rule out of the protocol; a search that finds nothing then would prove nothing. */
const BUGS: readonly (readonly [string, string, Cast, Rules])[] = [
  [
    "R27",
    "gate without token",
    SERVERS,
    {
      ...RULES,
      moveGate: (gate, move) =>
        moveGate(gate, move.kind === "close" ? { kind: "close", key: gate } : move),
    },
  ],
  [
    "R27",
    "abort without a fresh token",
    SERVERS,
    {
      ...RULES,
      moveGate: (gate, move) =>
        moveGate(gate, move.kind === "reopen" ? { ...move, nextToken: gate.token } : move),
    },
  ],
  [
    "R29",
    "commit without compare-and-set",
    SERVERS,
    {
      ...RULES,
      nextState: (state, event) => (event === "commit" ? "committed" : nextState(state, event)),
    },
  ],
  [
    "R30",
    "reopen before the abort is stored",
    SERVERS,
    {
      ...RULES,
      resolverMove: (state, as) => (state === "prepared" ? "driveBack" : resolverMove(state, as)),
    },
  ],
  [
    "R30",
    "no question to the witnesses",
    SERVERS,
    {
      ...RULES,
      resolverMove: (state, as) => resolverMove(state, { ...as, isSameServer: true }),
    },
  ],
  [
    "R30",
    "witnesses asked without revoking",
    SERVERS,
    {
      ...RULES,
      moveGate: (gate, move) => (move.kind === "revoke" ? null : moveGate(gate, move)),
    },
  ],
  [
    "R22 to R24",
    "commit before the gate is closed",
    SERVERS,
    program({ take: "commit", before: "close" }),
  ],
  [
    "R30",
    "gates left closed by an abort",
    SERVERS,
    program({ take: "assignSource", put: "assignSourceShut" }),
  ],
  [
    "R46",
    "a plan that does not ask again in its statement",
    SERVERS,
    program({ take: "plan", put: "planBlindly" }),
  ],
  ["R29", "a switch that does not wait for the nodes", NODES, program({ take: "awaitHeld" })],
  [
    "R29",
    "a node that adopts before a gate has opened",
    NODES,
    seeing((migration) => ({
      ...migration,
      decisions: migration.decisions.map((one) => ({
        ...one,
        isOpened: one.state === "committed",
      })),
    })),
  ],
  [
    "R29",
    "a node that ends its hold by a clock of its own",
    NODES,
    {
      ...RULES,
      follow: (seen, memory, nowMs) => {
        const followed = follow(seen, memory, nowMs);
        const releases = [...memory.holds.keys()].map(
          (token) => ({ kind: "release", token }) as const,
        );
        return { ...followed, effects: [...followed.effects, ...releases] };
      },
    },
  ],
  [
    "R29",
    "a node that lets go of nothing but the latest decision",
    NODES,
    {
      ...RULES,
      follow: (seen, memory, nowMs) => {
        const followed = follow(seen, memory, nowMs);
        const latest = seen[0]?.decisions.at(-1)?.token;
        const tokenOf = (effect: (typeof followed.effects)[number]) =>
          effect.kind === "release" ? effect.token : effect.decision.token;
        const effects = followed.effects.filter((effect) => tokenOf(effect) === latest);
        return { ...followed, effects };
      },
    },
  ],
];

describe("the switch protocol, every interleaving", () => {
  test("R27 R29 R30 R46: never both sides, never a lost write, always one side in the end", () => {
    const found = search(RULES, SERVERS);
    expect(found.broken).toBeNull();
    expect(found.states).toBeGreaterThan(100_000);
  }, 120_000);

  test("R29: nobody's clients go on at a side that does not serve, however long a node was frozen", () => {
    const found = search(RULES, NODES);
    expect(found.broken).toBeNull();
    expect(found.states).toBeGreaterThan(100_000);
  }, 120_000);

  test.each(BUGS)(
    "%s: finds what goes wrong with: %s",
    (_rule, _bug, cast, rules) => {
      expect(search(rules, cast).broken).not.toBeNull();
    },
    120_000,
  );
});
