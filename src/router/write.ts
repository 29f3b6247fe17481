import type { DeleteStmt, UpdateStmt } from "libpg-query";
import { lastName } from "../sql/ast.js";
import { type Analysis, everywhere, onShards, type Plan, placed } from "./analysis.js";
import type { Block } from "./block.js";
import { moveRowPlan } from "./move-row.js";
import type { WriteTarget } from "./query.js";
import { Refusal, refused } from "./refusal.js";
import { refuseUnsteady } from "./steadiness.js";
import { addDelete, addUpdate } from "./write-scope.js";

export function updatePlan(analysis: Analysis, update: UpdateStmt): Plan {
  const target = addUpdate(analysis.scope, update, null);
  const { ref, name, assignedKey } = target;
  const rule = ref.table?.rule;
  if (assignedKey === null || !rule) return writePlan(analysis, target);
  switch (analysis.catalog.database.shardKeyUpdates) {
    case "error":
      throw new Refusal("keyUpdate", rule.column);
    case "ignore":
      return writePlan(analysis, target);
    case "rewrite":
      if (name !== ref) throw new Refusal("keyUpdateShape", "a view");
      return moveRowPlan(analysis, update, { ...target, assignedKey });
  }
}

export function deletePlan(analysis: Analysis, statement: DeleteStmt): Plan {
  return writePlan(analysis, addDelete(analysis.scope, statement, null));
}

function writePlan(analysis: Analysis, { ref, block }: WriteTarget): Plan {
  const { scope } = analysis;
  if (!ref.isSharded) {
    refuseUnsteady(scope, ref.table?.name ?? "");
    return () => everywhere(true);
  }
  const refusal = severalRefusal(analysis, block);
  return placed(analysis, block, {
    isWrite: true,
    several: (_values, shards) => refusal ?? onShards(shards, true),
  });
}

function severalRefusal({ scope }: Analysis, block: Block) {
  if (block.preservesOutside) return refused("outerJoin");
  if (scope.writesInWith) return refused("crossShardSubquery");
  const unknown = scope.calls.find(
    ({ nature }) => nature === "unknown" || nature === "shard0" || nature === "setting",
  );
  return unknown === undefined
    ? null
    : refused("crossShardFunction", lastName(unknown.call.funcname));
}
