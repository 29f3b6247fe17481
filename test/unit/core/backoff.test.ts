import { describe, expect, it } from "vitest";
import { nextDelayMs } from "../../../src/core/backoff.js";

const BACKOFF = { firstMs: 50, longestMs: 300, stableMs: 1_000 };

describe("the delay before a restart", () => {
  it.each([
    ["the first end", null, 0, 50],
    ["a second early end", 50, 10, 100],
    ["a third", 100, 10, 200],
    ["never more than the longest", 200, 10, 300],
    ["at the longest", 300, 10, 300],
    ["exactly at the bound it was not stable yet", 300, 1_000, 300],
    ["after it was stable", 300, 1_001, 50],
  ])("%s", (_, previousMs, livedMs, expected) => {
    expect(nextDelayMs(previousMs, livedMs, BACKOFF)).toBe(expected);
  });
});
