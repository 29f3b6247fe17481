import {
  allHandlersFinished,
  condition,
  continueAsNew,
  setHandler,
  workflowInfo,
} from "@temporalio/workflow";
import { allocateUpdate } from "./messages.js";

/**
 * Hands out task ids: integers from 0 upwards, over all nodes and restarts. One workflow with a fixed id, so
 * Temporal serializes it; a repeated request carries the same update id and gets the same answer.
 * Updates are remembered per run: repeats are minutes apart at most, continue-as-new months.
 */
export async function taskCounter(next: number): Promise<never> {
  let nextId = next;
  setHandler(allocateUpdate, () => {
    const id = nextId;
    nextId += 1;
    return id;
  });
  await condition(() => workflowInfo().continueAsNewSuggested);
  await condition(allHandlersFinished);
  return continueAsNew<typeof taskCounter>(nextId);
}
