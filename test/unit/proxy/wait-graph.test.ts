import { describe, expect, it } from "vitest";
import { findCycle, stillWaits, type Wait } from "../../../src/proxy/databases/wait-graph.js";

const wait = (shard: number, pid: number, blockedBy: number, since = "1"): Wait => ({
  ...{ shard, pid, blockedBy, since },
});
const member = (shard: number, pid: number, transaction: number) => ({ shard, pid, transaction });

/** 100 has 11 on shard 0 and 21 on shard 1; 200 has 12 and 22. */
const MEMBERS = [member(0, 11, 100), member(1, 21, 100), member(0, 12, 200), member(1, 22, 200)];

describe("wait graph", () => {
  it("sees two transactions that wait for each other on two shards", () => {
    const cycle = findCycle(100, [wait(0, 11, 12), wait(1, 22, 21)], MEMBERS);
    expect(cycle?.transactions).toEqual([100, 200]);
  });

  it("takes sessions of one shard for themselves, the same pid on two shards for two", () => {
    const through = [wait(1, 21, 30), wait(1, 30, 22), wait(0, 12, 11)];
    expect(findCycle(100, through, MEMBERS)?.waits).toHaveLength(3);
    expect(findCycle(100, [wait(1, 21, 30), wait(0, 30, 11)], MEMBERS)).toBeNull();
  });

  it("leaves what lies on one shard to PostgreSQL, and who only waits alone", () => {
    expect(findCycle(100, [wait(0, 11, 12), wait(0, 12, 11)], MEMBERS)).toBeNull();
    expect(findCycle(100, [wait(0, 11, 12), wait(1, 21, 22)], MEMBERS)).toBeNull();
    // A circle of others, into which this one runs.
    const others = [wait(0, 11, 12), wait(0, 12, 40), wait(0, 40, 12)];
    expect(findCycle(100, others, MEMBERS)).toBeNull();
  });

  it("is no ghost only when the same waits go on", () => {
    const cycle = findCycle(100, [wait(0, 11, 12), wait(1, 22, 21)], MEMBERS);
    if (!cycle) throw new Error("no cycle");
    expect(stillWaits(cycle, [wait(1, 22, 21), wait(0, 11, 12), wait(0, 50, 51)])).toBe(true);
    expect(stillWaits(cycle, [wait(0, 11, 12), wait(1, 22, 21, "2")])).toBe(false);
    expect(stillWaits(cycle, [wait(0, 11, 12)])).toBe(false);
  });
});
