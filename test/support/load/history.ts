/** A row as the client would describe it; null: it is not there. */
export interface RowState {
  readonly tenant: number;
  /** Raised by each change: one too few is a lost write, one too many a doubled one. */
  readonly revision: number;
  /** Rows of other tables that belong to it, as the lines of an order. */
  readonly lines: number;
}

export interface OwnedRow {
  readonly table: string;
  readonly id: string;
  /** By the last acknowledged write. */
  readonly acknowledged: RowState | null;
  /**
   * Set when the outcome of the last write is unknown (the connection broke before the answer): either state
   * is right. The client leaves the row alone from then on.
   */
  readonly maybe: { readonly state: RowState | null } | null;
}

/** Writes that only add to a tenant's counter, by tenant. */
export interface Increments {
  readonly acknowledged: number;
  readonly unknown: number;
}

export interface ClientHistory {
  readonly client: number;
  readonly rows: readonly OwnedRow[];
  readonly increments: ReadonlyMap<number, Increments>;
}

/**
 * What one client knows about its own writes, and nothing else: the oracle judges by this and by the final
 * tables. A client owns its rows, so the order of its writes is the order that the database must show.
 */
export class History {
  readonly #client: number;
  readonly #rows = new Map<string, OwnedRow>();
  readonly #increments = new Map<number, Increments>();

  constructor(client: number) {
    this.#client = client;
  }

  /** Rows that are surely there and may be written. */
  present(table: string): readonly OwnedRow[] {
    return [...this.#rows.values()].filter(
      (row) => row.table === table && row.maybe === null && row.acknowledged !== null,
    );
  }

  wrote(table: string, id: string, state: RowState | null): void {
    this.#rows.set(`${table}/${id}`, { table, id, acknowledged: state, maybe: null });
  }

  mayHaveWritten(table: string, id: string, state: RowState | null): void {
    const key = `${table}/${id}`;
    const acknowledged = this.#rows.get(key)?.acknowledged ?? null;
    this.#rows.set(key, { table, id, acknowledged, maybe: { state } });
  }

  incremented(tenant: number, outcome: keyof Increments): void {
    const now = this.#increments.get(tenant) ?? { acknowledged: 0, unknown: 0 };
    this.#increments.set(tenant, { ...now, [outcome]: now[outcome] + 1 });
  }

  snapshot(): ClientHistory {
    return {
      client: this.#client,
      rows: [...this.#rows.values()],
      increments: new Map(this.#increments),
    };
  }
}
