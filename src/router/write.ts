import type { DeleteStmt, UpdateStmt } from "libpg-query";
import { lastName } from "../sql/ast.js";
import { type Analysis, onShards, type Plan, placed } from "./analysis.js";
import type { Block } from "./block.js";
import { assignedKeyPlan, type Move, moveRow } from "./move-row.js";
import { omnishardedDelete, omnishardedUpdate } from "./omnisharded.js";
import type { WriteTarget } from "./query.js";
import { Refusal, refused } from "./refusal.js";
import type { Route } from "./route.js";
import { addDelete, addUpdate } from "./write-scope.js";

export function updatePlan(analysis: Analysis, update: UpdateStmt): Plan {
  const target = addUpdate(analysis.scope, update, null);
  const { ref, name, assignedKey } = target;
  const rule = ref.table?.rule;
  if (!ref.isSharded) return omnishardedUpdate(analysis, update, target);
  if (assignedKey === null || !rule) return writePlan(analysis, target);
  const { shardKeyUpdates } = analysis.catalog.database;
  if (shardKeyUpdates === "ignore") return writePlan(analysis, target);
  if (name !== ref) throw new Refusal("keyUpdateShape", "a view");
  const refusal = severalRefusal(analysis, target.block);
  const move = moveOrRefusal(() => {
    if (shardKeyUpdates === "error") throw new Refusal("keyUpdate", rule.column);
    return moveRow(update, target);
  });
  return assignedKeyPlan(analysis, { ...target, assignedKey }, (values, { shards, to }) => {
    if (refusal !== null) return refusal;
    const route = move(values, { shards, to });
    // Refused only where a row is to be moved indeed: of several shards, once it has been found elsewhere.
    const isOpen = route.kind === "refused" && (shards === "all" || shards.length > 1);
    return isOpen ? { ...onShards(shards, true), home: { shard: to, refusal: route } } : route;
  });
}

function moveOrRefusal(work: () => Move): Move {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { route } = error;
    return () => route;
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

function severalRefusal({ scope }: Analysis, block: Block): Route | null {
  if (block.preservesOutside) return refused("outerJoin");
  if (scope.writesInWith) return refused("crossShardSubquery");
  const unknown = scope.calls.find(
    ({ nature }) => nature === "unknown" || nature === "shard0" || nature === "setting",
  );
  return unknown === undefined
    ? null
    : refused("crossShardFunction", lastName(unknown.call.funcname));
}
