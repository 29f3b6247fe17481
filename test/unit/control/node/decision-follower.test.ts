import { describe, expect, test } from "vitest";
import {
  afterResolve,
  type FollowedDecision,
  type FollowedMigration,
  follow,
  type NodeEffect,
  type NodeMemory,
} from "../../../../src/control/node/decision-follower.js";
import type { DecisionState } from "../../../../src/resharding/model/protocol.js";

type Migration = FollowedMigration<FollowedDecision>;
type Memory = NodeMemory<Migration, FollowedDecision>;

const decision = (epoch: number, state: Exclude<DecisionState, "none">): FollowedDecision => ({
  epoch,
  token: `token ${epoch}`,
  state: state === "expired" ? "prepared" : state === "opened" ? "committed" : state,
  isOpened: state === "opened",
  expiresInMs: state === "prepared" ? 100 : state === "expired" ? 0 : null,
});
const migration = (
  decisions: readonly FollowedDecision[],
  state: Migration["state"] = "active",
): Migration => ({ id: "m", state, decisions });
const memory = (options: {
  readonly holds?: readonly number[];
  readonly adopted?: number;
  readonly shutSinceMs?: number;
}): Memory => ({
  holds: new Map(
    (options.holds ?? []).map((epoch) => [
      `token ${epoch}`,
      { migration: migration([]), decision: decision(epoch, "prepared") },
    ]),
  ),
  adopted: options.adopted === undefined ? {} : { m: options.adopted },
  shutSinceMs: new Map(options.shutSinceMs === undefined ? [] : [["token 1", options.shutSinceMs]]),
});
const said = (effects: readonly NodeEffect<Migration, FollowedDecision>[]) =>
  effects.map((effect) =>
    effect.kind === "release"
      ? `release ${effect.token.slice(6)}`
      : `${effect.kind} ${effect.decision.epoch}`,
  );
const ask = (seen: Migration, known: Memory, nowMs = 1_000) =>
  said(follow([seen], known, nowMs).effects);

describe("what a node does", () => {
  // state, while its clients do not wait under it, while they do
  test.each([
    ["planned", [], ["resolve 1"]],
    ["prepared", ["hold 1"], []],
    ["expired", ["hold 1", "resolve 1"], ["resolve 1"]],
    ["committed", ["hold 1"], []],
    ["opened", ["adopt 1", "record 1"], ["adopt 1", "release 1", "record 1"]],
    ["aborted", [], ["resolve 1"]],
  ] as const)("%s", (state, free, holding) => {
    const seen = migration([decision(1, state)]);
    expect(ask(seen, memory({}))).toEqual(free);
    expect(ask(seen, memory({ holds: [1] }))).toEqual(holding);
  });

  test("an opened decision is adopted once, and never one below the node's own", () => {
    const seen = migration([decision(1, "opened")]);
    expect(ask(seen, memory({ adopted: 1 }))).toEqual([]);
    expect(ask(seen, memory({ adopted: 2, holds: [1] }))).toEqual(["release 1"]);
  });

  test("gates that do not open after a commit: the node goes forward by itself, after a while", () => {
    const seen = migration([decision(1, "committed")]);
    const first = follow([seen], memory({ holds: [1] }), 1_000);
    expect([...first.shutSinceMs]).toEqual([["token 1", 1_000]]);
    expect(ask(seen, memory({ holds: [1], shutSinceMs: 1_000 }), 1_500)).toEqual([]);
    expect(ask(seen, memory({ holds: [1], shutSinceMs: 1_000 }), 1_501)).toEqual(["resolve 1"]);
    const later = follow([migration([decision(1, "opened")])], memory({ shutSinceMs: 1 }), 2_000);
    expect([...later.shutSinceMs]).toEqual([]);
  });

  test("the attempt after a committed one does not hide it", () => {
    const seen = migration([decision(1, "opened"), decision(2, "planned")]);
    expect(ask(seen, memory({}))).toEqual(["adopt 1", "record 1"]);
    const shut = migration([decision(1, "committed"), decision(2, "aborted")]);
    expect(ask(shut, memory({ holds: [1], shutSinceMs: 0 }))).toEqual(["resolve 1"]);
  });

  test("a node that was frozen lets go of what has ended meanwhile, under the hold of the next attempt", () => {
    const seen = migration([decision(1, "aborted"), decision(2, "prepared")]);
    expect(ask(seen, memory({ holds: [1] }))).toEqual(["hold 2", "resolve 1"]);
    const planned = migration([decision(1, "aborted"), decision(2, "planned")]);
    expect(ask(planned, memory({ holds: [1] }))).toEqual(["resolve 1"]);
    const there = migration([decision(1, "opened"), decision(2, "opened")]);
    expect(ask(there, memory({ holds: [1] }))).toEqual(["adopt 2", "release 1", "record 2"]);
  });

  test("R31: a decision that the servers have lost is asked after, and nobody goes on before", () => {
    expect(ask(migration([]), memory({ holds: [1] }))).toEqual(["resolve 1"]);
  });

  test("a migration that has ended, or of which its servers know nothing, holds nobody", () => {
    const ended = migration([decision(1, "prepared")], "aborted");
    expect(ask(ended, memory({ holds: [1] }))).toEqual(["release 1"]);
    expect(ask(ended, memory({}))).toEqual([]);
    const done = migration([decision(1, "committed")], "finalized");
    expect(ask(done, memory({ holds: [1] }))).toEqual(["adopt 1", "release 1", "record 1"]);
    expect(said(follow([], memory({ holds: [1] }), 0).effects)).toEqual(["release 1"]);
  });

  test("names before clients, holds before releases, over all migrations", () => {
    const one = migration([decision(1, "opened")]);
    const other: Migration = {
      ...migration([{ ...decision(7, "prepared"), token: "token 7" }]),
      id: "o",
    };
    expect(said(follow([one, other], memory({ holds: [1] }), 0).effects)).toEqual([
      "adopt 1",
      "hold 7",
      "release 1",
      "record 1",
    ]);
  });

  test("only an abort lets clients go on when a resolve has ended; a commit is adopted first", () => {
    expect(said(afterResolve("aborted", "token 1"))).toEqual(["release 1"]);
    expect(afterResolve("committed", "token 1")).toEqual([]);
  });
});
