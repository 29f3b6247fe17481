import { expect, test } from "vitest";
import { TransactionPast } from "../../../src/proxy/sharded/transaction-past.js";

function past(...statements: readonly string[]): TransactionPast {
  const made = new TransactionPast();
  for (const sql of statements) made.add(sql);
  return made;
}

test("what was released or rolled back is not told to a shard that joins", () => {
  expect(
    past(
      "SAVEPOINT a",
      "SET LOCAL x = 1",
      'SAVEPOINT "B b"',
      "SET LOCAL y = 2",
      'RELEASE SAVEPOINT "B b"',
    ).statements,
  ).toEqual(["SAVEPOINT a", "SET LOCAL x = 1", "SET LOCAL y = 2"]);
  expect(
    past("SAVEPOINT a", "SET LOCAL x = 1", "savepoint b", "ROLLBACK TO SAVEPOINT A;").statements,
  ).toEqual(["SAVEPOINT a"]);
  expect(past("SAVEPOINT a", "SAVEPOINT a", "RELEASE a").statements).toEqual(["SAVEPOINT a"]);
  const many = Array.from({ length: 1_000 }, () => ["SAVEPOINT s", "RELEASE SAVEPOINT s"]);
  expect(past(...many.flat()).statements).toEqual([]);
});

test("a name that cannot be read leaves everything as it came", () => {
  const told = ["SAVEPOINT a", "SAVEPOINT /* c */ b", "RELEASE a"];
  expect(past(...told).statements).toEqual(told);
  const other = ["SAVEPOINT a", "ROLLBACK TO /* c */ a"];
  expect(past(...other).statements).toEqual(other);
});

test("knows whether there is a savepoint to go back to", () => {
  expect(past("SET LOCAL x = 1").hasSavepoint).toBe(false);
  expect(past("SAVEPOINT a").hasSavepoint).toBe(true);
  expect(past("/* c */ SAVEPOINT a").hasSavepoint).toBe(true);
  expect(past("SAVEPOINT a", "RELEASE a").hasSavepoint).toBe(false);
});
