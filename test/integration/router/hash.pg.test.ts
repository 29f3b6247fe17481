import { afterAll, beforeAll, expect, test } from "vitest";
import { type KeyType, shardOfText } from "../../../src/topology/hash.js";
import { shardOfSql } from "../../../src/topology/hash-sql.js";
import { placementSql, remainderSql } from "../../../src/topology/placement-guard.js";
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
const GUARDED_COUNTS = [1, 2, 3, 4, 7, 12];
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
    const guards = GUARDED_COUNTS.map((count) => {
      const guard = (_: unknown, shard: number) =>
        placementSql("k", { dataType: type }, { shard, shardCount: count });
      return `(SELECT array_agg(n - 1) FROM unnest(ARRAY[${Array.from({ length: count }, guard).join(",")}])
        WITH ORDINALITY AS g(holds, n) WHERE holds)::text AS g${count}`;
    });
    const rows = await server.sql(
      "hash",
      `SELECT k::text AS key, ${[...shards, ...remainders, ...guards].join(", ")} FROM keyed`,
    );
    expect(rows).toHaveLength(VALUES);
    for (const row of rows) {
      for (const count of SHARD_COUNTS) {
        expect([row[`s${count}`], row[`p${count}`]]).toEqual([
          shardOfText(String(row.key), type, count),
          true,
        ]);
      }
      // The guard of this shard, and of no other, takes the row.
      for (const count of GUARDED_COUNTS)
        expect(row[`g${count}`]).toBe(`{${shardOfText(String(row.key), type, count)}}`);
    }
  },
);

test("the guard's arithmetic where the sum of hash and constant turns over", async () => {
  const half = 1n << 63n;
  const combine = 0x49a0f4dd15e5a8e3n;
  const edges = [-half, -combine, 0n, half - combine, combine];
  const hashes = edges.flatMap((edge) => [-2n, -1n, 0n, 1n, 2n].map((step) => edge + step));
  for (const hash of [...hashes, half - 1n].filter((one) => one >= -half && one < half)) {
    for (const shardCount of [2, 3, 5, 6, 8, 1000, 1 << 20]) {
      const sum = BigInt.asUintN(64, hash + combine);
      const shard = Number(sum % BigInt(shardCount));
      const other = (shard + 1) % shardCount;
      const [row] = await server.sql(
        "hash",
        `SELECT ${remainderSql(`(${hash})::int8`, { shard, shardCount })} AS here,
                ${remainderSql(`(${hash})::int8`, { shard: other, shardCount })} AS there`,
      );
      expect([hash, shardCount, row]).toEqual([hash, shardCount, { here: true, there: false }]);
    }
  }
});

test("a guard refuses NULL, as no shard has it", async () => {
  const guard = placementSql("k", { dataType: "bigint" }, { shard: 0, shardCount: 3 });
  const [row] = await server.sql(
    "hash",
    `SELECT ${guard} AS holds FROM (VALUES (NULL::int8)) v(k)`,
  );
  expect(row).toEqual({ holds: false });
});

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
