import type { ArmOrder, NodeActivities } from "../src/resharding/model/activities.js";
import { type ActivityDeps, activityOf } from "./activity.js";

export interface NodeDeps extends ActivityDeps {
  /** Tells the node's agent, in another process, and returns when it has armed. */
  readonly arm: NodeActivities["armNode"];
}

/** Activities of one node, on a queue that its incarnation alone polls. */
export function createNodeActivities(deps: NodeDeps): NodeActivities {
  return {
    /** Second run: an armed node arms again, which only lengthens the arming. */
    armNode: activityOf(deps, (_context, order: ArmOrder) => deps.arm(order)),
  };
}
