import { expect, test } from "vitest";
import {
  copyData,
  judgeStage,
  type Stage,
  say,
  startStage,
  untilCommitted,
  untilReplicating,
  untilReverse,
  untilServed,
} from "./stage.js";

/**
 * The process that reaches a step is killed there, at every step that announces itself, one after the other in one
 * migration under load; nobody helps. `npm test` kills at the steps that are the hardest, in company.
 */

/** Whoever reaches the step first dies there. */
async function killAt(stage: Stage, step: string): Promise<void> {
  stage.points.set(step);
  const pid = await stage.points.reached(step, 180_000);
  stage.kill(pid);
  stage.points.letGo(step);
}

test("a process dies at every step of the copy and of the stream", async () => {
  await using stage = await startStage();
  stage.points.set("schema.afterStatement");
  const task = await copyData(stage);
  for (const step of [
    "schema.afterStatement",
    "stream.afterPublication",
    "stream.afterSlot",
    "copy.afterSnapshot",
    "copy.beforeCommit",
    "copy.betweenCommits",
    "copy.afterRange",
    "stream.beforeCommit",
    "stream.afterCommit",
  ])
    await killAt(stage, step);
  await untilReplicating(stage, task);
  await say(stage, `CUTOVER ${task}`);
  await untilCommitted(stage, 0);
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 900_000);

test("the coordinator dies at every step before the decision, and each attempt is undone", async () => {
  await using stage = await startStage();
  const task = await copyData(stage);
  await untilReplicating(stage, task);
  await say(stage, `CUTOVER ${task}`);
  for (const step of [
    "cutover.afterPlanned",
    "cutover.afterPrepared",
    "cutover.afterHold",
    "cutover.afterGate",
    "cutover.afterMarker",
    "cutover.beforeDecision",
  ]) {
    await killAt(stage, step);
    await untilServed(stage);
  }
  await untilCommitted(stage, 0);
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 900_000);

test("the coordinator dies at every step after the decision, there and back, and it stands", async () => {
  await using stage = await startStage();
  let task = await copyData(stage);
  await untilReplicating(stage, task);
  let epoch = 0;
  for (const step of [
    "cutover.afterDecision",
    "cutover.afterGatesOpen",
    "cutover.afterOpen",
    "cutover.afterResolve",
  ]) {
    await say(stage, `CUTOVER ${task}`);
    await killAt(stage, step);
    epoch = await untilCommitted(stage, epoch);
    task = (await untilReverse(stage, task)).id;
    await untilServed(stage);
  }
  const wayBack = await untilReverse(stage, task - 1);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 900_000);
