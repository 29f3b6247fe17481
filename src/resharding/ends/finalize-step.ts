import { NotReady } from "../../core/errors.js";
import type { EngineContext } from "../context.js";
import { putBackIdentities } from "../control/replica-identity.js";
import { LOOK, openSides, type SessionUse, type Sides } from "../control/sides.js";
import type { FinalizeResult } from "../model/activities.js";
import { type MigrationRef, otherSide } from "../model/migration.js";
import { dropStreamOn } from "../stream/drop-stream-step.js";
import { type Board, readBoard } from "../switch/board.js";
import { GATE, placementLock, removeGate } from "../switch/install-gates-step.js";
import { keepPlacement, putBackPlacement } from "../switch/placement-guards.js";
import { resolveOn } from "../switch/resolve-step.js";
import { closeBooks } from "./close-books.js";

const BOOKS: SessionUse = { purpose: "finalize" };

/**
 * The end: streams, publications and slots go, and on the side that serves gate and triggers. The other side
 * stays fenced, with its data and the row that says where everything went, until UNFENCE (R36).
 * Second run: finds what is left.
 * @throws NotReady before any switch, or while a decision is not final
 */
export async function finalizeMigration(
  context: EngineContext,
  ref: MigrationRef,
): Promise<FinalizeResult> {
  await using sides = await openSides(context, ref);
  const board = await readBoard(sides, ref);
  if (board.unreachable.length > 0) {
    throw new NotReady(`finalize needs every shard; silent: ${board.unreachable.join(", ")}`);
  }
  if (board.epoch === 0)
    throw new NotReady("nothing was switched: STOP_TASK aborts this migration");
  // Those of a rollback that was given up. The committed ones were driven home before this task began, and a
  // second run of this finds no gates to drive any more.
  for (const decision of board.decisions) {
    if (decision.state === "committed" || decision.state === "aborted") continue;
    await resolveOn(context, sides, { ref, decision, as: "coordinator" });
  }
  const after = await readBoard(sides, ref);
  const committed = after.decisions.filter((decision) => decision.state === "committed").length;
  for (let stream = 0; stream <= committed + 1; stream++)
    await dropStreamOn(context, sides, { ref, stream });
  const unsavedNodes = await listUnsavedNodes({ sides, ref, board: after });
  await openServingSide(context, { sides, ref, board: after });
  const left = otherSide(after.serving);
  // Whoever has this side after UNFENCE has its tables as they were.
  for (const client of await sides.sessions(left, GATE))
    await putBackIdentities(client, { ref, context, side: left });
  for (const client of await sides.sessions(left, BOOKS))
    await closeBooks(client, ref, "finalized");
  for (const client of await sides.sessions(left, GATE))
    await putBackPlacement(client, ref, placementLock(context));
  return { unsavedNodes };
}

interface FinalizeWork {
  readonly sides: Sides;
  readonly ref: MigrationRef;
  readonly board: Board;
}

async function openServingSide(context: EngineContext, work: FinalizeWork): Promise<void> {
  for (const client of await work.sides.sessions(work.board.serving, GATE)) {
    await removeGate(client, { ref: work.ref, context });
    await putBackIdentities(client, { ref: work.ref, context, side: work.board.serving });
    await closeBooks(client, work.ref, "finalized");
    await keepPlacement(client, work.ref);
  }
}

/** Nodes whose files still name the side that was left (R36). */
async function listUnsavedNodes(work: FinalizeWork): Promise<string[]> {
  const client = await work.sides.session(work.board.serving, 0, LOOK);
  const result = await client.query<{ node_id: string }>(
    "SELECT node_id FROM sluice.node WHERE migration = $1 AND saved_epoch < $2 ORDER BY node_id",
    [work.ref.id, work.board.epoch],
  );
  return result.rows.map((row) => row.node_id);
}
