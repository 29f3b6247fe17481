import { Context } from "@temporalio/activity";
import { abortMigration } from "../src/resharding/ends/abort-step.js";
import { beginMigration } from "../src/resharding/ends/begin-step.js";
import { finalizeMigration } from "../src/resharding/ends/finalize-step.js";
import type { LightActivities } from "../src/resharding/model/activities.js";
import type { TaskPolicy } from "../src/resharding/model/tasks.js";
import { preflight } from "../src/resharding/preflight/preflight-step.js";
import { createStream } from "../src/resharding/stream/create-stream-step.js";
import { dropStream } from "../src/resharding/stream/drop-stream-step.js";
import { awaitStandby, streamStatus } from "../src/resharding/stream/stream-status.js";
import { installGates } from "../src/resharding/switch/install-gates-step.js";
import { listNodes } from "../src/resharding/switch/nodes.js";
import { prepareDecision } from "../src/resharding/switch/prepare-decision-step.js";
import { awaitReadiness } from "../src/resharding/switch/readiness-step.js";
import { resolve } from "../src/resharding/switch/resolve-step.js";
import { advanceSequences } from "../src/resharding/switch/sequences.js";
import { switchTraffic } from "../src/resharding/switch/switch-step.js";
import { type ActivityDeps, activityOf } from "./context.js";

export interface LightDeps extends ActivityDeps {
  /** The same integer for the same request id. */
  readonly allocateTaskId: (requestId: string) => Promise<number>;
  readonly taskPolicy: () => TaskPolicy;
}

/**
 * Activities of the control process: short ones, and the switch. Second runs are the steps' own care; each
 * says in its docstring why one is harmless.
 */
export function createLightActivities(deps: LightDeps): LightActivities {
  return {
    allocateTaskId: activityOf(deps, () => deps.allocateTaskId(requestIdOfThisActivity())),
    readPolicy: activityOf(deps, async () => deps.taskPolicy()),
    preflight: activityOf(deps, preflight),
    beginMigration: activityOf(deps, beginMigration),
    createStream: activityOf(deps, createStream),
    dropStream: activityOf(deps, dropStream),
    installGates: activityOf(deps, installGates),
    streamStatus: activityOf(deps, streamStatus),
    awaitStandby: activityOf(deps, awaitStandby),
    readiness: activityOf(deps, awaitReadiness),
    prepareDecision: activityOf(deps, prepareDecision),
    listNodes: activityOf(deps, listNodes),
    advanceSequences: activityOf(deps, advanceSequences),
    switchTraffic: activityOf(deps, switchTraffic),
    // The workflow calls it when its switch activity has ended, or will find its token rotated.
    resolve: activityOf(deps, (context, input: Parameters<LightActivities["resolve"]>[0]) =>
      resolve(context, { ...input, as: "coordinator" }),
    ),
    abortMigration: activityOf(deps, abortMigration),
    finalizeMigration: activityOf(deps, finalizeMigration),
  };
}

/** One per scheduled activity, over its attempts: a second attempt gets the first one's id. */
function requestIdOfThisActivity(): string {
  const { workflowExecution, activityId } = Context.current().info;
  return `${workflowExecution?.runId ?? ""}/${activityId}`;
}
