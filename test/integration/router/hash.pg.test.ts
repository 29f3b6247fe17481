import { afterAll, beforeAll, expect, test } from "vitest";
import { type KeyType, shardOfText } from "../../../src/topology/hash.js";
import { shardOfSql } from "../../../src/topology/hash-sql.js";
import { otherCollation } from "../../support/collation.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("hash");
  await server.sql("hash", `CREATE COLLATION another FROM ${await otherCollation(server)}`);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const SHARD_COUNTS = [1, 2, 3, 7, 16, 1000];
const VALUES = 3_000;

/** A column type, the type that the configuration calls it, and values of it in SQL. */
const COLUMNS: readonly (readonly [columnType: string, type: KeyType, values: string])[] = [
  ["int2", "bigint", "(-32768 + i * 21)::int2"],
  ["int4", "bigint", "(hashint4(i::int4))::int4"],
  ["int8", "bigint", "CASE WHEN i < 1000 THEN i - 500 ELSE hashint8extended(i, 1) END"],
  ["uuid", "uuid", "md5(i::text)::uuid"],
  ["text", "varchar", "repeat(chr(33 + i % 60), i % 40) || chr(160 + i) || i || '日本語😀'"],
  ["varchar(60)", "varchar", "repeat('ab', i % 29)"],
  ["text COLLATE another", "varchar", "'É' || i"],
];

test.each(COLUMNS)(
  "%s: the same shard here, in SQL and by PARTITION BY HASH",
  async (...column) => {
    const [columnType, type, values] = column;
    await server.sql("hash", "DROP TABLE IF EXISTS keyed, partitioned");
    await server.sql("hash", `CREATE TABLE keyed (k ${columnType})`);
    await server.sql("hash", `CREATE TABLE partitioned (k ${columnType}) PARTITION BY HASH (k)`);
    await server.sql(
      "hash",
      `INSERT INTO keyed SELECT ${values} FROM generate_series(1, ${VALUES}) i`,
    );
    const shards = SHARD_COUNTS.map((count) => `${shardOfSql('"k"', type, count)} AS s${count}`);
    const remainders = SHARD_COUNTS.map(
      (count) =>
        `satisfies_hash_partition('partitioned'::regclass, ${count}, ${shardOfSql("k", type, count)}, k) AS p${count}`,
    );
    const rows = await server.sql(
      "hash",
      `SELECT k::text AS key, ${[...shards, ...remainders].join(", ")} FROM keyed`,
    );
    expect(rows).toHaveLength(VALUES);
    for (const row of rows) {
      for (const count of SHARD_COUNTS) {
        expect([row[`s${count}`], row[`p${count}`]]).toEqual([
          shardOfText(String(row.key), type, count),
          true,
        ]);
      }
    }
  },
);

test("NULL has no shard", async () => {
  for (const type of ["bigint", "uuid", "varchar"] as const) {
    const [row] = await server.sql("hash", `SELECT ${shardOfSql("NULL", type, 2)} AS shard`);
    expect(row).toEqual({ shard: null });
  }
});

test("a column name is quoted by its owner and read once", async () => {
  const expression = shardOfSql('"odd ""name"', "bigint", 2);
  expect(expression.split('"odd ""name"')).toHaveLength(2);
  const [row] = await server.sql(
    "hash",
    `SELECT ${expression} AS shard FROM (VALUES (3)) v("odd ""name")`,
  );
  expect(row).toEqual({ shard: shardOfText("3", "bigint", 2) });
});
