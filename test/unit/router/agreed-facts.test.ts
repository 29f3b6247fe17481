import { beforeAll, expect, test } from "vitest";
import { agreedFacts } from "../../../src/router/agreed-facts.js";
import { REFUSALS } from "../../../src/router/refusal.js";
import { createRouter } from "../../../src/router/router.js";
import {
  type SchemaFactsLists,
  schemaFacts,
  type TableFacts,
} from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

/** The shop's, with one table as another shard has it. */
function lists(name?: string, change?: (facts: TableFacts) => TableFacts): SchemaFactsLists {
  const tables = [...SHOP_FACTS.tables.values()].flat();
  return {
    ...SHOP_FACTS,
    tables: tables.map((facts) => (facts.name === name && change ? change(facts) : facts)),
    functions: [...SHOP_FACTS.functions.values()],
    enums: Object.fromEntries(SHOP_FACTS.enums),
  };
}

const table = (found: SchemaFactsLists, name: string) =>
  found.tables.find((one) => one.name === name);

test("shards that are alike are as one", () => {
  const found = agreedFacts([lists(), lists(), lists()]);
  expect([found.unlike, found.lists.tables]).toEqual([[], lists().tables]);
});

test("a foreign key or unique key that one shard lacks puts no rows together", () => {
  const bare = (facts: TableFacts) => ({ ...facts, foreignKeys: [], uniqueKeys: [] });
  for (const shards of [
    [lists(), lists("tasks", bare)],
    [lists("tasks", bare), lists()],
  ]) {
    const found = agreedFacts(shards);
    expect(found.unlike).toEqual(["public.tasks"]);
    expect(table(found.lists, "tasks")).toMatchObject({ foreignKeys: [], uniqueKeys: [] });
  }
  const join = "SELECT * FROM tasks t JOIN projects p ON p.id = t.project_id";
  const routeBy = (shards: readonly SchemaFactsLists[]) =>
    createRouter(shop(), schemaFacts(agreedFacts(shards).lists)).route(join, null).kind;
  expect(routeBy([lists(), lists()])).toBe("many");
  expect(routeBy([lists(), lists("tasks", bare)])).toBe("refused");
});

test("a view of something else on another shard is refused by name", () => {
  const other = (facts: TableFacts): TableFacts => ({
    ...facts,
    view: facts.view && { ...facts.view, sql: "SELECT 1" },
  });
  const { lists: found } = agreedFacts([lists(), lists("order_view", other)]);
  const route = createRouter(shop(), schemaFacts(found)).route("SELECT * FROM order_view", null);
  expect(route).toMatchObject({ kind: "refused", hint: REFUSALS.unlikeShards.hint });
});

test("columns of another order or default: the first shard's order, and no default is relied upon", () => {
  const turned = (facts: TableFacts): TableFacts => ({
    ...facts,
    columns: facts.columns.toReversed().map((column) => ({ ...column, defaultSql: "1" })),
  });
  const { lists: found, unlike } = agreedFacts([lists(), lists("plans", turned)]);
  expect(unlike).toEqual(["public.plans"]);
  const [before, after] = [table(lists(), "plans"), table(found, "plans")];
  expect(after?.columns.map(({ name }) => name)).toEqual(before?.columns.map(({ name }) => name));
  expect(after?.columns.every(({ hasOtherDefault }) => hasOtherDefault)).toBe(true);
});

test("a function is what it is at its worst, and one that a shard lacks is not known", () => {
  const [first] = lists().functions;
  if (first === undefined) throw new Error("no functions");
  const volatile = { ...lists(), functions: [{ ...first, volatility: "volatile" as const }] };
  const found = agreedFacts([lists(), volatile]).lists.functions;
  expect(found).toEqual([{ ...first, volatility: "volatile" }]);
});
