import type { ServerAddress } from "../../backend/address.js";
import { connectSql, type SqlClient } from "../../backend/sql-client.js";
import { isMissingControlSchema } from "../../resharding/control/control-schema.js";
import { ENGINE_APPLICATION_PREFIX } from "../../resharding/control/sides.js";
import type { Side } from "../../resharding/model/migration.js";
import {
  DECISION_CHANNEL,
  type Decision,
  readDecisions,
} from "../../resharding/switch/decision.js";

/** What one server says of the migrations that it takes part in. */
export interface ShardView {
  readonly migrations: readonly MigrationView[];
}

export interface MigrationView {
  readonly id: string;
  readonly source: string;
  readonly destination: string;
  readonly publication: string;
  readonly side: Side;
  readonly shard: number;
  readonly state: "active" | "aborted" | "finalized";
  readonly createdAtMs: number;
  readonly decisions: readonly Decision[];
}

const CONNECT_TIMEOUT_MS = 2_000;
/** A server that does not answer in this time is taken as silent; the next look opens a new session. */
const STATEMENT_TIMEOUT_MS = 2_000;

/**
 * A standing session to one server, for the node's looks at decisions. LISTEN comes first and the first look
 * second, also after a reconnect, so that no hint is missed between them; a hint is only a reason to look
 * sooner.
 */
export class ShardWatcher {
  readonly address: ServerAddress;
  readonly place: string;
  readonly #onHint: () => void;
  #client: SqlClient | null = null;
  #opening: Promise<SqlClient> | null = null;
  #isClosed = false;
  /** Last good view; a silent server still counts with what it said. */
  lastView: ShardView | null = null;

  constructor(address: ServerAddress, onHint: () => void) {
    this.address = address;
    this.place = `${address.host}:${address.port}/${address.database}`;
    this.#onHint = onHint;
  }

  /** @returns null when the server is silent */
  async look(): Promise<ShardView | null> {
    try {
      const client = await this.client();
      const view = await readView(client);
      this.lastView = view;
      return view;
    } catch (error) {
      if (isMissingControlSchema(error)) {
        this.lastView = { migrations: [] };
        return this.lastView;
      }
      await this.#drop();
      return null;
    }
  }

  /** The session, for short statements of the node's own. @throws ServerUnreachable */
  async client(): Promise<SqlClient> {
    if (this.#client) return this.#client;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = null;
    });
    return await this.#opening;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#drop();
  }

  async #open(): Promise<SqlClient> {
    const client = await connectSql(this.address, {
      applicationName: `${ENGINE_APPLICATION_PREFIX}node`,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      lockTimeoutMs: 500,
    });
    client.on("notification", () => this.#onHint());
    client.once("end", () => {
      if (this.#client === client) this.#client = null;
    });
    await client.query(`LISTEN ${DECISION_CHANNEL}`);
    this.#client = client;
    if (this.#isClosed) await this.#drop();
    return client;
  }

  async #drop(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    if (client) await client[Symbol.asyncDispose]();
  }
}

async function readView(client: SqlClient): Promise<ShardView> {
  const result = await client.query<Omit<MigrationView, "decisions">>(
    `SELECT id, source, destination, publication, side, shard, state,
            (extract(epoch FROM created_at) * 1000)::float8 AS "createdAtMs"
       FROM sluice.migration ORDER BY created_at`,
  );
  const migrations: MigrationView[] = [];
  for (const row of result.rows) {
    migrations.push({ ...row, decisions: await readDecisions(client, row) });
  }
  return { migrations };
}
