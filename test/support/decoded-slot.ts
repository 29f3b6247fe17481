import { PgoutputPlugin } from "pg-logical-replication";
import type { PostgresServer } from "./postgres.js";

/** A change as another decoder than ours tells it; values as texts. */
export interface Decoded {
  readonly kind: "insert" | "update" | "delete" | "message" | "commit";
  readonly lsn: string;
  readonly xid: string;
  /** The new row; the key's columns of a deleted one; empty for what is no row. */
  readonly row: Readonly<Record<string, string>>;
}

/** A slot that is read by SQL, and by none of our code. */
export interface DecodedSlot extends AsyncDisposable {
  /** What has been committed since the last call; at most some transactions more than `limit` changes. */
  next(limit?: number): Promise<readonly Decoded[]>;
}

/** Sees changes of the table, emitted messages and commits. @param name of slot and publication */
export async function createDecodedSlot(
  server: PostgresServer,
  input: { readonly database: string; readonly table: string; readonly name: string },
): Promise<DecodedSlot> {
  const { database, table, name } = input;
  await server.sql(database, `CREATE PUBLICATION ${name} FOR TABLE ${table}`);
  await server.sql(database, `SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  return {
    next: async (limit) => {
      const rows = await server.sql(
        database,
        `SELECT lsn::text, xid::text, data FROM pg_logical_slot_get_binary_changes('${name}', NULL,
           ${limit ?? "NULL"}, 'proto_version', '1', 'publication_names', '${name}', 'messages', 'true')`,
      );
      const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: [name] });
      return rows.flatMap(({ lsn, xid, data }) => {
        const change = described(plugin.parse(data as Buffer));
        return change === null ? [] : [{ ...change, lsn: String(lsn), xid: String(xid) }];
      });
    },
    [Symbol.asyncDispose]: async () => {
      await server.sql(database, `SELECT pg_drop_replication_slot('${name}')`);
      await server.sql(database, `DROP PUBLICATION ${name}`);
    },
  };
}

function described(
  message: ReturnType<PgoutputPlugin["parse"]>,
): Pick<Decoded, "kind" | "row"> | null {
  switch (message.tag) {
    case "insert":
    case "update":
      return { kind: message.tag, row: texts(message.new) };
    case "delete":
      return { kind: message.tag, row: texts(message.key ?? message.old ?? {}) };
    case "message":
    case "commit":
      return { kind: message.tag, row: {} };
    default:
      return null;
  }
}

function texts(row: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)]));
}
