import { type ClientHistory, History, type RowState } from "./history.js";
import { chooseWeighted, createRandom, type Random } from "./random.js";
import {
  expectOne,
  type Intent,
  type LoadAddress,
  LoadSession,
  type Operation,
  type Rows,
  Stale,
} from "./session.js";

export interface ClientOptions {
  readonly client: number;
  readonly addresses: readonly LoadAddress[];
  readonly seed: number;
  /** Tenants are numbered from 1 to this. */
  readonly tenants: number;
  /** Pause between two operations, ms. */
  readonly thinkMs: number;
}

const KEPT_ROWS = 60;

/** One connection that writes and reads as the shop's application does, and remembers what it was told. */
export class LoadClient {
  readonly history: History;
  readonly session: LoadSession;
  readonly #options: ClientOptions;
  readonly #random: Random;
  readonly #operations: readonly (readonly [weight: number, name: string, run: Operation])[];

  constructor(options: ClientOptions) {
    this.#options = options;
    this.session = new LoadSession(options);
    this.history = new History(options.client);
    this.#random = createRandom(options.seed * 1_000 + options.client);
    this.#operations = [
      [22, "insert event", this.#insertEvent],
      [16, "update event", this.#updateEvent],
      [6, "move event", this.#moveEvent],
      [8, "delete event", this.#deleteEvent],
      [14, "place order", this.#placeOrder],
      [10, "update order", this.#updateOrder],
      [4, "cancel order", this.#cancelOrder],
      [4, "add user", this.#addUser],
      [16, "read own row", this.#readOwnRow],
    ];
  }

  /** One operation and the pause after it. */
  async once(): Promise<void> {
    const [, name, run] = chooseWeighted(this.#random, this.#operations);
    await this.session.attempt(name, run);
    await new Promise((resolve) =>
      setTimeout(resolve, this.#options.thinkMs * (0.5 + this.#random.next())),
    );
  }

  snapshot(): ClientHistory {
    return this.history.snapshot();
  }

  async #query(name: string, text: string, values: readonly unknown[]): Promise<Rows> {
    return await this.session.query({ name, text, values: [...values] });
  }

  #tenant(): number {
    return 1 + this.#random.below(this.#options.tenants);
  }

  /** Whether the write of `state` is known to be there or not is told later, by its outcome. */
  #intent(table: "events" | "orders", id: string, state: RowState | null): Intent {
    return {
      note: (outcome) => {
        if (outcome === "acknowledged") this.history.wrote(table, id, state);
        else this.history.mayHaveWritten(table, id, state);
      },
    };
  }

  #increment(tenant: number): Intent {
    return { note: (outcome) => this.history.incremented(tenant, outcome) };
  }

  #insertEvent: Operation = async (intend) => {
    const id = this.#random.uuid();
    const tenant = this.#tenant();
    intend(this.#intent("events", id, { tenant, revision: 0, lines: 0 }));
    const body = this.#random.below(20) === 0 ? longText(this.#random) : null;
    const { rows } = await this.#query(
      "insert_event",
      `INSERT INTO events (tenant_id, id, client, kind, payload, body)
       VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
      [tenant, id, this.#options.client, "load", JSON.stringify({ id, tenant }), body],
    );
    expectOne(rows, "inserted event");
  };

  #updateEvent: Operation = async (intend) => {
    const row = this.#random.pick(this.history.present("events"));
    if (!row?.acknowledged) return;
    const { tenant, revision } = row.acknowledged;
    intend(this.#intent("events", row.id, { tenant, revision: revision + 1, lines: 0 }));
    const { rows } = await this.#query(
      "update_event",
      "UPDATE events SET revision = revision + 1 WHERE tenant_id = $1 AND id = $2 RETURNING revision",
      [tenant, row.id],
    );
    expectOne(rows, "updated event");
  };

  #moveEvent: Operation = async (intend) => {
    const row = this.#random.pick(this.history.present("events"));
    const to = this.#tenant();
    if (!row?.acknowledged || to === row.acknowledged.tenant) return;
    const { tenant, revision } = row.acknowledged;
    intend(this.#intent("events", row.id, { tenant: to, revision, lines: 0 }));
    await this.session.transaction(async () => {
      const { rowCount } = await this.#query(
        "move_event",
        "UPDATE events SET tenant_id = $1 WHERE tenant_id = $2 AND id = $3",
        [to, tenant, row.id],
      );
      if (rowCount !== 1) throw new Stale(`${rowCount} events moved instead of one`);
    });
  };

  #deleteEvent: Operation = async (intend) => {
    const rows = this.history.present("events");
    const row = this.#random.pick(rows);
    if (!row?.acknowledged || rows.length < KEPT_ROWS) return;
    intend(this.#intent("events", row.id, null));
    const { rowCount } = await this.#query(
      "delete_event",
      "DELETE FROM events WHERE tenant_id = $1 AND id = $2",
      [row.acknowledged.tenant, row.id],
    );
    if (rowCount !== 1) throw new Stale(`${rowCount} events deleted instead of one`);
  };

  #placeOrder: Operation = async (intend) => {
    const id = this.#random.uuid();
    const tenant = this.#tenant();
    const lines = 1 + this.#random.below(3);
    intend(this.#intent("orders", id, { tenant, revision: 0, lines }));
    intend(this.#increment(tenant));
    const note = this.#random.below(10) === 0 ? longText(this.#random) : "by the load";
    await this.session.transaction(async () => {
      const { rows } = await this.#query(
        "some_user",
        "SELECT id FROM users WHERE tenant_id = $1 ORDER BY id LIMIT 1",
        [tenant],
      );
      await this.#query(
        "insert_order",
        "INSERT INTO orders (tenant_id, id, user_id, total, note) VALUES ($1, $2, $3, $4, $5)",
        [tenant, id, expectOne(rows, "user of a tenant").id, "12.50", note],
      );
      for (let line = 1; line <= lines; line++)
        await this.#query(
          "insert_item",
          `INSERT INTO order_items (tenant_id, order_id, line, sku, quantity, price)
           VALUES ($1, $2, $3, $4, $5, $6)`,
          [tenant, id, line, `sku-${line}`, line, "6.25"],
        );
      await this.#query(
        "count_write",
        "UPDATE tenants SET writes = writes + 1, balance = balance + $2 WHERE tenant_id = $1",
        [tenant, "0.10"],
      );
    });
  };

  #updateOrder: Operation = async (intend) => {
    const row = this.#random.pick(this.history.present("orders"));
    if (!row?.acknowledged) return;
    const { tenant, revision, lines } = row.acknowledged;
    intend(this.#intent("orders", row.id, { tenant, revision: revision + 1, lines }));
    const { rows } = await this.#query(
      "update_order",
      `UPDATE orders SET revision = revision + 1, state = 'paid'
       WHERE tenant_id = $1 AND id = $2 RETURNING revision`,
      [tenant, row.id],
    );
    expectOne(rows, "updated order");
  };

  #cancelOrder: Operation = async (intend) => {
    const rows = this.history.present("orders");
    const row = this.#random.pick(rows);
    if (!row?.acknowledged || rows.length < KEPT_ROWS / 2) return;
    intend(this.#intent("orders", row.id, null));
    const { rowCount } = await this.#query(
      "delete_order",
      "DELETE FROM orders WHERE tenant_id = $1 AND id = $2",
      [row.acknowledged.tenant, row.id],
    );
    if (rowCount !== 1) throw new Stale(`${rowCount} orders deleted instead of one`);
  };

  #addUser: Operation = async (intend) => {
    const tenant = this.#tenant();
    intend(this.#increment(tenant));
    await this.session.transaction(async () => {
      const { rows } = await this.#query(
        "insert_user",
        "INSERT INTO users (tenant_id, email, tags) VALUES ($1, $2, $3) RETURNING id",
        [tenant, `load${this.#options.client}@example.com`, ["load"]],
      );
      expectOne(rows, "id of a new user");
      await this.#query(
        "count_write",
        "UPDATE tenants SET writes = writes + 1, balance = balance + $2 WHERE tenant_id = $1",
        [tenant, "0.10"],
      );
    });
  };

  #readOwnRow: Operation = async () => {
    const table = this.#random.below(2) === 0 ? "events" : "orders";
    const row = this.#random.pick(this.history.present(table));
    if (!row?.acknowledged) return;
    const { rows } = await this.#query(
      `read_${table}`,
      `SELECT revision FROM ${table} WHERE tenant_id = $1 AND id = $2`,
      [row.acknowledged.tenant, row.id],
    );
    const revision = expectOne(rows, `own row of ${table}`).revision;
    if (revision !== row.acknowledged.revision)
      throw new Stale(`read revision ${String(revision)} after ${row.acknowledged.revision}`);
  };
}

function longText(random: Random): string {
  return Array.from({ length: 100 }, () => random.uuid()).join("");
}
