import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import {
  CancellationScope,
  ChildWorkflowCancellationType,
  getExternalWorkflowHandle,
  isCancellation,
  ParentClosePolicy,
  startChild,
} from "@temporalio/workflow";
import type {
  DecisionHandle,
  NodeInfo,
  SwitchReport,
} from "../../src/resharding/model/activities.js";
import {
  afterArming,
  attemptResult,
  standbyRefusal,
  undoneAttempt,
} from "../../src/resharding/model/cutover-plan.js";
import { otherSide, streamFrom } from "../../src/resharding/model/migration.js";
import type { AttemptStepName } from "../../src/resharding/model/steps.js";
import {
  type CutoverInput,
  type CutoverResult,
  type ReplicateInput,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import type { Workflows } from "../../src/resharding/model/workflows.js";
import { describeFailure, failureOf } from "../task/failures.js";
import { beginSignal } from "../task/messages.js";
import { answeredBadly } from "../task/step-failed.js";
import { createStepRunner, type StepRunner } from "../task/step-runner.js";
import { createAttemptView } from "./attempt-view.js";

/** How long the way back may take to read its slots before the attempt is given up. */
const STANDBY_WAIT_MS = 60_000;
/** Nodes stay armed this much longer than the cap: the way from arming to the hold, and to the release. */
const ARMED_MARGIN_MS = 30_000;

interface Attempt {
  readonly input: CutoverInput;
  readonly step: StepRunner<AttemptStepName>;
}

/**
 * One attempt to switch traffic. Never fails and never ends as cancelled: it answers with what the decision
 * says, which `resolve` alone knows (R43). A cancel request before the decision undoes the attempt.
 */
export async function cutover(input: CutoverInput): Promise<CutoverResult> {
  const attempt = createAttempt(input);
  let decision: DecisionHandle | null = null;
  let report: SwitchReport | null = null;
  let failure = "";
  try {
    decision = await prepare(attempt);
    await ensureStandby(attempt);
    const nodes = await arm(attempt, decision);
    report = await switchTraffic(attempt, decision, nodes);
  } catch (error) {
    failure = describeFailure(error);
  }
  if (decision === null) return undoneAttempt(failure);
  const summary = `resolve epoch ${decision.epoch}`;
  const asked = { ref: input.ref, decision };
  // Whatever came before, success, failure or cancel: only the row knows on which side we are (R43).
  const resolved = await CancellationScope.nonCancellable(() =>
    attempt.step("resolve", { summary }, asked),
  );
  const result = attemptResult(resolved, { report, failure });
  if (result.outcome === "committed")
    await CancellationScope.nonCancellable(() => beginWayBack(input, result));
  return result;
}

function createAttempt(input: CutoverInput): Attempt {
  const view = createAttemptView({ isReverse: input.stream > 0 });
  // No order reaches an attempt; nothing of it is undone but by `resolve`.
  return { input, step: createStepRunner({ view, retries: { count: 0 }, made: [] }) };
}

async function prepare({ input, step }: Attempt): Promise<DecisionHandle> {
  const { ref, stream, policy } = input;
  const serving = otherSide(streamFrom(stream));
  const summary = `plan the epoch in which the ${serving} serves`;
  const capMs = policy.pauseCapMs;
  return await step("prepareDecision", { summary }, { ref, stream, serving, capMs });
}

/** Streams of the way back, reading and confirming already; a later attempt finds them as they are. */
async function ensureStandby({ input, step }: Attempt): Promise<void> {
  const { ref } = input;
  const stream = input.stream + 1;
  const slots = `slots of stream ${stream}, the way back`;
  await step("createStandby", { summary: slots }, { ref, stream });
  await startStandby(input);
  const reads = `stream ${stream} reads its slots`;
  const waitMs = STANDBY_WAIT_MS;
  const status = await step("awaitStandby", { summary: reads }, { ref, stream, waitMs });
  const message = standbyRefusal(status, waitMs);
  if (message !== null)
    throw answeredBadly("awaitStandby", { code: "SLUICE_STANDBY_NOT_READING", message });
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
    await startChild<Workflows["replicate"]>("replicate", {
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
async function arm(attempt: Attempt, decision: DecisionHandle): Promise<readonly NodeInfo[]> {
  const { input, step } = attempt;
  const { ref, policy } = input;
  const { serving } = decision;
  await step("advanceSequences", { summary: `sequences of the ${serving}` }, { ref, serving });
  const nodes = await step("listNodes", { summary: "nodes that serve these databases" }, ref);
  const armed = afterArming(nodes, await armAll(attempt, decision, nodes), policy);
  if (armed.kind === "goOn") return armed.nodes;
  const { reason: message } = armed;
  throw answeredBadly("armNode", { code: "SLUICE_NODE_NOT_ARMED", message });
}

/** @returns the nodes that did not arm, with the reason */
async function armAll(
  { input, step }: Attempt,
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
        const summary = `arm node ${node.nodeId}`;
        await step("armNode", { summary, node }, { ref, epoch, token, forMs });
      } catch (error) {
        if (isCancellation(error)) throw error;
        silent.set(node.nodeId, failureOf(error).message);
      }
    }),
  );
  return silent;
}

async function switchTraffic(
  { input, step }: Attempt,
  decision: DecisionHandle,
  nodes: readonly NodeInfo[],
): Promise<SwitchReport> {
  const { ref, policy } = input;
  const parts = "pause, synchronize, reverse replication, swap, resume";
  const summary = `epoch ${decision.epoch}, ${nodes.length} nodes: ${parts}`;
  const { pauseCapMs } = policy;
  return await step("switchTraffic", { summary, pauseCapMs }, { ref, decision, nodes });
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
