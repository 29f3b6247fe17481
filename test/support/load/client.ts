import { performance } from "node:perf_hooks";
import pg from "pg";
import { History, type RowState } from "./history.js";
import { LatencyLog } from "./latency.js";
import { createRandom, type Random } from "./random.js";

export interface LoadAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

export interface ClientOptions {
  readonly client: number;
  readonly addresses: readonly LoadAddress[];
  readonly seed: number;
  /** Tenants are numbered from 1 to this. */
  readonly tenants: number;
  /** Pause between two operations, ms. */
  readonly thinkMs: number;
}

export interface ClientError {
  readonly client: number;
  readonly atMs: number;
  readonly operation: string;
  readonly message: string;
  readonly sqlState: string | null;
}

/** What a write would leave behind, noted before it is sent. */
interface Intent {
  readonly note: (outcome: "acknowledged" | "unknown") => void;
}

type Operation = (intend: (intent: Intent) => void) => Promise<void>;

const KEPT_ROWS = 60;

/**
 * One connection that writes and reads as an application does, and remembers what it was told. An answer
 * that did not come makes the outcome unknown; an error of the database means that nothing was done.
 */
export class LoadClient {
  readonly history: History;
  readonly latency = new LatencyLog();
  readonly errors: ClientError[] = [];
  readonly #options: ClientOptions;
  readonly #random: Random;
  readonly #operations: readonly (readonly [weight: number, name: string, run: Operation])[];
  #connection: pg.Client | null = null;
  #attempts: number;
  #isStopping = false;
  #finished: Promise<void> = Promise.resolve();

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#attempts = options.client;
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

  /** Resolves when the first connection is there; the work goes on until `stop`. */
  async start(): Promise<void> {
    this.#connection = await this.#connect();
    this.#finished = this.#work();
  }

  /** Ends after the operation under way, so that its answer is known. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#finished;
    await this.#connection?.end().catch(() => {});
    this.#connection = null;
  }

  async #work(): Promise<void> {
    while (!this.#isStopping) {
      await this.#once();
      await new Promise((resolve) =>
        setTimeout(resolve, this.#options.thinkMs * (0.5 + this.#random.next())),
      );
    }
  }

  async #once(): Promise<void> {
    const [, name, run] = this.#choose();
    const intents: Intent[] = [];
    const startedAtMs = performance.now();
    try {
      this.#connection ??= await this.#connect();
      await run((intent) => intents.push(intent));
      for (const intent of intents) intent.note("acknowledged");
      if (intents.length > 0) this.history.counted("acknowledged");
    } catch (error) {
      const isUnknown = intents.length > 0 && !isRefusal(error);
      if (isUnknown) {
        for (const intent of intents) intent.note("unknown");
        this.history.counted("unknown");
      }
      this.#failed(name, error);
      await this.#recover(error);
    } finally {
      this.latency.add(startedAtMs, performance.now() - startedAtMs);
    }
  }

  #choose() {
    const total = this.#operations.reduce((sum, [weight]) => sum + weight, 0);
    let at = this.#random.below(total);
    for (const operation of this.#operations) {
      at -= operation[0];
      if (at < 0) return operation;
    }
    throw new Error("weights do not add up");
  }

  #failed(operation: string, error: unknown): void {
    this.errors.push({
      client: this.#options.client,
      atMs: performance.now(),
      operation,
      message: error instanceof Error ? error.message : String(error),
      sqlState: sqlStateOf(error),
    });
  }

  async #recover(error: unknown): Promise<void> {
    const connection = this.#connection;
    if (connection === null) return;
    if (isRefusal(error)) {
      // Out of the failed transaction, if there is one.
      const isOpen = await connection.query("ROLLBACK").then(
        () => true,
        () => false,
      );
      if (isOpen) return;
    }
    this.#connection = null;
    await connection.end().catch(() => {});
  }

  async #connect(): Promise<pg.Client> {
    const { addresses, client } = this.#options;
    // Clients are spread over the nodes; one that cannot connect tries the next.
    const address = addresses[this.#attempts++ % addresses.length];
    if (!address) throw new Error("no address");
    const connection = new pg.Client({
      ...address,
      application_name: `load-${client}`,
      connectionTimeoutMillis: 10_000,
    });
    connection.on("error", () => {
      if (this.#connection === connection) this.#connection = null;
    });
    await connection.connect();
    this.#attempts = client;
    return connection;
  }

  async #query(
    name: string,
    text: string,
    values: readonly unknown[],
  ): Promise<pg.QueryResult<Record<string, unknown>>> {
    if (this.#connection === null) throw new Error("connection lost");
    return await this.#connection.query({ name, text, values: [...values] });
  }

  /** Runs in a transaction; the outcome is known only when COMMIT is answered. */
  async #transaction(body: () => Promise<void>): Promise<void> {
    await this.#connection?.query("BEGIN");
    await body();
    const result = await this.#connection?.query("COMMIT");
    if (result?.command !== "COMMIT")
      throw new Error(`COMMIT was answered with ${result?.command}`);
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
    await this.#transaction(async () => {
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
    await this.#transaction(async () => {
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
    await this.#transaction(async () => {
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

/** The database answered, and not with what was acknowledged before. */
class Stale extends Error {}

function expectOne(
  rows: readonly Record<string, unknown>[],
  what: string,
): Record<string, unknown> {
  const [row] = rows;
  if (rows.length !== 1 || !row) throw new Stale(`${rows.length} rows instead of one: ${what}`);
  return row;
}

function longText(random: Random): string {
  return Array.from({ length: 100 }, () => random.uuid()).join("");
}

function sqlStateOf(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}

/**
 * An error that says that nothing was done. Not: a lost connection, and what the server sends while it
 * takes a connection away (class 08, 57P); a COMMIT under way may have happened then.
 */
function isRefusal(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== null && !state.startsWith("08") && !state.startsWith("57P") && state !== "40003";
}
