/** A table as a lane writes it. Columns are named by their position. */
export interface AppliedTable {
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly AppliedColumn[];
  /** Unique and NOT NULL, all in the replica identity; null: rows are matched on the whole identity. */
  readonly keyColumns: readonly number[] | null;
  /** What a WHERE compares: the key, with the sharding column where it is known, or the whole identity. */
  readonly matchColumns: readonly number[];
  /** A condition on the row `t` as it stands: a change touches no other row of its key. null: any row. */
  readonly ownRows: string | null;
  /**
   * R9: its deletes come to every shard, as they do not say which one had the row. To find none is no news then,
   * and a row may come and go elsewhere between two changes that are seen here.
   */
  readonly isKeyOnly: boolean;
  /**
   * Has constraints that are checked later. They are no arbiter of ON CONFLICT, and PostgreSQL does not check them
   * in sessions with `session_replication_role = replica`: see `takeOutDoubles`.
   */
  readonly isDeferrable: boolean;
  /** A batch may be folded to its net change per key: a key, and no other unique constraint. */
  readonly isFoldable: boolean;
  /** GENERATED ALWAYS AS IDENTITY on the written side: PostgreSQL lets no UPDATE set them. */
  readonly alwaysIdentity: ReadonlySet<number>;
}

export interface AppliedColumn {
  readonly name: string;
  /** What a cast needs. */
  readonly type: string;
  readonly notNull: boolean;
}

/** For messages. */
export function describeTable(table: { readonly schema: string; readonly name: string }): string {
  return `${table.schema}.${table.name}`;
}
