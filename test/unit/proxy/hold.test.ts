import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Hold, type HoldEffect, HoldMachine } from "../../../src/proxy/hold/hold.js";
import { cases } from "../../support/cases.js";

const hold = (token: string, options: Partial<Hold> = {}): Hold => ({
  token,
  databases: ["app"],
  openTransactions: "wait",
  clientTimeoutMs: 100,
  maxClients: 10,
  maxBytes: 1_000,
  ...options,
});
const wish = (nowMs = 0, database = "app", bytes = 10) => ({ database, bytes, nowMs });

describe("hold machine", () => {
  test("answers held when the last transaction ends, and again when asked again", () => {
    const machine = new HoldMachine();
    expect(machine.begin(1, wish()).answer).toBe("go");
    expect(machine.hold(hold("a"))).toEqual([]);
    expect(machine.begin(2, wish()).answer).toBe("wait");
    expect(machine.begin(3, wish(0, "other")).answer).toBe("go");
    expect(machine.finish(1)).toEqual([{ kind: "held", token: "a" }]);
    expect(machine.hold(hold("a"))).toEqual([{ kind: "held", token: "a" }]);
    expect(machine.takeReleased(10)).toEqual([]);
    machine.release("a");
    expect(machine.takeReleased(10)).toEqual([2]);
  });

  test("says how many wait, and which of the open ones are the oldest", () => {
    const machine = new HoldMachine();
    for (const session of [7, 3, 5]) machine.begin(session, wish());
    machine.begin(4, wish(0, "other"));
    machine.hold(hold("a"));
    machine.begin(9, wish());
    expect(machine.progress("a", 2)).toEqual({ open: 3, waiting: 1, oldest: [7, 3] });
    machine.finish(7);
    expect(machine.progress("a", 2)).toEqual({ open: 2, waiting: 1, oldest: [3, 5] });
    expect(machine.progress("b", 2)).toBeNull();
  });

  test("R29: no time ends a hold, only its clients' patience", () => {
    const machine = new HoldMachine();
    machine.hold(hold("a"));
    machine.begin(1, wish(0));
    expect(machine.tick(99)).toEqual([]);
    expect(machine.tick(100)).toMatchObject([{ kind: "giveUp", session: 1 }]);
    machine.tick(1e12);
    expect(machine.isHeld("app")).toBe(true);
    expect(machine.begin(2, wish(1e12)).answer).toBe("wait");
  });

  test("bounds give up the oldest", () => {
    const machine = new HoldMachine();
    machine.hold(hold("a", { maxClients: 2 }));
    for (const session of [1, 2]) expect(machine.begin(session, wish()).effects).toEqual([]);
    expect(machine.begin(3, wish()).effects).toMatchObject([
      { kind: "overflow", token: "a" },
      { kind: "giveUp", session: 1 },
    ]);
    const bytes = new HoldMachine();
    bytes.hold(hold("a", { maxBytes: 25 }));
    for (const session of [1, 2]) bytes.begin(session, wish());
    expect(bytes.begin(3, wish()).effects).toMatchObject([
      { kind: "overflow" },
      { kind: "giveUp", session: 1 },
    ]);
  });

  test("end names what runs", () => {
    const machine = new HoldMachine();
    machine.begin(1, wish());
    expect(machine.hold(hold("a", { openTransactions: "end" }))).toEqual([
      { kind: "end", session: 1 },
    ]);
    expect(machine.finish(1)).toEqual([{ kind: "held", token: "a" }]);
  });

  test("a session under two holds waits for both", () => {
    const machine = new HoldMachine();
    machine.hold(hold("a"));
    machine.hold(hold("b", { clientTimeoutMs: null }));
    machine.begin(1, wish());
    machine.release("a");
    expect(machine.takeReleased(10)).toEqual([]);
    machine.release("b");
    expect(machine.takeReleased(10)).toEqual([1]);
  });

  test("whatever happens: nothing starts under a hold, and held is never said too early", () => {
    const event = fc.oneof(
      fc.record({
        kind: fc.constant("begin" as const),
        session: fc.nat(7),
        database: fc.constantFrom("app", "other"),
      }),
      fc.record({ kind: fc.constant("finish" as const), session: fc.nat(7) }),
      fc.record({
        kind: fc.constant("hold" as const),
        token: fc.constantFrom("a", "b"),
        database: fc.constantFrom("app", "other"),
      }),
      fc.record({ kind: fc.constant("release" as const), token: fc.constantFrom("a", "b") }),
      fc.record({ kind: fc.constant("take" as const) }),
      fc.record({ kind: fc.constant("tick" as const), ms: fc.nat(200) }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const machine = new HoldMachine();
        const running = new Map<number, string>();
        const waiting = new Map<number, string>();
        const holds = new Map<string, string>();
        const held = (database: string) => [...holds.values()].includes(database);
        let nowMs = 0;
        const check = (effects: readonly HoldEffect[]) => {
          for (const effect of effects) {
            if (effect.kind === "giveUp") expect(waiting.delete(effect.session)).toBe(true);
            if (effect.kind === "held")
              expect([...running.values()]).not.toContain(holds.get(effect.token));
          }
        };
        for (const each of events) {
          switch (each.kind) {
            case "begin": {
              if (running.has(each.session) || waiting.has(each.session)) break;
              const { answer, effects } = machine.begin(each.session, wish(nowMs, each.database));
              expect(answer).toBe(held(each.database) ? "wait" : "go");
              (answer === "go" ? running : waiting).set(each.session, each.database);
              check(effects);
              break;
            }
            case "finish":
              running.delete(each.session);
              waiting.delete(each.session);
              check(machine.finish(each.session));
              break;
            case "hold":
              if (!holds.has(each.token)) holds.set(each.token, each.database);
              check(machine.hold(hold(each.token, { databases: [each.database], maxClients: 3 })));
              break;
            case "release":
              holds.delete(each.token);
              machine.release(each.token);
              break;
            case "take":
              for (const session of machine.takeReleased(2)) {
                const database = waiting.get(session) ?? "";
                expect(held(database)).toBe(false);
                waiting.delete(session);
                running.set(session, database);
              }
              break;
            case "tick":
              nowMs += each.ms;
              check(machine.tick(nowMs));
          }
        }
        for (const token of holds.keys()) machine.release(token);
        for (const session of machine.takeReleased(100)) waiting.delete(session);
        expect([...waiting]).toEqual([]);
      }),
      { numRuns: cases(500) },
    );
  });
});
