import { expect, test } from "vitest";
import { ByteCache } from "../../../src/core/byte-cache.js";

test("what is kept is within the bytes; the longest unused goes first", () => {
  const gone: string[] = [];
  const cache = new ByteCache<string, string>(100, (value) => gone.push(value));
  cache.set("a", "a", 40);
  cache.set("b", "b", 40);
  expect(cache.get("a")).toBe("a");
  cache.set("c", "c", 40);
  expect(gone).toEqual(["b"]);
  expect(cache.bytes).toBe(80);
  cache.set("a", "A", 10);
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual(["A", undefined, "c"]);
  expect(cache.bytes).toBe(50);
});

test("what is larger than all of it is not kept", () => {
  const gone: string[] = [];
  const cache = new ByteCache<string, string>(100, (value) => gone.push(value));
  cache.set("a", "a", 10);
  cache.set("b", "b", 101);
  expect(gone).toEqual(["b"]);
  expect([cache.get("a"), cache.bytes, cache.size]).toEqual(["a", 10, 1]);
});
