import type { Node } from "libpg-query";
import { tagged } from "../sql/ast.js";
import { FIRST_SHARD } from "../topology/topology.js";
import { ANY, type Analysis, everywhere, type Plan } from "./analysis.js";
import { copyPlan } from "./copy.js";
import { insertPlan } from "./insert.js";
import {
  alterTablePlan,
  derivedTablePlan,
  guardedTablePlan,
  guardedTriggerPlan,
} from "./omnisharded-definition.js";
import { placedAttachPlan, placedTablePlan } from "./placement-definition.js";
import { Refusal, refused } from "./refusal.js";
import type { Route } from "./route.js";
import { selectPlan } from "./select.js";
import { uniqueNotice } from "./unique-notice.js";
import { deletePlan, updatePlan } from "./write.js";

/** Statements of the session, which settles them itself; and what any server answers alike. */
const SESSION = new Set([
  "TransactionStmt",
  "VariableSetStmt",
  "VariableShowStmt",
  "DeallocateStmt",
  "DiscardStmt",
  "FetchStmt",
  "ClosePortalStmt",
  "ConstraintsSetStmt",
]);

/** In no transaction of ours: cannot run in one, or need the client's. Nothing of the application's data changes. */
const OUTSIDE_TRANSACTIONS = new Set([
  "VacuumStmt",
  "ClusterStmt",
  "CheckPointStmt",
  "ReindexStmt",
  // Refused by itself: nobody would hold the lock.
  "LockStmt",
]);

/** One server's, or a whole cluster's. */
const UNSUPPORTED: ReadonlyMap<string, string> = new Map([
  ["CreatedbStmt", "CREATE DATABASE"],
  ["DropdbStmt", "DROP DATABASE"],
  ["AlterSystemStmt", "ALTER SYSTEM"],
  ["CreateTableSpaceStmt", "CREATE TABLESPACE"],
  ["DropTableSpaceStmt", "DROP TABLESPACE"],
  ["MergeStmt", "MERGE"],
  ["LoadStmt", "LOAD"],
]);

/**
 * The plan of one statement.
 * @throws Refusal for what is refused whatever its values
 */
export function planOf(analysis: Analysis, node: Node): Plan {
  if ("SelectStmt" in node) return selectPlan(analysis, node.SelectStmt);
  if ("InsertStmt" in node) return insertPlan(analysis, node.InsertStmt);
  if ("UpdateStmt" in node) return updatePlan(analysis, node.UpdateStmt);
  if ("DeleteStmt" in node) return deletePlan(analysis, node.DeleteStmt);
  if ("CopyStmt" in node) return copyPlan(analysis, node.CopyStmt);
  // Their constants are names, types and texts, none of them a key.
  analysis.reader.pinAll();
  if ("ExplainStmt" in node) return explainPlan(analysis, node.ExplainStmt.query);
  if ("DeclareCursorStmt" in node) return cursorPlan(analysis, node.DeclareCursorStmt.query);
  return utilityPlan(analysis, node);
}

function utilityPlan(analysis: Analysis, node: Node): Plan {
  if ("CreateTableAsStmt" in node) return derivedTablePlan(analysis, node.CreateTableAsStmt);
  const special = specialDefinition(analysis, node);
  if (special !== null) return special;
  const tag = tagged(node)?.[0] ?? "";
  if (SESSION.has(tag)) return () => ANY;
  const name = UNSUPPORTED.get(tag);
  if (name !== undefined) throw new Refusal("unsupported", name);
  if (OUTSIDE_TRANSACTIONS.has(tag)) return () => everywhere(false);
  switch (tag) {
    case "ListenStmt":
    case "UnlistenStmt":
    case "NotifyStmt":
      return () => ({ kind: "one", shard: FIRST_SHARD, isWrite: tag === "NotifyStmt" });
    case "PrepareStmt":
      throw new Refusal("sqlPrepare", "PREPARE");
    case "ExecuteStmt":
      throw new Refusal("sqlPrepare", "EXECUTE");
    case "DoStmt":
      throw new Refusal("procedural", "DO");
    case "CallStmt":
      throw new Refusal("procedural", "CALL");
    case "RefreshMatViewStmt":
      return () => everywhere(true);
    default:
      return definitionPlan(analysis, node, tag);
  }
}

/** null: it does the same on every shard as it stands. */
function specialDefinition(analysis: Analysis, node: Node): Plan | null {
  if ("AlterTableStmt" in node) {
    const { AlterTableStmt: alter } = node;
    return alterTablePlan(analysis, alter) ?? placedAttachPlan(analysis, alter);
  }
  if ("CreateStmt" in node) {
    const { CreateStmt: create } = node;
    const notice = uniqueNotice(analysis, node);
    return guardedTablePlan(analysis, create) ?? placedTablePlan(analysis, create, notice);
  }
  return "CreateTrigStmt" in node ? guardedTriggerPlan(analysis) : null;
}

/** DDL, grants, TRUNCATE, LOCK: the same on every shard. */
function definitionPlan(analysis: Analysis, node: Node, tag: string): Plan {
  const isConcurrent =
    ("IndexStmt" in node && node.IndexStmt.concurrent === true) ||
    ("DropStmt" in node && node.DropStmt.concurrent === true);
  const isDefinition =
    /^(Create|Alter|Drop|Define|Comment|Grant|Rename|Index|Rule|View|Truncate|Lock|SecLabel|Reassign|Composite|Import|Sec)/.test(
      tag,
    );
  if (!isDefinition) throw new Refusal("unsupported", tag.replace(/Stmt$/, ""));
  const notice = uniqueNotice(analysis, node);
  const route: Route = { ...everywhere(!isConcurrent), ...(notice && { notice }) };
  return () => route;
}

function explainPlan(analysis: Analysis, query: Node | undefined): Plan {
  if (query === undefined) throw new Refusal("explain");
  const plan = planOf(analysis, query);
  return (values) => {
    const route = plan(values);
    switch (route.kind) {
      case "one":
      case "any":
      case "refused":
        return route;
      case "many":
        // One plan for all would hide the shard where it is another.
        return { ...everywhere(route.isWrite), shards: route.shards, rows: "merged" };
      default:
        return refused("explain");
    }
  };
}

function cursorPlan(analysis: Analysis, query: Node | undefined): Plan {
  if (query === undefined) throw new Refusal("cursor");
  const plan = planOf(analysis, query);
  return (values) => {
    const route = plan(values);
    return route.kind === "many" ? refused("cursor") : route;
  };
}
