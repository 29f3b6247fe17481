import { describe, expect, test } from "vitest";
import { PreparedStatements } from "../../../src/proxy/execution/prepared-statements.js";
import { StatementCache } from "../../../src/sql/statement-cache.js";
import { decodeParse, encodeParseSql } from "../../../src/wire/frontend.js";

const MB = 1024 * 1024;
describe("whatever clients write, caches stay within their bytes", () => {
  test("statements that are remembered", () => {
    const cache = new StatementCache(() => ({ value: {}, pinned: [] }), MB);
    for (let index = 0; index < 500; index++) {
      cache.get(`SELECT ${"x".repeat(2_000)}${index}`);
      cache.get(`SELECT ${"y".repeat(2_000)}${index} WHERE a = 1`);
      expect(cache.bytes).toBeLessThanOrEqual(MB);
    }
  });

  test("prepared statements that nobody has", () => {
    const registry = new PreparedStatements();
    const find = (index: number) =>
      registry.find(
        decodeParse(encodeParseSql("s", `SELECT '${"x".repeat(100_000)}', ${index}`, [])),
        "",
      );
    const first = find(0);
    const kept = find(1);
    registry.take(kept);
    for (let index = 2; index < 200; index++) find(index);
    // 16 MB are some 40 of these: the first is not found any more, one that is in use is.
    expect(find(0).name).not.toBe(first.name);
    expect(find(1).name).toBe(kept.name);
    expect(find(199).name).toBe(find(199).name);
  });
});
