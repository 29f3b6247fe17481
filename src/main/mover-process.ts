import { createMoveActivities } from "../../activities/move.js";
import { queues } from "../resharding/model/tasks.js";
import { runWorkerProcess } from "./processes/worker-host.js";

/**
 * Streams never end, so they must not use up the slots of copies and of verification. Copies at once are
 * bounded by the workflow (`resharding_parallel_copies`), not here.
 */
const MOVES_AT_ONCE = 64;

/** Entry point: schema, copy, streams and verification. May be killed at any time. */
runWorkerProcess("mover", (host) => [
  {
    taskQueue: queues.move,
    activities: createMoveActivities(host.deps),
    workflowBundle: null,
    activitiesAtOnce: MOVES_AT_ONCE,
  },
]);
