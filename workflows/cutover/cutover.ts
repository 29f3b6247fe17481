import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import {
  CancellationScope,
  ChildWorkflowCancellationType,
  getExternalWorkflowHandle,
  isCancellation,
  ParentClosePolicy,
  setCurrentDetails,
  sleep,
  startChild,
} from "@temporalio/workflow";
import type {
  DecisionHandle,
  NodeInfo,
  ResolveResult,
  SwitchReport,
} from "../../src/resharding/model/activities.js";
import { isReading } from "../../src/resharding/model/lane-state.js";
import { otherSide, streamFrom } from "../../src/resharding/model/migration.js";
import {
  type CutoverInput,
  type CutoverResult,
  type ReplicateInput,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import type { replicate } from "../replicate/replicate.js";
import { activity } from "../task/activity-options.js";
import { describeFailure, failureOf } from "../task/failures.js";
import { beginSignal } from "../task/messages.js";

/** How long the way back may take to read its slots before the attempt is given up. */
const STANDBY_WAIT_MS = 60_000;
/** Nodes stay armed this much longer than the cap: the way from arming to the hold, and to the release. */
const ARMED_MARGIN_MS = 30_000;
const RESOLVE_PAUSE_MS = 2_000;

/**
 * One attempt to switch traffic. Never fails and never ends as cancelled: it answers with what the decision
 * says, which `resolve` alone knows (R43). A cancel request before the decision undoes the attempt.
 */
export async function cutover(input: CutoverInput): Promise<CutoverResult> {
  let decision: DecisionHandle | null = null;
  let report: SwitchReport | null = null;
  let failure = "";
  try {
    decision = await prepare(input);
    await ensureStandby(input);
    const nodes = await arm(input, decision);
    report = await switchTraffic(input, decision, nodes);
  } catch (error) {
    failure = describeFailure(error);
  }
  if (decision === null) return undone(failure);
  const handle = decision;
  // Whatever came before, success, failure or cancel: only the row knows on which side we are.
  const resolved = await CancellationScope.nonCancellable(() => resolve(input, handle));
  const result: CutoverResult = {
    outcome: resolved.outcome,
    reason: resolved.outcome === "committed" ? "" : resolved.reason || report?.reason || failure,
    pauseMs: resolved.pauseMs ?? report?.pauseMs ?? null,
    steps: resolved.steps ?? report?.steps ?? null,
  };
  if (result.outcome === "committed")
    await CancellationScope.nonCancellable(() => beginWayBack(input, result));
  return result;
}

function undone(reason: string): CutoverResult {
  return { outcome: "aborted", reason, pauseMs: null, steps: null };
}

async function prepare(input: CutoverInput): Promise<DecisionHandle> {
  const { ref, stream, policy } = input;
  const serving = otherSide(streamFrom(stream));
  return activity("prepareDecision", { summary: `plan the epoch in which the ${serving} serves` })({
    ref,
    stream,
    serving,
    capMs: policy.pauseCapMs,
  });
}

/** Streams of the way back, reading and confirming already; a later attempt finds them as they are. */
async function ensureStandby(input: CutoverInput): Promise<void> {
  const { ref, stream } = input;
  const next = stream + 1;
  await activity("createStandby", { summary: `slots of stream ${next}, the way back` })({
    ref,
    stream: next,
  });
  await startStandby(input);
  const status = await activity("awaitStandby", { summary: `stream ${next} reads its slots` })({
    ref,
    stream: next,
    waitMs: STANDBY_WAIT_MS,
  });
  if (status.lanes.length > 0 && status.lanes.every(isReading)) return;
  throw new Error(
    `the way back is not ready after ${STANDBY_WAIT_MS} ms: ${status.blocker?.message ?? "a lane has not begun"}`,
  );
}

async function startStandby(input: CutoverInput): Promise<void> {
  const { ref, stream, shards, policy } = input;
  const next: ReplicateInput = {
    version: 1,
    ref,
    stream: stream + 1,
    shards,
    policy,
    autoCutover: false,
    needsSchema: false,
    resume: null,
  };
  try {
    await startChild<typeof replicate>("replicate", {
      workflowId: workflowIds.replicate(ref, next.stream),
      args: [next],
      staticSummary: `way back of ${ref.source} -> ${ref.destination}, stream ${next.stream}`,
      // It outlives this attempt, and this attempt's cancellation (R44).
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
    });
  } catch (error) {
    // An earlier attempt's standby: the same streams, still reading.
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}

/** Sequences first: an id given out after the nodes are armed must already be in the new range. */
async function arm(input: CutoverInput, decision: DecisionHandle): Promise<readonly NodeInfo[]> {
  const { ref, policy } = input;
  await activity("advanceSequences", { summary: `sequences of the ${decision.serving}` })({
    ref,
    serving: decision.serving,
  });
  const nodes = await activity("listNodes", { summary: "nodes that serve these databases" })(ref);
  const silent = await armAll(input, decision, nodes);
  if (silent.size === 0) return nodes;
  const names = [...silent].map(([nodeId, why]) => `${nodeId} (${why})`).join(", ");
  if (policy.silentNode === "abort") throw new Error(`node did not arm: ${names}`);
  // Fenced out: the closed gate refuses its writes, and its sessions are ended before the others adopt.
  return nodes.filter((node) => !silent.has(node.nodeId));
}

async function armAll(
  input: CutoverInput,
  decision: DecisionHandle,
  nodes: readonly NodeInfo[],
): Promise<ReadonlyMap<string, string>> {
  const { ref, policy } = input;
  const { epoch, token } = decision;
  const forMs = policy.pauseCapMs + ARMED_MARGIN_MS;
  const silent = new Map<string, string>();
  await Promise.all(
    nodes.map(async (node) => {
      try {
        const armNode = activity("armNode", { summary: `arm node ${node.nodeId}`, node });
        await armNode({ ref, epoch, token, forMs });
      } catch (error) {
        if (isCancellation(error)) throw error;
        silent.set(node.nodeId, failureOf(error).message);
      }
    }),
  );
  return silent;
}

async function switchTraffic(
  input: CutoverInput,
  decision: DecisionHandle,
  nodes: readonly NodeInfo[],
): Promise<SwitchReport> {
  const { ref, policy } = input;
  setCurrentDetails(`switching with ${nodes.length} nodes, epoch ${decision.epoch}`);
  return activity("switchTraffic", {
    summary: `epoch ${decision.epoch}: pause, synchronize, swap, reverse replication, resume`,
    pauseCapMs: policy.pauseCapMs,
  })({ ref, decision, nodes });
}

/** R43: repeated for ever, also after failures that no repeat of the activity itself would be given. */
async function resolve(input: CutoverInput, decision: DecisionHandle): Promise<ResolveResult> {
  const resolveDecision = activity("resolve", { summary: `resolve epoch ${decision.epoch}` });
  for (;;) {
    try {
      return await resolveDecision({ ref: input.ref, decision });
    } catch (error) {
      const { code, message, hint } = failureOf(error);
      setCurrentDetails(
        `resolve of epoch ${decision.epoch} failed, repeats: ${code} ${message} ${hint}`,
      );
      await sleep(RESOLVE_PAUSE_MS);
    }
  }
}

async function beginWayBack(input: CutoverInput, result: CutoverResult): Promise<void> {
  const { ref, stream } = input;
  const standby = getExternalWorkflowHandle(workflowIds.replicate(ref, stream + 1));
  try {
    await standby.signal(beginSignal, result);
  } catch {
    // Somebody ended the standby. Its lanes and slots are in the databases: a new one takes them over.
    await startStandby(input);
    await standby.signal(beginSignal, result);
  }
}
