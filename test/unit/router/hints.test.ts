import { beforeAll, describe, expect, test } from "vitest";
import { hintedRouter, hintedShard, hintsOfSettings } from "../../../src/router/hints.js";
import type { Route } from "../../../src/router/route.js";
import { createRouter, type Router } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import type { Database } from "../../../src/topology/topology.js";
import { shop } from "./shop.js";

let two: Database;
let plain: Router;

beforeAll(async () => {
  await loadParser();
  two = shop({ shardCount: 2 });
  plain = createRouter(two);
});

const shown = (found: ReturnType<typeof hintedShard>) =>
  found !== null && typeof found === "object" ? found.sqlState : found;

const settings = (values: Readonly<Record<string, string>>) =>
  hintsOfSettings(new Map(Object.entries(values)));

describe("which shard hints name", () => {
  const CASES: readonly (readonly [string, Readonly<Record<string, string>>, unknown])[] = [
    ["SELECT 1", {}, null],
    ["/* pgdog_shard: 1 */ SELECT 1", {}, 1],
    ["SELECT 1 /* pgdog_shard: 1 */;", {}, 1],
    ["/* trace 7 */ /* pgdog_shard: 1 */ SELECT 1 /* pgdog_shard: 0 */ /* a */", {}, 1],
    ["/* pgdog_shard: 0, pgdog_role: primary */ SELECT 1", { "pgdog.shard": "1" }, 0],
    ["SELECT 1", { "pgdog.shard": "1" }, 1],
    ["SELECT 1", { "pgdog.shard": "" }, null],
    ["SELECT 1 /* about pgdog */", {}, null],
    ["SELECT '/* pgdog_shard: 1 */' AS x", {}, null],
    ["/* pgdog_shard: 2 */ SELECT 1", {}, "58000"],
    ["/* pgdog_shard: one */ SELECT 1", {}, "58000"],
    ["/* pgdog_role: replica */ SELECT 1", {}, "58000"],
    ["/* pgdog_shards: 1 */ SELECT 1", {}, "58000"],
    ["SELECT 1", { "pgdog.nonsense": "1" }, "58000"],
    ["SELECT 1", { "pgdog.role": "replica" }, "58000"],
  ];
  test.each(CASES)("%s with %j: %s", (sql, values, expected) => {
    expect(shown(hintedShard(sql, settings(values), two))).toBe(expected);
  });

  test("a key by the one function of the database, before a number", () => {
    const rules = two.shardedTables.filter(({ dataType }) => dataType === "bigint");
    const one = { shardCount: 2, shardedTables: rules };
    const of = (sql: string) => shown(hintedShard(sql, hintsOfSettings(new Map()), one));
    expect(of("/* pgdog_sharding_key: 1 */ SELECT 1")).toBe(0);
    expect(of("/* pgdog_shard: 0 pgdog_sharding_key: '3' */ SELECT 1")).toBe(1);
    expect(of("/* pgdog_sharding_key: x */ SELECT 1")).toBe("58000");
    const [rule] = rules;
    const mixed = [...rules, ...(rule ? [{ ...rule, dataType: "uuid" as const }] : [])];
    const found = hintedShard("/* pgdog_sharding_key: 1 */ SELECT 1", hintsOfSettings(new Map()), {
      ...{ shardCount: 2, shardedTables: mixed },
    });
    expect(shown(found)).toBe("58000");
  });
});

describe("what becomes of a route", () => {
  const directed = (sql: string, route: Route) => {
    const router: Router = { ...plain, route: () => route };
    const found = hintedRouter(router, settings({ "pgdog.shard": "1" }), two).route(sql, null);
    return found.kind === "refused" ? found.sqlState : found;
  };

  test("reads and writes by no key go there; what belongs elsewhere is refused", () => {
    const any: Route = { kind: "any" };
    expect(directed("SELECT 1", any)).toEqual({ kind: "one", shard: 1, isWrite: false });
    expect(directed("SELECT 1", { kind: "one", shard: 0 as never, isWrite: true })).toBe("58000");
    expect(directed("INSERT INTO t VALUES (1), (2)", { kind: "split", parts: [] })).toBe("58000");
    const refused: Route = {
      ...{ kind: "refused", sqlState: "0A000" as never, reason: "", hint: "" },
    };
    expect(directed("SELECT f()", refused)).toMatchObject({ kind: "one", shard: 1 });
    expect(directed("WITH x AS (INSERT INTO t SELECT 1) SELECT 1", refused)).toBe("0A000");
    expect(directed("INSERT INTO t (a) VALUES (1)", refused)).toBe("0A000");
  });
});
