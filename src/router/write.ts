import type { DeleteStmt, UpdateStmt } from "libpg-query";
import { lastName } from "../sql/ast.js";
import { type Analysis, onShards, type Plan, placed } from "./analysis.js";
import { moveRowPlan } from "./move-row.js";
import { omnishardedDelete, omnishardedUpdate } from "./omnisharded.js";
import { Refusal, refused } from "./refusal.js";
import type { Block } from "./scope.js";
import { addDelete, addUpdate, type WriteTarget } from "./write-scope.js";

export function updatePlan(analysis: Analysis, update: UpdateStmt): Plan {
  const target = addUpdate(analysis.scope, update, null);
  const { ref, block, assignedKey } = target;
  const rule = ref.table?.rule;
  if (!ref.isSharded) return omnishardedUpdate(analysis, update, target);
  if (assignedKey === null || !rule) return writePlan(analysis, target);
  switch (analysis.catalog.database.shardKeyUpdates) {
    case "error":
      throw new Refusal("keyUpdate", rule.column);
    case "ignore":
      return writePlan(analysis, target);
    case "rewrite":
      return moveRowPlan(analysis, update, { ref, block, assignedKey });
  }
}

export function deletePlan(analysis: Analysis, statement: DeleteStmt): Plan {
  const target = addDelete(analysis.scope, statement, null);
  return target.ref.isSharded
    ? writePlan(analysis, target)
    : omnishardedDelete(analysis, statement, target);
}

function writePlan(analysis: Analysis, { block }: WriteTarget): Plan {
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
