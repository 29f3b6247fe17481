import pg from "pg";
import type { ServerAddress } from "../../../src/backend/address.js";

/** Schema of what the load writes. `body` is kept out of line, so updates do not carry it. */
export const LOAD_SCHEMA = `
  CREATE TABLE item (id bigint PRIMARY KEY, v bigint NOT NULL, note text, body text);
  ALTER TABLE item ALTER body SET STORAGE EXTERNAL`;

export interface Load {
  readonly transactions: number;
  stop(): Promise<void>;
}

/**
 * Writers that insert, update, delete and move keys, several statements to a transaction, some rolled back.
 * Each writer keeps to keys of its own residue, so that none fails.
 */
export async function startLoad(
  address: ServerAddress,
  options: { readonly writers: number; readonly keys: number },
): Promise<Load> {
  const state = { isStopped: false, transactions: 0 };
  const clients = await Promise.all(
    Array.from({ length: options.writers }, async () => {
      const client = new pg.Client({
        host: address.host,
        port: address.port,
        database: address.database,
        user: address.user,
      });
      await client.connect();
      return client;
    }),
  );
  const running = clients.map(async (client, writer) => {
    while (!state.isStopped) {
      await writeOnce(client, { writer, ...options });
      state.transactions++;
    }
    await client.end();
  });
  return {
    get transactions() {
      return state.transactions;
    },
    stop: async () => {
      state.isStopped = true;
      await Promise.all(running);
    },
  };
}

async function writeOnce(
  client: pg.Client,
  options: { readonly writer: number; readonly writers: number; readonly keys: number },
): Promise<void> {
  const key = () =>
    Math.floor((Math.random() * options.keys) / options.writers) * options.writers + options.writer;
  await client.query("BEGIN");
  const count = 1 + Math.floor(Math.random() * 3);
  for (let i = 0; i < count; i++) {
    const dice = Math.random();
    if (dice < 0.35)
      await client.query(
        `INSERT INTO item VALUES ($1::bigint, 1, 'new', repeat('b' || $1::bigint, 900)) ON CONFLICT DO NOTHING`,
        [key()],
      );
    else if (dice < 0.75)
      await client.query("UPDATE item SET v = v + 1, note = md5(v::text) WHERE id = $1", [key()]);
    else if (dice < 0.85)
      await client.query(
        `UPDATE item SET id = $2::bigint WHERE id = $1::bigint AND NOT EXISTS (SELECT FROM item WHERE id = $2::bigint)`,
        [key(), key()],
      );
    else await client.query("DELETE FROM item WHERE id = $1", [key()]);
  }
  await client.query(Math.random() < 0.1 ? "ROLLBACK" : "COMMIT");
}
