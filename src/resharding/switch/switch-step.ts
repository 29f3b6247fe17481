import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, Signal, SluiceError } from "../../core/errors.js";
import type { Lsn } from "../../core/lsn.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { tell } from "../../core/tell.js";
import type { EngineContext } from "../context.js";
import { readIdentity, sameServer } from "../control/identity.js";
import { openSides, type Sides } from "../control/sides.js";
import type { DecisionHandle, NodeInfo, SwitchReport } from "../model/activities.js";
import type { MarkerMessage, MigrationRef } from "../model/migration.js";
import { refusalOf } from "../model/protocol.js";
import { emitMarker } from "../stream/lane-watch.js";
import { settleWithin } from "../stream/settle-aside.js";
import {
  type Decision,
  hintDecision,
  markAborted,
  markCommitted,
  markPrepared,
  readDecision,
} from "./decision.js";
import { findChanged, TablesChanged } from "./fingerprint.js";
import { checkGateTriggers, type GateKey, passBarrier, turnGate } from "./gate.js";
import { holdWaitInWords, readHoldWaits } from "./hold-wait.js";
import { markOpened, openServingGate } from "./resolve-step.js";
import { checkSequences } from "./sequences.js";
import { StepClock } from "./step-clock.js";
import { openSwitchSessions, type SwitchSessions, type Undo } from "./switch-sessions.js";

export interface SwitchInput {
  readonly ref: MigrationRef;
  readonly decision: DecisionHandle;
  readonly nodes: readonly NodeInfo[];
}

/** Some node still had something in flight when the time was over. */
export class HoldTimedOut extends SluiceError {
  readonly code = "SLUICE_HOLD_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(nodes: string, options: ErrorFields = {}) {
    super(`nodes did not come to rest within the pause: ${nodes}`, {
      hint: "Open transactions were longer than pause_cap_ms; they go on, and the switch is tried again.",
      ...options,
    });
  }
}

/** A lane did not reach the marker within the pause. */
export class DrainTimedOut extends SluiceError {
  readonly code = "SLUICE_DRAIN_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(lanes: string, options: ErrorFields = {}) {
    super(`lanes did not reach the marker within the pause: ${lanes}`, options);
  }
}

/** Keys that a lane set aside could not be settled within the pause (R33). */
export class KeysUnsettled extends SluiceError {
  readonly code = "SLUICE_KEYS_UNSETTLED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(keyCount: number, options: ErrorFields = {}) {
    super(`${keyCount} keys are on more than one shard still`, {
      hint: "Their last changes move a row between shards; the switch was undone and is tried again.",
      ...options,
    });
  }
}

/** Kept from the end of the cap, so that the compare-and-set itself is not late. */
const DECISION_RESERVE_MS = 50;
const POLL_MS = 3;
/** How often it is asked why a node has not answered: often enough for people, no load on the pause. */
const WHY_MS = 250;
const UNDO_TIMEOUT_MS = 2_000;

/**
 * Steps 3 to 9 of the switch in one activity, without a Temporal round trip inside the pause (design,
 * section 7). Its result is advice: only `resolve` says what happened.
 *
 * Dies or freezes before the compare-and-set: the decision expires and whoever resolves first aborts it; this
 * code, woken up, finds its token rotated at the gates and its decision not `prepared`. Dies after it: the
 * decision is committed and `resolve`, here or on any node, goes forward. Runs twice: the second finds the
 * decision not `planned` and touches nothing.
 */
export async function switchTraffic(
  context: EngineContext,
  input: SwitchInput,
): Promise<SwitchReport> {
  await using sides = await openSides(context, input.ref);
  const sessions = await openSwitchSessions(context, sides, input.decision);
  const clock = new StepClock();
  const lock = await sessions.control.query<{ got: boolean }>(
    "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS got",
    [`sluice.switch ${input.ref.id} ${input.decision.epoch}`],
  );
  if (lock.rows[0]?.got !== true) return clock.undone("another coordinator runs this switch");
  const refusal = await refuseOtherServer(sessions.control, input);
  if (refusal !== null) return clock.undone(refusal);

  const key = { ref: input.ref, epoch: input.decision.epoch, token: input.decision.token };
  clock.start();
  const prepared = await markPrepared(sessions.control, key);
  if (!prepared) return clock.undone(`the decision ${refusalOf("aborted", "prepare")}`);
  try {
    return await switchPrepared(context, { ...input, sides, sessions, clock, key, prepared });
  } catch (error) {
    const outcome = await undoOrAdmit(context, { undo: sessions.undo, input, error });
    context.log.warn("switch did not go through at once", { outcome, error: tell(error) });
    if (outcome === "committed") return clock.committed();
    return clock.undone(tell(error));
  }
}

interface PreparedSwitch extends SwitchInput {
  readonly sides: Sides;
  readonly sessions: SwitchSessions;
  readonly clock: StepClock;
  readonly key: GateKey;
  readonly prepared: Decision;
}

