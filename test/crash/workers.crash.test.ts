import { expect, test } from "vitest";
import {
  copyData,
  judgeStage,
  say,
  startStage,
  untilCommitted,
  untilReplicating,
  untilReverse,
  untilServed,
} from "./stage.js";

/**
 * SIGKILL of every kind of process at named steps, under load; nobody helps but whoever would restart a machine
 * (a node that was killed whole, and Temporal). Ends with the oracle: nothing lost, nothing doubled, both sides
 * equal.
 */

test("mover, control and Temporal are killed in the middle of the copy and of catch-up", async () => {
  await using stage = await startStage();
  const { points } = stage;
  points.set("copy.betweenCommits");
  const task = await copyData(stage);
  const mover = await points.reached("copy.betweenCommits");
  stage.killAll("control");
  await stage.restartTemporal();
  stage.kill(mover);
  points.letGo("copy.betweenCommits");
  await untilReplicating(stage, task);

  points.set("stream.beforeCommit");
  const applier = await points.reached("stream.beforeCommit");
  stage.kill(applier);
  points.letGo("stream.beforeCommit");
  stage.killAll("control");
  await stage.restartTemporal();
  await untilServed(stage);

  await say(stage, `CUTOVER ${task}`);
  await untilCommitted(stage, 0);
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 240_000);

test("Temporal and the movers are killed right before the decision, and right after the next one", async () => {
  await using stage = await startStage();
  const { points } = stage;
  const task = await copyData(stage);
  await untilReplicating(stage, task);
  points.set("cutover.beforeDecision");
  await say(stage, `CUTOVER ${task}`);
  await points.reached("cutover.beforeDecision");
  await stage.stack.temporal.kill();
  stage.killAll("mover");
  points.letGo("cutover.beforeDecision");
  // Drained before, so it commits without Temporal and without a mover.
  const epoch = await untilCommitted(stage, 0);
  await untilServed(stage);
  await stage.stack.temporal.start();
  const wayBack = await untilReverse(stage, task);

  points.set("cutover.afterDecision");
  await say(stage, `CUTOVER ${wayBack.id}`);
  await points.reached("cutover.afterDecision");
  await stage.stack.temporal.kill();
  stage.killAll("mover");
  points.letGo("cutover.afterDecision");
  await untilCommitted(stage, epoch);
  await untilServed(stage);
  await stage.stack.temporal.start();
  const forward = await untilReverse(stage, wayBack.id);
  await say(stage, `CUTOVER ${forward.id}`);
  await untilCommitted(stage, epoch + 1);
  const last = await untilReverse(stage, forward.id);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, last);
}, 240_000);
