import { expect, test } from "vitest";
import { MIGRATION } from "../support/stack.js";
import {
  judgeStage,
  type Stage,
  say,
  startStage,
  untilCommitted,
  untilReverse,
  untilServed,
  untilTask,
} from "./stage.js";

/**
 * SIGKILL of every kind of process at named steps, under load; nobody helps but whoever would restart a machine
 * (a node that was killed whole, and Temporal). Ends with the oracle: nothing lost, nothing doubled, both sides
 * equal.
 */

const state = async (stage: Stage) => (await stage.admin.run("SHOW CUTOVER"))[0];

async function copyData(stage: Stage): Promise<number> {
  const [started] = await say(stage, `COPY_DATA ${MIGRATION}`);
  return Number(started?.task_id);
}

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
  await untilTask(
    stage,
    "the copy to end",
    (one) => one.id === task && one.innerStatus === "replicating",
  );

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

test("the coordinator is killed right before the decision, and in the next attempt right after it", async () => {
  await using stage = await startStage();
  const { points } = stage;
  const task = await copyData(stage);
  await untilTask(
    stage,
    "the copy to end",
    (one) => one.id === task && one.innerStatus === "replicating",
  );
  points.set("cutover.beforeDecision");
  await say(stage, `CUTOVER ${task}`);
  const before = await points.reached("cutover.beforeDecision");
  expect((await state(stage))?.state).toBe("prepared");
  points.set("cutover.afterDecision");
  stage.kill(before);
  points.letGo("cutover.beforeDecision");

  const after = await points.reached("cutover.afterDecision");
  const rows = await stage.admin.run("SHOW CUTOVER");
  expect(rows.map((row) => row.state)).toEqual(["committed", "aborted"]);
  stage.kill(after);
  points.letGo("cutover.afterDecision");
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  expect(stage.load.report().errors).toEqual([]);
  await judgeStage(stage, wayBack);
}, 240_000);

test("Temporal and the movers are killed right before the decision, and right after the next one", async () => {
  await using stage = await startStage();
  const { points } = stage;
  const task = await copyData(stage);
  await untilTask(
    stage,
    "the copy to end",
    (one) => one.id === task && one.innerStatus === "replicating",
  );
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

test("one node is killed whole in the copy, in catch-up, right before and right after the decision", async () => {
  await using stage = await startStage();
  const { points, stack } = stage;
  const nodeAt = (index: number) => {
    const node = stack.nodes[index];
    if (!node) throw new Error(`no node ${index}`);
    return node;
  };
  points.set("copy.beforeCommit");
  const task = await copyData(stage);
  const copying = stage.nodeOf(await points.reached("copy.beforeCommit"));
  await nodeAt(copying).kill();
  points.letGo("copy.beforeCommit");
  await nodeAt(copying).start();
  await untilTask(
    stage,
    "the copy to end",
    (one) => one.id === task && one.innerStatus === "replicating",
  );

  points.set("stream.beforeCommit");
  const applying = stage.nodeOf(await points.reached("stream.beforeCommit"));
  await nodeAt(applying).kill();
  points.letGo("stream.beforeCommit");
  await nodeAt(applying).start();
  await untilServed(stage);

  points.set("cutover.beforeDecision");
  await say(stage, `CUTOVER ${task}`);
  const coordinating = stage.nodeOf(await points.reached("cutover.beforeDecision"));
  points.set("cutover.afterDecision");
  await nodeAt(coordinating).kill();
  points.letGo("cutover.beforeDecision");
  // The other one reads that the decision has expired, and opens the source again.
  await untilServed(stage);
  await nodeAt(coordinating).start();

  const deciding = stage.nodeOf(await points.reached("cutover.afterDecision"));
  const other = 1 - deciding;
  await nodeAt(other).kill();
  points.letGo("cutover.afterDecision");
  await untilCommitted(stage, 0);
  // R32: its files still name the old side; it must not serve it for a moment.
  await nodeAt(other).start();
  const wayBack = await untilReverse(stage, task);
  await untilServed(stage);
  // Whoever was connected to a killed node was told so; nobody was told anything else.
  for (const error of stage.load.report().errors) expect(error.message).toMatch(CONNECTION_GONE);
  await judgeStage(stage, wayBack);
}, 300_000);

const CONNECTION_GONE =
  /terminated|ECONNREFUSED|ECONNRESET|connection lost|not queryable|Client was closed/i;