async function switchPrepared(context: EngineContext, work: PreparedSwitch): Promise<SwitchReport> {
  const { sessions, clock, key } = work;
  const budgetMs = (work.prepared.expiresInMs ?? 0) - DECISION_RESERVE_MS;
  const deadline = { atMs: performance.now() + budgetMs, signal: context.signal };
  await context.announce("cutover.afterPrepared");
  await hintDecision(sessions.control, work.ref);
  await untilHeld(context, { work, deadline });
  clock.lap("pause");

  await context.announce("cutover.afterHold");
  const markers = await Promise.all(
    sessions.from.map((client) => closeAndMark(context, client, { work, deadline })),
  );
  await context.announce("cutover.afterMarker");
  await untilDrained(context, { work, markers, deadline });
  await checkSequences(context, sessions, { ref: work.ref, spec: work.sides.spec });
  clock.lap("synchronize");

  await Promise.all(sessions.to.map((client) => emitMarker(client, marker(work, "start"))));
  clock.lap("reverse");

  await context.announce("cutover.beforeDecision");
  if (!(await markCommitted(sessions.control, key))) throw new DecisionTaken();
  clock.lap("swap");
  await context.announce("cutover.afterDecision");

  await openGates(work);
  await context.announce("cutover.afterGatesOpen");
  await markOpened(sessions.control, { ref: work.ref, decision: work.prepared });
  await hintDecision(sessions.control, work.ref);
  await context.announce("cutover.afterOpen");
  await untilAdopted(context, { work });
  clock.lap("resume");
  await storeTimings(sessions.control, { work, clock });
  return clock.committed();
}

/** @throws GateRevoked when somebody looks for witnesses at the same time: `resolve` goes on from there */
async function openGates(work: PreparedSwitch): Promise<void> {
  const opening = { ref: work.ref, decision: work.prepared, gateToken: work.key.token };
  const opened = await Promise.all(
    work.sessions.to.map((client) => openServingGate(client, opening)),
  );
  if (opened.includes(false)) throw new GateRevoked();
}

/** Signal, not failure: the control database is thought to have failed over. */
class GateRevoked extends Signal {
  override readonly name = "GateRevoked";
  override readonly message = "a gate got a fresh token; the decision is being resolved";
}

/** Signal, not failure: somebody aborted the decision before we could commit it. */
class DecisionTaken extends Signal {
  override readonly name = "DecisionTaken";
  override readonly message = `the decision ${refusalOf("expired", "commit")}`;
}

/**
 * After any error the truth is in the row. Ours to abort while it is `prepared`; by another connection, as the
 * one that was used may be the error. Unreachable: unknown, and `resolve` will find out (R28, R42).
 */
async function undoOrAdmit(
  context: EngineContext,
  input: { readonly undo: Undo; readonly input: SwitchInput; readonly error: unknown },
): Promise<"aborted" | "committed" | "unknown"> {
  const { ref, decision } = input.input;
  const reason = tell(input.error);
  using _ = input.undo.limit(UNDO_TIMEOUT_MS);
  try {
    const control = await input.undo.session();
    await markAborted(control, { ref, epoch: decision.epoch }, { reason, when: "always" });
    const stored = await readDecision(control, ref, decision.epoch);
    await hintDecision(control, ref);
    return stored?.state === "committed" ? "committed" : "aborted";
  } catch (error) {
    context.log.warn("cannot read the decision now", { error: tell(error) });
    return "unknown";
  }
}

/** R30: the row decides only on the server, and in the history, where it was planned. */
async function refuseOtherServer(control: SqlClient, input: SwitchInput): Promise<string | null> {
  const stored = await readDecision(control, input.ref, input.decision.epoch);
  if (stored?.token !== input.decision.token) return "the decision is not the one that was planned";
  const isSame = sameServer(await readIdentity(control), stored);
  return isSame ? null : "the control database failed over since the decision was planned";
}

interface Deadline {
  readonly atMs: number;
  readonly signal: AbortSignal;
}

/** Step 4: every armed node has answered, by a row, that nothing of it is in flight. */
async function untilHeld(
  context: EngineContext,
  input: { readonly work: PreparedSwitch; readonly deadline: Deadline },
): Promise<void> {
  const { work, deadline } = input;
  let whyAtMs = performance.now() + WHY_MS;
  let waitingFor = "";
  for (;;) {
    deadline.signal.throwIfAborted();
    const result = await work.sessions.control.query<{ node_id: string; incarnation: string }>(
      "SELECT node_id, incarnation FROM sluice.hold WHERE migration = $1 AND epoch = $2 AND token = $3",
      [work.ref.id, work.key.epoch, work.key.token],
    );
    const held = new Set(result.rows.map((row) => `${row.node_id} ${row.incarnation}`));
    const missing = work.nodes.filter((node) => !held.has(`${node.nodeId} ${node.incarnation}`));
    if (missing.length === 0) return;
    await refuseWhenFinal(work);
    if (performance.now() >= deadline.atMs) throw new HoldTimedOut(await whyNot(work, missing));
    if (performance.now() >= whyAtMs) {
      waitingFor = await whyNot(work, missing);
      whyAtMs = performance.now() + WHY_MS;
    }
    context.heartbeat({ step: "pause", waitingNodes: missing.length, waitingFor });
    await delay(POLL_MS);
  }
}

