import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  combinedHash,
  type KeyType,
  NOT_A_KEY,
  shardOfBinary,
  shardOfText,
  shardOfTextBytes,
} from "../../../src/topology/hash.js";

/** Checked against PostgreSQL 15's own functions: combined value, shard of 2, 3, 4, 8, 16. */
const VECTORS: readonly (readonly [
  KeyType,
  string,
  string,
  number,
  number,
  number,
  number,
  number,
])[] = [
  ["bigint", "0", "0c8440b74fd699b0", 0, 2, 0, 0, 0],
  ["bigint", "1", "9c7715e2970a8fb8", 0, 2, 0, 0, 8],
  ["bigint", "4294967296", "9c7715e2970a8fb8", 0, 2, 0, 0, 8],
  ["bigint", "2", "eb7b1343af5ea17a", 0, 0, 2, 2, 10],
  ["bigint", "3", "ef0d27b973ee34b9", 1, 1, 1, 1, 9],
  ["bigint", "4", "12a2462135e04123", 1, 0, 3, 3, 3],
  ["bigint", "5", "2235cea2c364331d", 1, 2, 1, 5, 13],
  ["bigint", "10", "08dd81b8e8ab9c67", 1, 1, 3, 7, 7],
  ["bigint", "11", "786f5630e42bb621", 1, 2, 1, 1, 1],
  ["bigint", "42", "afd30d9a116a5a62", 0, 0, 2, 2, 2],
  ["bigint", "100", "ea6420b190259259", 1, 2, 1, 1, 9],
  ["bigint", "1234", "c4e378d16e695b9a", 0, 0, 2, 2, 10],
  ["bigint", "-1", "0400bc251f3bafa5", 1, 2, 1, 5, 5],
  ["bigint", "-2", "676f259456486e2a", 0, 1, 2, 2, 10],
  ["bigint", "2147483647", "f5aa185b5e7fa17f", 1, 1, 3, 7, 15],
  ["bigint", "-9223372036854775808", "f5aa185b5e7fa17f", 1, 1, 3, 7, 15],
  ["bigint", "2147483648", "8e2a2eec347a3a76", 0, 0, 2, 6, 6],
  ["bigint", "-2147483648", "8e2a2eec347a3a76", 0, 0, 2, 6, 6],
  ["bigint", "9223372036854775807", "8e2a2eec347a3a76", 0, 0, 2, 6, 6],
  ["varchar", "", "fa8431e86a2568a6", 0, 2, 2, 6, 6],
  ["varchar", "a", "ec9335d598214f5e", 0, 2, 2, 6, 14],
  ["varchar", "abc", "7bfcf7ae85298aa5", 1, 1, 1, 5, 5],
  ["varchar", "test", "0699444682591d13", 1, 0, 3, 3, 3],
  ["varchar", "us-east-1", "618369cdc00d0246", 0, 2, 2, 6, 6],
  ["varchar", "admin@acme.com", "9ba8d4c8e8a52029", 1, 2, 1, 1, 9],
  ["varchar", "abcdefghijkl", "dc50f8b0863af069", 1, 1, 1, 1, 9],
  ["varchar", "abcdefghijklm", "eb751d72e08d2f96", 0, 1, 2, 6, 6],
  ["varchar", "日本語", "d9e8a1b65abbacbe", 0, 0, 2, 6, 14],
  ["uuid", "00000000-0000-0000-0000-000000000000", "0056c8a1c0433ba5", 1, 0, 1, 5, 5],
  ["uuid", "11111111-1111-1111-1111-111111111111", "4dfb780febabad9c", 0, 1, 0, 4, 12],
  ["uuid", "f54c49c1-47f6-4ca1-a108-782286e447c3", "70a610eb78d6f1d6", 0, 1, 2, 6, 6],
  ["uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff", "478fa676b27dfd81", 1, 1, 1, 1, 1],
];

test.each(VECTORS)("vector %s %s", (type, key, combined, ...shards) => {
  expect(combinedHash(key, type).toString(16).padStart(16, "0")).toBe(combined);
  expect([2, 3, 4, 8, 16].map((count) => shardOfText(key, type, count))).toEqual(shards);
});

describe("forms of one value meet", () => {
  test("bigint as text, as bytes in a message, as 8 bytes", () => {
    fc.assert(
      fc.property(
        fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
        fc.integer({ min: 1, max: 999 }),
        (key, count) => {
          const shard = Number(combinedHash(String(key), "bigint") % BigInt(count));
          const binary = Buffer.alloc(10);
          binary.writeBigInt64BE(key, 1);
          const text = Buffer.from(`xx ${key} yy`);
          expect(shardOfText(` ${key}\t`, "bigint", count)).toBe(shard);
          expect(shardOfTextBytes(text, 2, text.length - 2, "bigint", count)).toBe(shard);
          expect(shardOfBinary(binary, 1, 9, "bigint", count)).toBe(shard);
        },
      ),
    );
  });

  test("int2 and int4", () => {
    const bytes = Buffer.alloc(6);
    for (const key of [-32768, -1, 0, 1, 300, 32767]) {
      bytes.writeInt16BE(key, 0);
      bytes.writeInt32BE(key, 2);
      const shard = shardOfText(String(key), "bigint", 997);
      expect(shardOfBinary(bytes, 0, 2, "bigint", 997)).toBe(shard);
      expect(shardOfBinary(bytes, 2, 6, "bigint", 997)).toBe(shard);
    }
  });

  test("uuid in every spelling", () => {
    const plain = "a0eebc999c0b4ef8bb6d6bb9bd380a11";
    const shard = shardOfBinary(Buffer.from(plain, "hex"), 0, 16, "uuid", 997);
    for (const spelling of [
      plain,
      plain.toUpperCase(),
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
      "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ]) {
      expect(shardOfText(spelling, "uuid", 997)).toBe(shard);
    }
  });

  test("a long text goes through its own buffer", () => {
    const long = "é".repeat(2000);
    const bytes = Buffer.from(long);
    expect(shardOfText(long, "varchar", 997)).toBe(
      shardOfBinary(bytes, 0, bytes.length, "varchar", 997),
    );
  });
});

test.each<readonly [KeyType, string]>([
  ["bigint", ""],
  ["bigint", "-"],
  ["bigint", "1.5"],
  ["bigint", "0x10"],
  ["bigint", "12 3"],
  ["bigint", "9223372036854775808"],
  ["bigint", "-9223372036854775809"],
  ["bigint", "１"],
  ["uuid", ""],
  ["uuid", "a0eebc999c0b4ef8bb6d6bb9bd380a1"],
  ["uuid", "a0eebc999c0b4ef8bb6d6bb9bd380a111"],
  ["uuid", "{a0eebc999c0b4ef8bb6d6bb9bd380a11"],
  ["uuid", "a0e-ebc999c0b4ef8bb6d6bb9bd380a11"],
])("%s %j is no key", (type, text) => {
  expect(shardOfText(text, type, 4)).toBe(NOT_A_KEY);
});
