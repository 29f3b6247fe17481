import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadModule, type Node, parseSync, type RangeVar } from "libpg-query";
import { afterAll, beforeAll, expect, test } from "vitest";
import { splitDump } from "../../../src/resharding/schema/dump-text.js";
import { dumpSchema } from "../../../src/resharding/schema/pg-dump.js";
import { planStatements, type SchemaObject } from "../../../src/resharding/schema/statement.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

/**
 * How a dump is taken apart and what its statements make, against PostgreSQL's own parser: it is the judge
 * here and not in the product, where it would read a large dump in one go and hold its whole tree.
 */
const RICH = readFileSync(new URL("../../support/rich-schema.sql", import.meta.url), "utf8");
let server: PostgresServer;
let dump: string;

beforeAll(async () => {
  await loadModule();
  server = await startPostgres();
  await server.createDatabase("rich");
  await server.sql("rich", RICH);
  const signal = AbortSignal.timeout(60_000);
  dump = await dumpSchema(join(server.binDir, "pg_dump"), server.address("rich"), signal);
}, 240_000);
afterAll(async () => await server[Symbol.asyncDispose]());

test("a dump is split where the parser splits it", () => {
  const sql = Buffer.from(dump.replaceAll(/^\\(?:un)?restrict .*$/gm, ""));
  const theirs = (parseSync(sql.toString()).stmts ?? []).map((raw) => {
    const from = raw.stmt_location ?? 0;
    const text = sql.subarray(from, from + (raw.stmt_len ?? sql.length - from)).toString();
    // The parser counts what stands before a statement to it.
    return text.replace(/^(?:\s|--.*\n)+/, "").trimEnd();
  });
  expect(theirs.length).toBeGreaterThan(100);
  expect(splitDump(dump).map((piece) => piece.sql)).toEqual(theirs);
});

test("what a statement makes has the name that the parser gives it", () => {
  const named = planStatements(dump).flatMap(({ sql, object }) => {
    const theirs = madeBy(parseSync(sql).stmts?.[0]?.stmt);
    return theirs === null ? [] : [{ sql, ours: object, theirs }];
  });
  expect(new Set(named.map(({ theirs }) => theirs.kind))).toEqual(
    new Set(["relation", "type", "index", "constraint", "trigger", "identity", "attachment"]),
  );
  for (const { sql, ours, theirs } of named) expect([sql, ours]).toEqual([sql, theirs]);
});

/** null: nothing that we look for by its name. */
function madeBy(node: Node | undefined): SchemaObject | null {
  if (!node) return null;
  if ("CreateStmt" in node) return relation(node.CreateStmt.relation);
  if ("CreateForeignTableStmt" in node) return relation(node.CreateForeignTableStmt.base?.relation);
  if ("CreateSeqStmt" in node) return relation(node.CreateSeqStmt.sequence);
  // One that replaces cannot find that its view is there already.
  if ("ViewStmt" in node) return node.ViewStmt.replace ? null : relation(node.ViewStmt.view);
  if ("CreateTableAsStmt" in node) return relation(node.CreateTableAsStmt.into?.rel);
  if ("CompositeTypeStmt" in node) return type(nameOf(node.CompositeTypeStmt.typevar));
  if ("CreateEnumStmt" in node) return type(listed(node.CreateEnumStmt.typeName));
  if ("CreateRangeStmt" in node) return type(listed(node.CreateRangeStmt.typeName));
  if ("CreateDomainStmt" in node) return type(listed(node.CreateDomainStmt.domainname));
  if ("DefineStmt" in node)
    return node.DefineStmt.kind === "OBJECT_TYPE" ? type(listed(node.DefineStmt.defnames)) : null;
  if ("IndexStmt" in node) {
    const { schema } = nameOf(node.IndexStmt.relation);
    return { kind: "index", name: { schema, name: node.IndexStmt.idxname ?? "" } };
  }
  if ("CreateTrigStmt" in node) {
    const { relation: table, trigname } = node.CreateTrigStmt;
    return { kind: "trigger", table: nameOf(table), name: trigname ?? "" };
  }
  return "AlterTableStmt" in node ? alteredBy(node.AlterTableStmt) : null;
}

function alteredBy(statement: Extract<Node, { AlterTableStmt: unknown }>["AlterTableStmt"]) {
  const [first] = statement.cmds ?? [];
  if (!first || !("AlterTableCmd" in first)) return null;
  const { subtype, def, name } = first.AlterTableCmd;
  const table = nameOf(statement.relation);
  if (subtype === "AT_AddConstraint" && def && "Constraint" in def)
    return { kind: "constraint", table, name: def.Constraint.conname ?? "" } as const;
  if (subtype === "AT_AddIdentity") return { kind: "identity", table, column: name ?? "" } as const;
  if (subtype === "AT_AttachPartition" && def && "PartitionCmd" in def)
    return statement.objtype === "OBJECT_INDEX"
      ? null
      : ({ kind: "attachment", child: nameOf(def.PartitionCmd.name) } as const);
  return null;
}

function relation(range: RangeVar | undefined): SchemaObject {
  return { kind: "relation", name: nameOf(range) };
}

function type(name: { readonly schema: string; readonly name: string }): SchemaObject {
  return { kind: "type", name };
}

function nameOf(range: RangeVar | undefined) {
  return { schema: range?.schemaname ?? "", name: range?.relname ?? "" };
}

function listed(nodes: readonly Node[] | undefined) {
  const [schema = "", name = ""] = (nodes ?? []).map((node) =>
    "String" in node ? (node.String.sval ?? "") : "",
  );
  return { schema, name };
}
