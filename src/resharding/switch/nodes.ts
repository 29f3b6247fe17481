import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import { LOOK, openSides, type Sides } from "../control/sides.js";
import type { NodeInfo } from "../model/activities.js";
import type { MigrationRef, Side } from "../model/migration.js";
import { readBoard } from "./board.js";

/** Nodes say that they live once a second; one that missed this many seconds is left to the gate. */
const SILENT_AFTER_S = 5;

/** Live nodes, as the serving side's shard 0 knows them. */
export async function listNodes(
  context: EngineContext,
  ref: MigrationRef,
): Promise<readonly NodeInfo[]> {
  await using sides = await openSides(context, ref);
  const board = await readBoard(sides, ref);
  return await readNodes(sides, board.serving);
}

/** `listNodes` within an activity that has the sides open, and knows which one serves. */
export async function readNodes(sides: Sides, serving: Side): Promise<readonly NodeInfo[]> {
  const control = await sides.session(serving, 0, LOOK);
  const result = await control.query<NodeInfo>(
    `SELECT node_id AS "nodeId", incarnation, address, epoch, config_hash AS "configHash"
       FROM sluice.node
      WHERE migration = $1 AND last_seen > clock_timestamp() - make_interval(secs => $2)
      ORDER BY node_id`,
    [sides.ref.id, SILENT_AFTER_S],
  );
  return result.rows;
}

/** What a node says of itself, on shard 0 of both sides, once a second and after each adoption. */
export interface NodeReport {
  readonly nodeId: string;
  readonly incarnation: string;
  readonly address: string;
  readonly epoch: number;
  readonly configHash: string;
  /** Highest epoch that the node's files on disk express. */
  readonly savedEpoch: number;
}

/** Second run: the same row. A process of an older incarnation is overwritten by whoever reports last. */
export async function reportNode(
  client: SqlClient,
  migration: string,
  report: NodeReport,
): Promise<void> {
  await client.query(
    `INSERT INTO sluice.node (migration, node_id, incarnation, address, epoch, config_hash, saved_epoch)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (migration, node_id) DO UPDATE
        SET incarnation = excluded.incarnation, address = excluded.address, epoch = excluded.epoch,
            config_hash = excluded.config_hash, saved_epoch = excluded.saved_epoch,
            last_seen = clock_timestamp()`,
    [
      migration,
      report.nodeId,
      report.incarnation,
      report.address,
      report.epoch,
      report.configHash,
      report.savedEpoch,
    ],
  );
}

/** The answer to a hold: nothing of this node is in flight under this token. */
export async function reportHeld(
  client: SqlClient,
  input: {
    readonly migration: string;
    readonly epoch: number;
    readonly token: string;
    readonly nodeId: string;
    readonly incarnation: string;
  },
): Promise<void> {
  await client.query(
    `INSERT INTO sluice.hold (migration, epoch, token, node_id, incarnation) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (migration, epoch, token, node_id) DO UPDATE SET incarnation = excluded.incarnation`,
    [input.migration, input.epoch, input.token, input.nodeId, input.incarnation],
  );
}
