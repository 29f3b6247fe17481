import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DECISION,
  DECISION_EVENTS,
  DECISION_STATES,
  type DecisionCopy,
  type DecisionEvent,
  furthestDecisions,
  isFinal,
  NODE,
  nextState,
  RESOLVER,
  refusalOf,
  servingOf,
  stateOf,
} from "../../../../src/resharding/model/protocol.js";

const FAILOVERS: readonly DecisionEvent[] = ["failoverWitnessed", "failoverUnwitnessed"];
const ORDINARY = DECISION_EVENTS.filter((event) => !FAILOVERS.includes(event));

describe("the table of the decision", () => {
  test("R29: only a prepared decision, in time, is committed", () => {
    for (const state of DECISION_STATES)
      expect(nextState(state, "commit") === "committed", state).toBe(state === "prepared");
  });

  test("R29: committed and aborted are for ever, as long as the server is the same", () => {
    for (const event of ORDINARY) {
      expect(["committed", "opened", refusalOf("committed", event)]).toContain(
        refusalOf("committed", event) ?? nextState("committed", event),
      );
      expect(refusalOf("opened", event) ?? nextState("opened", event)).toBe(
        refusalOf("opened", event) ?? "opened",
      );
      expect(refusalOf("aborted", event) ?? nextState("aborted", event)).toBe(
        refusalOf("aborted", event) ?? "aborted",
      );
    }
  });

  test("R30: no failover takes back what a client may have seen", () => {
    for (const event of DECISION_EVENTS) expect(DECISION.opened[event]).not.toBe("aborted");
  });

  test("a refusal goes on after the epoch, without an end of its own", () => {
    for (const state of DECISION_STATES)
      for (const event of DECISION_EVENTS)
        expect(refusalOf(state, event) ?? "is").toMatch(/^(is|was|has|expired) ?[^.]*$/);
  });

  test("whoever resolves comes to an end in every state but one that is being decided", () => {
    for (const state of DECISION_STATES)
      for (const role of ["coordinator", "bystander"] as const) {
        const move = RESOLVER["same server"][state][role];
        if (move === "wait") expect(["planned", "prepared"]).toContain(state);
        // What it says to do, the decision's own table allows.
        if (move === "giveUp" || move === "expire") expect(nextState(state, move)).toBe("aborted");
        if (move === "driveForward") expect(refusalOf(state, "open")).toBeNull();
      }
  });

  test("a node that holds is let go by every end of the decision", () => {
    for (const state of DECISION_STATES) {
      const isEnd = nextState(state, "timePasses") === state && state !== "committed";
      expect(["adopt", "resolveThenRelease"].includes(NODE[state].holding), state).toBe(
        isEnd && state !== "expired",
      );
    }
  });
});

const stored = fc.record({
  state: fc.constantFrom("planned", "prepared", "committed", "aborted"),
  isOpened: fc.boolean(),
  expiresInMs: fc.option(fc.integer({ min: -100, max: 100 })),
  timings: fc.constantFrom({}, { steps: { pause: 1 } }),
  epoch: fc.integer({ min: 1, max: 3 }),
  serving: fc.constantFrom("source", "destination"),
} as const);
const inSomeOrder = fc
  .array(stored, { maxLength: 8 })
  .chain((copies) =>
    fc.tuple(
      fc.constant(copies),
      fc.shuffledSubarray(copies, { minLength: copies.length, maxLength: copies.length }),
    ),
  );
const told = (copies: readonly DecisionCopy[]) =>
  copies.map((copy) => [copy.epoch, stateOf(copy), copy.timings]);
const RANKED = ["planned", "prepared", "expired", "committed", "aborted", "opened"];

describe("R32: the furthest decision", () => {
  test("is the same in whatever order and however often the servers tell", () => {
    fc.assert(
      fc.property(inSomeOrder, ([copies, shuffled]) => {
        expect(told(furthestDecisions([...shuffled, ...copies]))).toEqual(
          told(furthestDecisions(copies)),
        );
        const inParts = [furthestDecisions(copies.slice(2)), furthestDecisions(copies.slice(0, 2))];
        expect(told(furthestDecisions(inParts.flat()))).toEqual(told(furthestDecisions(copies)));
      }),
    );
  });

  test("another server's word takes nothing back, and no epoch is forgotten", () => {
    fc.assert(
      fc.property(fc.array(stored, { maxLength: 8 }), stored, (copies, one) => {
        const before = furthestDecisions(copies);
        const later = furthestDecisions([...copies, one]);
        for (const known of before) {
          const now = later.find((other) => other.epoch === known.epoch);
          expect(now).toBeDefined();
          if (!now) continue;
          const [was, is] = [known, now].map((copy) => RANKED.indexOf(stateOf(copy)));
          expect(is).toBeGreaterThanOrEqual(was ?? 0);
          if (known.timings.steps) expect(now.timings.steps).toEqual(known.timings.steps);
        }
        const opened = furthestDecisions([
          ...copies,
          { ...one, state: "committed", isOpened: true },
        ]);
        expect(servingOf(opened).epoch).toBeGreaterThanOrEqual(one.epoch);
      }),
    );
  });

  test("an abort after a failover counts against the commit that it lost, never against an open gate", () => {
    const copy = { epoch: 1, serving: "destination", expiresInMs: 1, timings: {} } as const;
    const lost = { ...copy, state: "committed", isOpened: false } as const;
    const aborted = { ...copy, state: "aborted", isOpened: false } as const;
    expect(servingOf(furthestDecisions([lost, aborted])).side).toBe("source");
    const opened = { ...lost, isOpened: true };
    expect(servingOf(furthestDecisions([aborted, opened, lost])).side).toBe("destination");
  });

  test("a final decision is what the column says", () => {
    const ends = (["planned", "prepared", "committed", "aborted"] as const).filter((state) =>
      isFinal({ state }),
    );
    expect(ends).toEqual(["committed", "aborted"]);
    expect(isFinal(null)).toBe(false);
  });
});
