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

const CONNECTION_GONE =
  /terminated|ECONNREFUSED|ECONNRESET|connection lost|not queryable|Client was closed/i;

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
  await untilReplicating(stage, task);

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
