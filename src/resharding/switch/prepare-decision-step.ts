import { randomBytes } from "node:crypto";
import { NotReady } from "../../core/errors.js";
import type { EngineContext } from "../context.js";
import { readIdentity } from "../control/identity.js";
import { openSides, type Sides } from "../control/sides.js";
import type { DecisionHandle, PrepareInput } from "../model/activities.js";
import { otherSide } from "../model/migration.js";
import { refusalOf, stateOf } from "../model/protocol.js";
import { controlSession, readBoard } from "./board.js";
import { planDecision, readDecision } from "./decision.js";
import { noteFingerprints } from "./fingerprint.js";
import { assignGate } from "./gate.js";
import { GATE, installGatesOn } from "./install-gates-step.js";

/**
 * Inserts the next epoch as `planned` in the control database and gives every gate to its token. Refuses when
 * the side to leave does not serve (a reset workflow is harmless then, R43), when a shard is silent, or while
 * an earlier attempt is not final; and again in the statement that inserts, for a run that was frozen in between.
 * Second run: another `planned` row with a later epoch; `planned` rows have no effect, and this run aborts
 * those before it, so that their holder can prepare nothing.
 * @throws NotReady with the reason
 */
export async function prepareDecision(
  context: EngineContext,
  input: PrepareInput,
): Promise<DecisionHandle> {
  await using sides = await openSides(context, input.ref);
  const board = await readBoard(sides, input.ref);
  refuseUnlessNext(board, input);
  // A trigger that was disabled meanwhile, or a table made anew: found here, not in the pause (R25, R26).
  await installGatesOn(context, sides);
  const from = otherSide(input.serving);
  const control = await controlSession(sides, input.serving);
  const identity = await readIdentity(control);
  const epoch = Math.max(0, ...board.decisions.map((decision) => decision.epoch)) + 1;
  const token = randomBytes(16).toString("hex");
  const { serving, stream, capMs } = input;
  const { openTransactions } = context.policy;
  const row = { epoch, token, serving, stream, capMs, openTransactions, ...identity };
  if (!(await planDecision(control, input.ref, row, board.epoch)))
    throw new NotReady(`epoch ${epoch} ${refusalOf("planned", "plan")}`);
  await context.announce("cutover.afterPlanned");
  const handle: DecisionHandle = { epoch, token, serving, stream };
  await assignGates(sides, { ref: input.ref, handle });
  const stored = await readDecision(control, input.ref, epoch);
  if (stored?.state !== "planned" || stored.token !== token) {
    throw new NotReady(`epoch ${epoch} ${refusalOf("planned", "plan")}`);
  }
  context.log.info("decision planned", { migration: input.ref.id, epoch, leaving: from });
  return handle;
}

function refuseUnlessNext(board: Awaited<ReturnType<typeof readBoard>>, input: PrepareInput): void {
  if (board.unreachable.length > 0) {
    throw new NotReady(`no switch while shards are silent: ${board.unreachable.join(", ")}`);
  }
  if (board.serving === input.serving) {
    throw new NotReady(`the ${input.serving} side serves already since epoch ${board.epoch}`);
  }
  for (const decision of board.decisions) {
    const why = refusalOf(stateOf(decision), "replace");
    if (why) throw new NotReady(`epoch ${decision.epoch} ${why}`, { hint: "RESOLVE CUTOVER" });
  }
}

/**
 * Every gate of both sides takes the new (epoch, token). The side that serves is opened by the new key: an
 * aborted attempt whose `resolve` has not come so far could not open it any more after this.
 */
async function assignGates(
  sides: Sides,
  input: { readonly ref: PrepareInput["ref"]; readonly handle: DecisionHandle },
): Promise<void> {
  const key = { ref: input.ref, epoch: input.handle.epoch, token: input.handle.token };
  const work = (["source", "destination"] as const).flatMap((side) =>
    sides[side].shards.map(async (_, shard) => {
      const client = await sides.session(side, shard, GATE);
      const serves = side !== input.handle.serving;
      if (!(await assignGate(client, key, serves ? "open" : "as it is"))) {
        throw new NotReady(`a gate of the ${side} side belongs to a later epoch or is missing`);
      }
      if (!serves) {
        // From the switch on this side is read by the next stream.
        const stream = input.handle.stream + 1;
        await noteFingerprints(client, { ref: input.ref, stream, tables: sides.spec.tables });
      }
    }),
  );
  await Promise.all(work);
}