/** The nodes that have not answered, each with what it says that it waits for. */
async function whyNot(work: PreparedSwitch, missing: readonly NodeInfo[]): Promise<string> {
  const { epoch, token } = work.key;
  const waits = await readHoldWaits(work.sessions.control, {
    migration: work.ref.id,
    ...{ epoch, token },
  });
  const said = missing.map(({ nodeId, incarnation, address }) => {
    const wait = waits.find((one) => one.nodeId === nodeId && one.incarnation === incarnation);
    return `${nodeId} (${address})${wait ? `: ${holdWaitInWords(wait)}` : ""}`;
  });
  return said.join(", ");
}

/** A node may undo the switch (its hold overflowed, or it expired): no reason to wait out the cap. */
async function refuseWhenFinal(work: PreparedSwitch): Promise<void> {
  const stored = await readDecision(work.sessions.control, work.ref, work.key.epoch);
  if (stored?.state !== "prepared") throw new DecisionTaken();
}

/**
 * Step 5 on one shard of the side that is left.
 * @returns the marker's position: everything that this shard ever acknowledged is before it
 */
async function closeAndMark(
  context: EngineContext,
  client: SqlClient,
  input: { readonly work: PreparedSwitch; readonly deadline: Deadline },
): Promise<Lsn> {
  const { work, deadline } = input;
  if (!(await turnGate(client, work.key, "closed"))) throw new DecisionTaken();
  await context.announce("cutover.afterGate");
  await passBarrier(client, work.ref, deadline);
  const { tables } = work.sides.spec;
  await checkGateTriggers(client, work.ref, tables);
  const changed = await findChanged(client, {
    ref: work.ref,
    stream: work.decision.stream,
    tables,
  });
  if (changed.length > 0) throw new TablesChanged(changed.join(", "));
  return await emitMarker(client, marker(work, "drain"));
}

function marker(work: SwitchInput, kind: MarkerMessage["kind"]): MarkerMessage {
  return { migration: work.ref.id, kind, token: work.decision.token };
}

/**
 * Step 6: every lane has durably committed past the marker of its shard ("lag 0" proves nothing, R24), and
 * no key is set aside any more (R33).
 */
async function untilDrained(
  context: EngineContext,
  input: {
    readonly work: PreparedSwitch;
    readonly markers: readonly Lsn[];
    readonly deadline: Deadline;
  },
): Promise<void> {
  const { work, markers, deadline } = input;
  const outcome = await work.sessions.lanes.waitPast(markers, deadline.atMs - performance.now());
  if (outcome.kind !== "past") {
    const lanes = outcome.behind.map(
      (lane) => `${lane.fromShard} -> ${lane.toShard} (${lane.state})`,
    );
    throw new DrainTimedOut(lanes.join(", "));
  }
  if ((await countAside(work)) === 0) return;
  await settleWithin(context, work.sides, {
    ref: work.ref,
    stream: work.decision.stream,
    sessions: work.sessions.settlement,
    deadlineAtMs: deadline.atMs,
  });
  const left = await countAside(work);
  if (left > 0) throw new KeysUnsettled(left);
}

async function countAside(work: PreparedSwitch): Promise<number> {
  const counts = await Promise.all(
    work.sessions.to.map((client) =>
      client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM sluice.aside
          WHERE migration = $1 AND stream = $2 AND settled_at IS NULL`,
        [work.ref.id, work.decision.stream],
      ),
    ),
  );
  return counts.reduce((sum, result) => sum + (result.rows[0]?.count ?? 0), 0);
}

/** After the decision nothing depends on it: how long we look whether the nodes have gone on. */
const ADOPT_WAIT_MS = 5_000;

/** Step 8's end, for the timing only: nodes adopt by themselves. */
async function untilAdopted(
  context: EngineContext,
  input: { readonly work: PreparedSwitch },
): Promise<void> {
  const { work } = input;
  const lateAtMs = performance.now() + ADOPT_WAIT_MS;
  const wanted = work.nodes.map((node) => node.nodeId);
  for (;;) {
    const result = await work.sessions.control.query<{ count: string }>(
      "SELECT count(*) FROM sluice.node WHERE migration = $1 AND epoch >= $2 AND node_id = ANY ($3)",
      [work.ref.id, work.key.epoch, wanted],
    );
    if (Number(result.rows[0]?.count ?? 0) >= wanted.length) return;
    if (performance.now() >= lateAtMs) {
      context.log.warn("not every node has adopted the new epoch yet", { epoch: work.key.epoch });
      return;
    }
    await delay(POLL_MS);
  }
}

async function storeTimings(
  control: SqlClient,
  input: { readonly work: PreparedSwitch; readonly clock: StepClock },
): Promise<void> {
  const { pauseMs, steps } = input.clock.committed();
  await control.query(
    "UPDATE sluice.decision SET timings = $3 WHERE migration = $1 AND epoch = $2",
    [input.work.ref.id, input.work.key.epoch, JSON.stringify({ pauseMs, steps })],
  );
}
