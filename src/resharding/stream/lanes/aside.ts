import type { SqlClient } from "../../../backend/sql-client.js";
import { isVisible, parseSnapshot, type Snapshot, widenXid } from "../../../core/snapshot.js";
import type { TablePlan } from "../../model/migration.js";
import type { LaneId } from "./lane-session.js";

/** What becomes of a change to a key that the lanes could not decide. */
export type AsideVerdict =
  /** Nothing is known about the key. */
  | "apply"
  /** Set aside, or settled from a snapshot that has this change. */
  | "skip";

export type AsideReason = "missing" | "exists" | "toast";

/** A key by "schema.table" and its columns' texts. */
export function asideName(
  plan: Pick<TablePlan, "schema" | "name">,
  key: readonly string[],
): string {
  return JSON.stringify([plan.schema, plan.name, ...key]);
}

/**
 * R9, R33: the keys of one shard that are set aside, as a batch sees them. Written by every lane of the stream
 * into this shard and by settlement, so it is read anew under each batch's lock.
 */
export class AsideKeys {
  readonly #id: LaneId;
  /** null: not settled yet. */
  readonly #keys = new Map<string, Snapshot | null>();

  constructor(id: LaneId) {
    this.#id = id;
  }

  async load(client: SqlClient): Promise<void> {
    const { rows } = await client.query<{
      schema_name: string;
      table_name: string;
      key: string[];
      snapshot: string | null;
    }>(
      `SELECT schema_name, table_name, key, snapshots[$3::integer + 1] AS snapshot
       FROM sluice.aside WHERE migration = $1 AND stream = $2`,
      [this.#id.ref.id, this.#id.stream, this.#id.fromShard],
    );
    this.#keys.clear();
    for (const row of rows)
      this.#keys.set(
        asideName({ schema: row.schema_name, name: row.table_name }, row.key),
        row.snapshot === null ? null : parseSnapshot(row.snapshot),
      );
  }

  get isEmpty(): boolean {
    return this.#keys.size === 0;
  }

  /** After settlement a change counts only when the settled row does not have it (R1, for one key). */
  judge(plan: TablePlan, key: readonly string[], xid: number): AsideVerdict {
    const snapshot = this.#keys.get(asideName(plan, key));
    if (snapshot === undefined) return "apply";
    if (snapshot === null) return "skip";
    return isVisible(widenXid(xid, snapshot), snapshot) ? "skip" : "apply";
  }

  /** In the batch's transaction: the keys and what becomes of them commit together. */
  async setAside(
    client: SqlClient,
    input: {
      readonly plan: TablePlan;
      readonly keys: readonly (readonly string[])[];
      readonly reason: AsideReason;
    },
  ): Promise<void> {
    const { plan, reason } = input;
    // No statement may touch a row twice.
    const keys = new Map(input.keys.map((key) => [asideName(plan, key), key]));
    if (keys.size === 0) return;
    await client.query(
      `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason)
       SELECT $1, $2, $3, $4, ${KEY_OF_JSON}, $5, $6 FROM json_array_elements($7::json) AS k
       ON CONFLICT (migration, stream, schema_name, table_name, key)
       DO UPDATE SET settled_at = NULL, snapshots = NULL, reason = excluded.reason`,
      [
        this.#id.ref.id,
        this.#id.stream,
        plan.schema,
        plan.name,
        this.#id.fromShard,
        reason,
        JSON.stringify([...keys.values()]),
      ],
    );
    for (const name of keys.keys()) this.#keys.set(name, null);
  }
}

/** A key out of the JSON array `k.value` of its texts: arrays of arrays are no parameter of PostgreSQL's. */
export const KEY_OF_JSON = `ARRAY(SELECT e.text FROM json_array_elements_text(k.value)
  WITH ORDINALITY AS e (text, at) ORDER BY e.at)`;
