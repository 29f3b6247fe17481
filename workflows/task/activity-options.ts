import {
  ActivityCancellationType,
  type ActivityOptions,
  proxyActivities,
} from "@temporalio/workflow";
import type { Activities, ActivityStep } from "../../src/resharding/model/steps.js";
import { queues } from "../../src/resharding/model/tasks.js";

/** What differs from call to call of one step. */
export interface ActivityCall {
  /** A sentence with subject and object for the UI: "copy public.orders range 12/64". */
  readonly summary: string;
  /** Queue of the one node that is meant; only steps of queue "node" have it. */
  readonly node?: { readonly nodeId: string; readonly incarnation: string };
  readonly pauseCapMs?: number;
}

/**
 * The step's activity with the options of its declaration. The only place that proxies activities: an
 * activity with options of its own would sooner or later lack one.
 */
export function activityOf(step: ActivityStep, call: ActivityCall) {
  return proxyActivities<Activities>(optionsOf(step, call))[step.activity];
}

/** The declared limits as Temporal's options. @throws TypeError without the node of a step that needs one */
export function optionsOf(step: ActivityStep, call: ActivityCall): ActivityOptions {
  return {
    taskQueue: queueOf(step, call),
    summary: call.summary,
    startToCloseTimeout: step.startToCloseMs + (step.addPauseCap ? (call.pauseCapMs ?? 0) : 0),
    // A dead process is noticed after this long. Not a lease: two attempts may overlap (R42).
    ...(step.heartbeatMs === null ? {} : { heartbeatTimeout: step.heartbeatMs }),
    // Only where waiting for a poller is worse than going without.
    ...(step.scheduleToStartMs === null ? {} : { scheduleToStartTimeout: step.scheduleToStartMs }),
    // The SDK's real default is TRY_CANCEL: compensation would run beside the work that it undoes.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    // Which failures are repeated is decided where they happen (activities/failure.ts), not by name lists.
    retry: {
      initialInterval: 500,
      backoffCoefficient: 2,
      maximumInterval: step.longestRetryMs,
      ...(step.attempts === null ? {} : { maximumAttempts: step.attempts }),
    },
  };
}

function queueOf({ queue, activity }: ActivityStep, call: ActivityCall): string {
  switch (queue) {
    case "light":
      return queues.light;
    case "move":
      return queues.move;
    case "node":
      if (call.node === undefined) throw new TypeError(`${activity} needs the node that it is for`);
      return queues.node(call.node);
  }
}
