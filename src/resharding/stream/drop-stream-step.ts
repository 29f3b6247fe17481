import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { dropOrigin } from "../../replication/origin.js";
import { dropPublication, dropSlot, freeSlot } from "../../replication/slot.js";
import { LaneTaken } from "../../replication/stream-errors.js";
import type { EngineContext } from "../context.js";
import { isMissingControlSchema } from "../control/control-schema.js";
import { forgetResource } from "../control/resource.js";
import { openSides, type SessionUse, type Sides } from "../control/sides.js";
import { names, otherSide, streamFrom } from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";
import { endLaneSessions } from "./lanes/lane-session.js";
import { settleOriginName } from "./settlement.js";

const DROP_LANE: SessionUse = { purpose: "drop lane" };
const DROP_SLOT: SessionUse = { purpose: "drop slot", lockTimeoutMs: 5_000 };
const DROP_TIMEOUT_MS = 15_000;

/**
 * Ends the stream's lanes and walsenders, drops its slots, its origins and lane rows, and the publication
 * where no other stream of the migration reads from it. What is not there is not missed, so a second run, or
 * one after half a creation, is harmless. A runner that is still alive fails at its next commit.
 * @throws LaneTaken when a session does not end
 */
export async function dropStream(context: EngineContext, input: StreamInput): Promise<void> {
  await using sides = await openSides(context, input.ref);
  await dropStreamOn(context, sides, input);
}

/** `dropStream` within an activity that has the sides open. */
export async function dropStreamOn(
  context: EngineContext,
  sides: Sides,
  input: StreamInput,
): Promise<void> {
  const from = sides[streamFrom(input.stream)].shards;
  const to = sides[otherSide(streamFrom(input.stream))].shards;
  // Lanes first: without lane rows no runner can begin anew.
  await Promise.all(
    to.map((_, toShard) =>
      dropLanes(context, sides, { ...input, toShard, fromShards: from.length }),
    ),
  );
  await Promise.all(from.map((_, fromShard) => dropSource(sides, { ...input, fromShard })));
}

async function dropLanes(
  context: EngineContext,
  sides: Sides,
  input: StreamInput & {
    readonly toShard: number;
    readonly fromShards: number;
  },
): Promise<void> {
  const { ref, stream, toShard } = input;
  const client = await sides.session(otherSide(streamFrom(stream)), toShard, DROP_LANE);
  const origins = [settleOriginName(ref, stream, toShard)];
  try {
    await client.query("DELETE FROM sluice.aside WHERE migration = $1 AND stream = $2", [
      ref.id,
      stream,
    ]);
    for (let fromShard = 0; fromShard < input.fromShards; fromShard++) {
      await endLaneSessions(client, { ref, stream, fromShard, toShard });
      origins.push(names.origin(ref, stream, fromShard, toShard));
    }
    await client.query("DELETE FROM sluice.lane WHERE migration = $1 AND stream = $2", [
      ref.id,
      stream,
    ]);
  } catch (error) {
    if (!isMissingControlSchema(error)) throw error;
    return;
  }
  for (const origin of origins) {
    await untilDropped(context, client, origin);
    await forgetResource(client, ref, origin);
  }
}

/** The session was told to end; it lets the origin go when it has. */
async function untilDropped(
  context: EngineContext,
  client: SqlClient,
  origin: string,
): Promise<void> {
  const deadlineAtMs = Date.now() + DROP_TIMEOUT_MS;
  for (;;) {
    context.signal.throwIfAborted();
    try {
      await dropOrigin(client, origin);
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === SQLSTATE.objectInUse))
        throw error;
      if (Date.now() >= deadlineAtMs)
        throw new LaneTaken(`replication origin "${origin}" is in use and cannot be dropped`, {
          cause: error,
        });
    }
    await delay(20, undefined, { signal: context.signal });
  }
}

async function dropSource(
  sides: Sides,
  input: StreamInput & { readonly fromShard: number },
): Promise<void> {
  const { ref, stream, fromShard } = input;
  const client = await sides.session(streamFrom(stream), fromShard, DROP_SLOT);
  const slot = names.slot(ref, stream, fromShard);
  if (!(await freeSlot(client, slot, DROP_TIMEOUT_MS)))
    throw new LaneTaken(`replication slot "${slot}" is in use and cannot be dropped`);
  await dropSlot(client, slot);
  const others = await client.query(
    "SELECT 1 FROM pg_replication_slots WHERE starts_with(slot_name, $1) AND database = current_database()",
    [`sluice_${ref.id}_`],
  );
  const publication = names.publication(ref);
  if (others.rows.length === 0) await dropPublication(client, publication);
  try {
    await forgetResource(client, ref, slot);
    if (others.rows.length === 0) await forgetResource(client, ref, publication);
  } catch (error) {
    if (!isMissingControlSchema(error)) throw error;
  }
}
