import { PgoutputPlugin } from "pg-logical-replication";
import { afterAll, beforeAll, expect, it } from "vitest";
import { decodePgoutput, type Relation } from "../../../src/replication/pgoutput.js";
import { tupleTexts } from "../../../src/replication/tuple.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

/** Our decoder against another implementation, on what a real server writes. */
let server: PostgresServer;
let changes: readonly Buffer[];

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("app");
  await server.sql(
    "app",
    `CREATE TABLE t (id text PRIMARY KEY, a text, "Odd Name" text);
     CREATE TABLE f (a text, b text);
     ALTER TABLE f REPLICA IDENTITY FULL;
     CREATE PUBLICATION p FOR ALL TABLES`,
  );
  await server.sql("app", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
  const statements = [
    "INSERT INTO t SELECT n, repeat('é', n), NULL FROM generate_series(1, 20) n",
    "BEGIN; INSERT INTO f VALUES ('1', NULL), (NULL, ''); UPDATE t SET a = 'new'; COMMIT",
    "UPDATE t SET id = 'other' WHERE id = '3'",
    "UPDATE f SET b = 'x' WHERE a = '1'",
    "DELETE FROM t WHERE id IN ('4', '5')",
    "DELETE FROM f",
    "SELECT pg_logical_emit_message(true, 'sluice', 'hello')",
    "TRUNCATE t",
  ];
  for (const statement of statements) await server.sql("app", statement);
  const rows = await server.sql(
    "app",
    `SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL,
       'proto_version', '1', 'publication_names', 'p', 'messages', 'true')`,
  );
  changes = rows.map((row) => row.data as Buffer);
});
afterAll(async () => await server[Symbol.asyncDispose]());

it("says of every message what pg-logical-replication says", () => {
  expect(changes.length).toBeGreaterThan(60);
  const ours = changes.flatMap(decoder());
  const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["p"], messages: true });
  const theirs = changes.flatMap((change) => described(plugin.parse(change)));
  expect(ours).toEqual(theirs);
  expect(new Set(ours.map(([kind]) => kind))).toEqual(
    new Set(["begin", "commit", "relation", "insert", "update", "delete", "message", "truncate"]),
  );
});

type Said = readonly unknown[];

function decoder(): (change: Buffer) => Said[] {
  const relations = new Map<number, Relation>();
  const rowOf = (id: number, bytes: Buffer, at: number) => {
    const names = relations.get(id)?.columns.map((column) => column.name) ?? [];
    return Object.fromEntries(tupleTexts({ bytes, at }).map((value, n) => [names[n], value]));
  };
  /** Only the key is sent, the other columns are NULL: as the other side shows it. */
  const keyOf = (id: number, bytes: Buffer, at: number) => {
    const keys = relations.get(id)?.columns.filter((column) => column.isKey) ?? [];
    const row = rowOf(id, bytes, at);
    return Object.fromEntries(keys.map(({ name }) => [name, row[name]]));
  };
  return (change) => {
    const said: Said[] = [];
    const nameOf = (id: number) => relations.get(id)?.name;
    decodePgoutput(change, 0, change.length, {
      begin: (_lsn, _time, xid) => said.push(["begin", xid]),
      commit: () => said.push(["commit"]),
      origin: (name) => said.push(["origin", name]),
      relation: (relation) => {
        relations.set(relation.id, relation);
        said.push(["relation", relation.schema, relation.name, relation.columns.length]);
      },
      insert: (id, bytes, at) => said.push(["insert", nameOf(id), rowOf(id, bytes, at)]),
      update: (id, bytes, oldAt, isWhole, at) => {
        const old = oldAt < 0 ? null : isWhole ? rowOf(id, bytes, oldAt) : keyOf(id, bytes, oldAt);
        said.push(["update", nameOf(id), old, rowOf(id, bytes, at)]);
      },
      delete: (id, bytes, at) => {
        const isWhole = relations.get(id)?.identity === "f";
        said.push(["delete", nameOf(id), (isWhole ? rowOf : keyOf)(id, bytes, at)]);
      },
      truncate: (ids) => said.push(["truncate", ids.map(nameOf)]),
      message: ({ prefix, content, isTransactional }) =>
        said.push(["message", prefix, content, isTransactional]),
    });
    return said;
  };
}

function described(message: ReturnType<PgoutputPlugin["parse"]>): Said[] {
  switch (message.tag) {
    case "begin":
      return [["begin", message.xid]];
    case "commit":
      return [["commit"]];
    case "origin":
      return [["origin", message.originName]];
    case "relation":
      return [["relation", message.schema, message.name, message.columns.length]];
    case "insert":
      return [["insert", message.relation.name, message.new]];
    case "update":
      return [["update", message.relation.name, message.old ?? message.key, message.new]];
    case "delete":
      return [["delete", message.relation.name, message.old ?? message.key]];
    case "truncate":
      return [["truncate", message.relations.map((relation) => relation.name)]];
    case "message":
      return [
        ["message", message.prefix, Buffer.from(message.content).toString(), message.transactional],
      ];
    case "type":
      return [];
    default:
      return [["unknown", message satisfies never]];
  }
}
