import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Fold } from "../../../src/replication/apply/fold.js";
import {
  columnText,
  encodeTuple,
  fillUnchanged,
  tupleTexts,
} from "../../../src/replication/tuple.js";

const row = (key: string, v: string | undefined, w?: string) => encodeTuple([key, v, w]);

describe("a fold", () => {
  it("has the same effect as the changes one by one, for every valid history", () => {
    const operation = fc.record({ key: fc.nat(3), value: fc.nat(99), dice: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(fc.nat(3)), fc.array(operation), (initial, operations) => {
        const before = new Map(initial.map((key) => [String(key), "0"]));
        const oneByOne = new Map(before);
        const fold = new Fold({ isKeyOnly: false });
        for (const { key, value, dice } of operations) {
          const name = String(key);
          const next = row(name, String(value), "w");
          if (!oneByOne.has(name)) {
            expect(fold.insert(name, next)).toBe(true);
            oneByOne.set(name, String(value));
          } else if (dice < 6) {
            expect(fold.update(name, row(name, undefined, undefined), next)).toBe(true);
            oneByOne.set(name, String(value));
          } else {
            expect(fold.delete(name, row(name, undefined, undefined))).toBe(true);
            oneByOne.delete(name);
          }
        }
        const folded = new Map(before);
        for (const change of fold.values()) {
          if (change.kind === "lost" || change.kind === "replace") throw new Error(change.kind);
          const tuple = change.kind === "delete" ? change.match : change.row;
          const key = columnText(tuple, 0) ?? "";
          expect(folded.has(key)).toBe(change.kind !== "insert");
          if (change.kind === "delete") folded.delete(key);
          else folded.set(key, columnText(change.row, 1) ?? "");
        }
        expect(folded).toEqual(oneByOne);
      }),
    );
  });

  it("R17: refuses what contradicts itself", () => {
    const fold = new Fold({ isKeyOnly: false });
    fold.insert("1", row("1", "a"));
    expect(fold.insert("1", row("1", "b"))).toBe(false);
    fold.delete("2", row("2", "a"));
    expect(fold.delete("2", row("2", "a"))).toBe(false);
    expect(fold.update("2", row("2", "a"), row("2", "b"))).toBe(false);
  });

  it("R12: takes what an update did not carry from an earlier change of the batch", () => {
    const fold = new Fold({ isKeyOnly: false });
    fold.insert("1", encodeTuple(["1", "a", "large"]));
    fold.update("1", row("1", undefined), encodeTuple(["1", "b", undefined]));
    const [change] = [...fold.values()];
    expect(change?.kind === "insert" && tupleTexts(change.row)).toEqual(["1", "b", "large"]);
  });

  it("keeps the row as it was before the batch as what is matched", () => {
    const fold = new Fold({ isKeyOnly: false });
    fold.delete("1", encodeTuple(["1", "shard a"]));
    fold.insert("1", encodeTuple(["1", "shard b"]));
    fold.update("1", encodeTuple(["1", "shard b"]), encodeTuple(["1", "shard c"]));
    const [change] = [...fold.values()];
    expect(change?.kind === "update" && tupleTexts(change.match)).toEqual(["1", "shard a"]);
  });
});

describe("an old tuple of key columns", () => {
  it("R12: does not fill unchanged TOAST with its NULLs", () => {
    const newer = encodeTuple([undefined, "v", undefined]);
    const keysOnly = encodeTuple(["1", null, null]);
    expect(tupleTexts(fillUnchanged(newer, keysOnly, (column) => column === 0))).toEqual([
      "1",
      "v",
      undefined,
    ]);
  });
});
