import { describe, expect, test } from "vitest";
import { follow } from "../../../src/control/node/decision-follower.js";
import { moveGate } from "../../../src/resharding/model/gate-moves.js";
import { nextState, resolverMove } from "../../../src/resharding/model/protocol.js";
import {
  broken,
  comesToRest,
  keyOfState,
  type ModelDecision,
  PROGRAM,
  RULES,
  type Rules,
  type State,
  start,
  successors,
} from "./switch-model.js";

interface Found {
  readonly states: number;
  readonly broken: string | null;
}

/** Walks every interleaving, until something is broken. */
function search(rules: Rules, nodeCount: number): Found {
  const seen = new Set<string>();
  const queue: State[] = [start(nodeCount)];
  for (let state = queue.pop(); state; state = queue.pop()) {
    const key = keyOfState(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const what =
      broken(state, rules) ?? (comesToRest(state, rules) ? null : "no side comes to serve");
    if (what !== null) return { states: seen.size, broken: what };
    queue.push(...successors(state, rules));
  }
  return { states: seen.size, broken: null };
}

describe("the switch protocol, every interleaving", () => {
  test.each([0, 1, 2])(
    "count %s",
    (nodes) => {
      const t = performance.now();
      const found = search(RULES, nodes);
      console.error(nodes, found, performance.now() - t);
    },
    300_000,
  );
});
