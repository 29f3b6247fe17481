import { Context } from "@temporalio/activity";
import { abortMigration } from "../src/resharding/ends/abort-step.js";
import { beginMigration } from "../src/resharding/ends/begin-step.js";
import { finalizeMigration } from "../src/resharding/ends/finalize-step.js";
import type { LightActivities } from "../src/resharding/model/activities.js";
import type { TaskPolicy } from "../src/resharding/model/policy.js";
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
import { type ActivityDeps, activityOf, type StepsOf } from "./activity.js";

export interface LightDeps extends ActivityDeps {
  /** The same integer for the same request id. */
  readonly allocateTaskId: (requestId: string) => Promise<number>;
  readonly taskPolicy: () => TaskPolicy;
}

/** What the activities of the control process do; each step's docstring says why a second run is harmless. */
export function lightSteps(deps: LightDeps): StepsOf<LightActivities> {
  return {
    allocateTaskId: () => deps.allocateTaskId(requestIdOfThisActivity()),
    readPolicy: async () => deps.taskPolicy(),
    preflight,
    beginMigration,
    createStream,
    dropStream,
    installGates,
    streamStatus,
    awaitStandby,
    readiness: awaitReadiness,
    prepareDecision,
    listNodes,
    advanceSequences,
    switchTraffic,
    // The workflow calls it when its switch activity has ended, or will find its token rotated.
    resolve: (context, input) => resolve(context, { ...input, as: "coordinator" }),
    abortMigration,
    finalizeMigration,
  };
}

/** Activities of the control process: short ones, and the switch. */
export function createLightActivities(deps: LightDeps): LightActivities {
  const steps = lightSteps(deps);
  return {
    allocateTaskId: activityOf(deps, steps.allocateTaskId),
    readPolicy: activityOf(deps, steps.readPolicy),
    preflight: activityOf(deps, steps.preflight),
    beginMigration: activityOf(deps, steps.beginMigration),
    createStream: activityOf(deps, steps.createStream),
    dropStream: activityOf(deps, steps.dropStream),
    installGates: activityOf(deps, steps.installGates),
    streamStatus: activityOf(deps, steps.streamStatus),
    awaitStandby: activityOf(deps, steps.awaitStandby),
    readiness: activityOf(deps, steps.readiness),
    prepareDecision: activityOf(deps, steps.prepareDecision),
    listNodes: activityOf(deps, steps.listNodes),
    advanceSequences: activityOf(deps, steps.advanceSequences),
    switchTraffic: activityOf(deps, steps.switchTraffic),
    resolve: activityOf(deps, steps.resolve),
    abortMigration: activityOf(deps, steps.abortMigration),
    finalizeMigration: activityOf(deps, steps.finalizeMigration),
  };
}

/** One per scheduled activity, over its attempts: a second attempt gets the first one's id. */
function requestIdOfThisActivity(): string {
  const { workflowExecution, activityId } = Context.current().info;
  return `${workflowExecution?.runId ?? ""}/${activityId}`;
}
