import { expect, test } from "vitest";
import type { Cluster } from "../../../src/resharding/context.js";
import { classify } from "../../../src/resharding/preflight/table-class.js";

const RULE = { name: null, schema: null, column: "tenant_id", dataType: "bigint" } as const;

function cluster(
  shardedTables: Cluster["shardedTables"],
  omnishardedTables: readonly string[] = [],
): Cluster {
  return { name: "db", shards: [], shardedTables, omnishardedTables };
}

function table(name: string, columns: readonly string[], root: string | null = null) {
  return {
    schema: "public",
    name,
    rootSchema: root === null ? null : "public",
    rootName: root,
    columns: columns.map((column) => ({
      name: column,
      type: "bigint",
      typeOid: 20,
      notNull: true,
      isGenerated: false,
      isIdentity: false,
      defaultSql: null,
    })),
  };
}

const BY_TENANT = { kind: "sharded", column: "tenant_id", type: "bigint" };
const OMNISHARDED = { kind: "omnisharded" };

test.each([
  [
    "a rule without a name takes every table with the column",
    cluster([RULE]),
    table("t", ["tenant_id"]),
    BY_TENANT,
  ],
  ["and no other", cluster([RULE]), table("t", ["id"]), OMNISHARDED],
  ["no rule: omnisharded", cluster([]), table("t", ["tenant_id"]), OMNISHARDED],
  [
    "a named rule wins",
    cluster([RULE, { ...RULE, name: "t", column: "id" }]),
    table("t", ["tenant_id", "id"]),
    { ...BY_TENANT, column: "id" },
  ],
  [
    "a named rule counts even without the column",
    cluster([{ ...RULE, name: "t" }]),
    table("t", ["id"]),
    BY_TENANT,
  ],
  [
    "another schema's rule does not",
    cluster([{ ...RULE, name: "t", schema: "other" }]),
    table("t", ["tenant_id"]),
    OMNISHARDED,
  ],
  [
    "a rule for the root holds for its leaves",
    cluster([{ ...RULE, name: "events" }]),
    table("events_1", ["tenant_id"], "events"),
    BY_TENANT,
  ],
  [
    "a listed table is omnisharded in spite of its column",
    cluster([RULE], ["t"]),
    table("t", ["tenant_id"]),
    OMNISHARDED,
  ],
  [
    "also when listed with its schema, or by its root",
    cluster([RULE], ["public.events"]),
    table("events_1", ["tenant_id"], "events"),
    OMNISHARDED,
  ],
  [
    "a named rule is above the list",
    cluster([{ ...RULE, name: "t" }], ["t"]),
    table("t", ["tenant_id"]),
    BY_TENANT,
  ],
])("%s", (_, rules, facts, expected) => {
  expect(classify(rules, facts)).toEqual(expected);
});
