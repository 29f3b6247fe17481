import { describe, expect, it } from "vitest";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatElapsed,
  formatTime,
} from "../../../src/admin/format.js";

describe("text forms of values", () => {
  it.each([
    [0, "00:00:00:000"],
    [61_005, "00:01:01:005"],
    [3_600_000 * 25 + 7, "1d 01:00:00:007"],
    [-5, "00:00:00:000"],
  ])("elapsed %d ms", (ms, text) => expect(formatElapsed(ms)).toBe(text));

  it.each([
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_024, "1.00 KB"],
    [11_972_223_468, "11.15 GB"],
  ])("%d bytes", (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [500, "500ms"],
    [30_000, "30s"],
    [90_000, "90s"],
    [60_000, "1m"],
    [86_400_000, "1d"],
    [0, "0ms"],
  ])("a duration of %d ms", (ms, text) => expect(formatDuration(ms)).toBe(text));

  it("counts are grouped", () => expect(formatCount(1_234_567)).toBe("1,234,567"));

  it("times carry milliseconds and a time zone", () => {
    expect(formatTime(new Date(2026, 10, 2, 3, 4, 5, 6))).toMatch(/^2026-11-02 03:04:05\.006 \S+/);
  });
});
