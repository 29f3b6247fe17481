import { describeAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { formatLsn, type Lsn } from "../../core/lsn.js";
import { ensurePublication, ensureSlot, waitForSlotEdge } from "../../replication/slot.js";
import type { ServerIdentity } from "../../replication/walsender.js";
import type { EngineContext } from "../context.js";
import { readIdentity } from "../control/identity.js";
import { refuseUnlessIdentified } from "../control/replica-identity.js";
import { noteResource } from "../control/resource.js";
import { openSides, type SessionUse } from "../control/sides.js";
import { names, otherSide, streamFrom } from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";

export interface CreateStreamInput extends StreamInput {
  /** For the slots together, and again for R2's wait, in ms. */
  readonly timeoutMs?: number;
}

const CREATE_TIMEOUT_MS = 60_000;
const CREATE: SessionUse = { purpose: "create stream", lockTimeoutMs: 5_000 };
/** Waits for everybody who writes, so without a lock timeout; its own time limit names them. */
const SLOT: SessionUse = { purpose: "slot" };
const LANE: SessionUse = { purpose: "create lane" };

/**
 * Publication and slot on each shard of the from-side, lane rows on each shard of the other one, and the wait
 * of R2. When it returns, what commits from now on is in the stream, and a snapshot taken from now on sees all
 * the rest. Streams after the first are in standby until their start marker (R34).
 *
 * A second run, or one beside it, takes what is there by its name.
 * @throws IdentityDiffers; SlotCreationTimedOut, SlotEdgeTimedOut naming whom it waits for; SlotLost, ServerUnreachable
 */
export async function createStream(
  context: EngineContext,
  input: CreateStreamInput,
): Promise<void> {
  await using sides = await openSides(context, input.ref);
  const side = streamFrom(input.stream);
  const from = sides[side].shards;
  const waiting = { timeoutMs: input.timeoutMs ?? CREATE_TIMEOUT_MS, signal: context.signal };
  const slots = await Promise.all(
    from.map(async (_, fromShard) => {
      const client = await sides.session(side, fromShard, CREATE);
      await refuseUnlessIdentified(client, sides.spec.tables);
      const slot = names.slot(input.ref, input.stream, fromShard);
      const publication = names.publication(input.ref);
      await noteResource(client, input.ref, { kind: "publication", name: publication });
      await noteResource(client, input.ref, { kind: "slot", name: slot });
      await ensurePublication(client, publication, sides.spec.tables);
      await context.announce("stream.afterPublication");
      const startLsn = await ensureSlot(await sides.session(side, fromShard, SLOT), slot, waiting);
      await context.announce("stream.afterSlot");
      return { slot, startLsn, identity: await readIdentity(client) };
    }),
  );
  const to = await sides.sessions(otherSide(side), LANE);
  await Promise.all(to.map((client, toShard) => createLanes(client, { ...input, toShard, slots })));
  await Promise.all(
    from.map(async (address, fromShard) => {
      const server = describeAddress(address);
      await waitForSlotEdge(await sides.session(side, fromShard, SLOT), { ...waiting, server });
    }),
  );
}

interface LanesInput extends StreamInput {
  readonly toShard: number;
  /** By from-shard. */
  readonly slots: readonly {
    readonly slot: string;
    readonly startLsn: Lsn;
    readonly identity: ServerIdentity;
  }[];
}

/** Those into one shard. */
async function createLanes(client: SqlClient, input: LanesInput): Promise<void> {
  const { ref, stream, toShard } = input;
  const isFirst = stream === 0;
  for (const [fromShard, { slot, startLsn, identity }] of input.slots.entries()) {
    const origin = names.origin(ref, stream, fromShard, toShard);
    await noteResource(client, ref, { kind: "origin", name: origin });
    await client.query(
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
         system_identifier, timeline, state, start_lsn)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
      [
        ref.id,
        stream,
        fromShard,
        toShard,
        slot,
        origin,
        identity.systemIdentifier,
        identity.timeline,
        isFirst ? "applying" : "standby",
        isFirst ? formatLsn(startLsn) : null,
      ],
    );
  }
}
