import { expect, test } from "vitest";
import {
  copyData,
  judgeStage,
  say,
  startStage,
  untilReplicating,
  untilReverse,
  untilServed,
} from "./stage.js";

/**
 * SIGKILL of every kind of process at named steps, under load; nobody helps but whoever would restart a machine
 * (a node that was killed whole, and Temporal). Ends with the oracle: nothing lost, nothing doubled, both sides
 * equal.
 */

test("the coordinator is killed right before the decision, and in the next attempt right after it", async () => {
  await using stage = await startStage();
  const { points } = stage;
  const task = await copyData(stage);
  await untilReplicating(stage, task);
  points.set("cutover.beforeDecision");
  await say(stage, `CUTOVER ${task}`);
  const before = await points.reached("cutover.beforeDecision");
  const [latest] = await stage.admin.run("SHOW CUTOVER");
  expect(latest?.state).toBe("prepared");
  points.set("cutover.afterDecision");
  stage.kill(before);
  points.letGo("cutover.beforeDecision");

  const after = await points.reached("cutover.afterDecision");
  // The killed attempt was undone, and perhaps one more on a slow machine; this one is decided.
  const states = (await stage.admin.run("SHOW CUTOVER")).map((row) => row.state);
  expect(states[0]).toBe("committed");
  expect(new Set(states.slice(1))).toEqual(new Set(["aborted"]));
  stage.kill(after);
  points.letGo("cutover.afterDecision");
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 240_000);
