import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectSql, type SqlClient } from "../../../src/backend/sql-client.js";
import type { AppliedTable } from "../../../src/replication/apply/applied-table.js";
import { TableBatch } from "../../../src/replication/apply/table-batch.js";
import { TableWriter, type Update } from "../../../src/replication/apply/table-writer.js";
import { LaneRowExists } from "../../../src/replication/stream-errors.js";
import { encodeTuple, type Tuple } from "../../../src/replication/tuple.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let client: SqlClient;

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("batch");
  client = await connectSql(server.address("batch"), { applicationName: "test" });
  await client.query(
    "CREATE TABLE public.item (id bigint PRIMARY KEY, tenant bigint, slug text UNIQUE)",
  );
});

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const TABLE: AppliedTable = {
  schema: "public",
  name: "item",
  columns: [
    { name: "id", type: "bigint", notNull: true },
    { name: "tenant", type: "bigint", notNull: true },
    { name: "slug", type: "text", notNull: false },
  ],
  keyColumns: [0],
  matchColumns: [0],
  ownRows: null,
  isKeyOnly: true,
  isDeferrable: false,
  isFoldable: false,
  alwaysIdentity: new Set(),
};

/** Counts what is sent; the rows are PostgreSQL's. */
class CountingWriter extends TableWriter {
  readonly sent: string[] = [];
  override async insert(rows: readonly Tuple[]) {
    if (rows.length > 0) this.sent.push(`insert ${rows.length}`);
    return await super.insert(rows);
  }
  override async delete(matches: readonly Tuple[]) {
    if (matches.length > 0) this.sent.push(`delete ${matches.length}`);
    return await super.delete(matches);
  }
  override async update(updates: readonly Update[], options: { readonly setsKey: boolean }) {
    this.sent.push(`update ${updates.length}`);
    return await super.update(updates, options);
  }
}

const row = (id: number, slug: string) => encodeTuple([String(id), "1", slug]);
const key = (id: number) => encodeTuple([String(id), null, null]);

async function itemsOf(): Promise<readonly string[]> {
  const { rows } = await client.query<{ item: string }>(
    "SELECT id || ' ' || slug AS item FROM public.item ORDER BY id",
  );
  return rows.map(({ item }) => item);
}

const attempt = async <T>(work: () => Promise<T>): Promise<{ readonly value: T } | null> => {
  await client.query("SAVEPOINT attempt");
  try {
    return { value: await work() };
  } catch (error) {
    if (!(error instanceof LaneRowExists)) throw error;
    await client.query("ROLLBACK TO SAVEPOINT attempt");
    return null;
  }
};

describe("R9: deletes that come to every shard", () => {
  it.each([
    { isFoldable: true, sent: ["delete 53", "update 40", "insert 3"] },
    { isFoldable: false, sent: ["delete 53", ...Array<string>(40).fill("update 1"), "insert 2"] },
  ])("are one statement per batch, folded: $isFoldable", async ({ isFoldable, sent }) => {
    await client.query("TRUNCATE public.item");
    await client.query(
      "INSERT INTO public.item SELECT i, 1, 's' || i FROM generate_series(1, 45) i",
    );
    const table = { ...TABLE, isFoldable };
    const batch = new TableBatch(table);
    const writer = new CountingWriter(client, table, { isTolerant: true });
    for (let id = 1; id <= 40; id++) {
      batch.update(row(id, `t${id}`), row(id, `t${id}`));
      // Of a row that another shard has.
      batch.delete(key(1_000 + id));
    }
    for (let id = 41; id <= 45; id++) batch.delete(key(id));
    for (let id = 2_000; id < 2_008; id++) batch.delete(key(id));
    // Given away here, with the unique value of a row that has gone.
    batch.insert(row(41, "s41"));
    batch.insert(row(3_000, "s42"));
    if (isFoldable) batch.insert(row(2_000, "anew"));
    await client.query("BEGIN");
    expect(await batch.flush(writer, attempt)).toEqual([]);
    await client.query("COMMIT");
    expect(writer.sent).toEqual(sent);
    const expected = Array.from({ length: 40 }, (_, index) => `${index + 1} t${index + 1}`);
    expect(await itemsOf()).toEqual([
      ...expected,
      "41 s41",
      ...(isFoldable ? ["2000 anew"] : []),
      "3000 s42",
    ]);
  });

  it("keep their place where the batch has touched the key before", async () => {
    await client.query("TRUNCATE public.item");
    const batch = new TableBatch(TABLE);
    const writer = new CountingWriter(client, TABLE, { isTolerant: true });
    batch.insert(row(1, "a"));
    batch.delete(key(1));
    batch.delete(key(2));
    batch.insert(row(2, "a"));
    batch.delete(key(3));
    await batch.flush(writer, attempt);
    expect(writer.sent).toEqual(["delete 2", "insert 1", "delete 1", "insert 1"]);
    expect(await itemsOf()).toEqual(["2 a"]);
  });

  it("R33: a unique value that is taken costs the batch one try, and only its own row", async () => {
    await client.query("TRUNCATE public.item");
    await client.query("INSERT INTO public.item VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 1, 'taken')");
    const batch = new TableBatch(TABLE);
    const writer = new CountingWriter(client, TABLE, { isTolerant: true });
    batch.update(row(1, "c"), row(1, "c"));
    batch.update(row(2, "taken"), row(2, "taken"));
    await client.query("BEGIN");
    const unmet = await batch.flush(writer, attempt);
    await client.query("COMMIT");
    expect(unmet).toEqual([{ reason: "exists", rows: [row(2, "taken")] }]);
    expect(await itemsOf()).toEqual(["1 c", "2 b", "3 taken"]);
  });
});
