import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { NotReady } from "../../../src/core/errors.js";
import { RowEvidence } from "../../../src/core/row-evidence.js";
import { type ServerErrorFields, SqlError } from "../../../src/core/sql-error.js";
import { framesOf, tell } from "../../../src/core/tell.js";

const SECRET = "s3cret-row-text";

/** As PostgreSQL 15 and 17 send them. */
const SENT: Readonly<Record<string, { fields: ServerErrorFields; message: string }>> = {
  "a value that no integer is": {
    fields: {
      code: "22P02",
      message: `invalid input syntax for type integer: "${SECRET}"`,
      where: `COPY orders, line 3, column n: "${SECRET}"`,
      file: "numutils.c",
    },
    message: "invalid text representation (SQLSTATE 22P02), COPY orders, line 3, column n",
  },
  "a row that a check refuses": {
    fields: {
      code: "23514",
      message: 'new row for relation "orders" violates check constraint "orders_check"',
      detail: `Failing row contains (1, ${SECRET}).`,
      schema: "public",
      table: "orders",
      constraint: "orders_check",
      file: "execMain.c",
    },
    message: 'new row for relation "orders" violates check constraint "orders_check"',
  },
  "the same within COPY": {
    fields: {
      code: "23514",
      message: 'new row for relation "orders" violates check constraint "orders_check"',
      detail: `Failing row contains (1, ${SECRET}).`,
      where: `COPY orders, line 1: "1\t${SECRET}"`,
      schema: "public",
      table: "orders",
      constraint: "orders_check",
      file: "execMain.c",
    },
    message:
      'check violation (SQLSTATE 23514), in public.orders, constraint "orders_check", COPY orders, line 1',
  },
  "a key that is twice there": {
    fields: {
      code: "23505",
      message: 'could not create unique index "orders_n"',
      detail: `Key (n)=(${SECRET}) is duplicated.`,
      schema: "public",
      table: "orders",
      constraint: "orders_n",
      file: "tuplesort.c",
    },
    message: 'could not create unique index "orders_n"',
  },
  "a function that says what it likes, under any code": {
    fields: {
      code: "23505",
      message: SECRET,
      hint: SECRET,
      table: SECRET,
      column: SECRET,
      constraint: SECRET,
      where: "PL/pgSQL function spy() line 1 at RAISE",
      file: "pl_exec.c",
    },
    message: "unique violation (SQLSTATE 23505)",
  },
  "a function without a context": {
    fields: { code: "P0001", message: SECRET, constraint: SECRET, file: "plpy_plpymodule.c" },
    message: "raise exception (SQLSTATE P0001)",
  },
  "a code that nobody knows": {
    fields: { code: "ZZ123", message: SECRET },
    message: "the server refused (SQLSTATE ZZ123)",
  },
  "a statement with literals": {
    fields: { code: "42601", message: `syntax error at or near "${SECRET}"`, file: "scan.l" },
    message: "syntax error (SQLSTATE 42601)",
  },
  "a context that looks like COPY's": {
    fields: { code: "22P02", message: SECRET, where: `COPY "${SECRET}", line 1: "x"` },
    message: "invalid text representation (SQLSTATE 22P02)",
  },
};

describe("an error that the server sent", () => {
  test.each(Object.entries(SENT))("%s", (_name, { fields, message }) => {
    const error = new SqlError(fields);
    expect(error.message).toBe(message);
    expect(error.code).toBe(fields.code);
    const shown = [
      inspect(error, { showHidden: true, depth: 9 }),
      JSON.stringify(error),
      String(error),
    ];
    expect(shown.join("\n")).not.toContain(SECRET);
    expect(error.evidence && RowEvidence.open(error.evidence)).toContain(SECRET);
  });

  test("whose message names objects alone is told as it is, and is no evidence", () => {
    const message = 'permission denied for table "orders"';
    const error = new SqlError({ code: "42501", message, file: "aclchk.c" });
    expect(error).toMatchObject({ message, evidence: undefined });
  });
});

describe("row text", () => {
  const evidence = new RowEvidence(SECRET);

  test("does not come out by any way of showing it", () => {
    const error = new NotReady("no", { evidence });
    const ways = [
      `${evidence}`,
      `${[evidence].join()}`,
      JSON.stringify({ evidence, error }),
      inspect(error, { showHidden: true, depth: 9, getters: true }),
      inspect(structuredClone({ ...error }), { showHidden: true }),
      Object.values(evidence).join(),
    ];
    expect(ways.join("\n")).not.toContain(SECRET);
  });

  test("is bounded", () => {
    expect(RowEvidence.open(new RowEvidence("x".repeat(1e6))).length).toBeLessThan(10_000);
  });
});

describe("what is told of an error", () => {
  test("ours, the server's and the system's: their message", () => {
    expect(tell(new NotReady("not now"))).toBe("not now");
    expect(tell(new SqlError({ code: "57P01", message: "shutting down" }))).toBe("shutting down");
    const refused = Object.assign(new Error("connect ECONNREFUSED ::1:5432"), {
      syscall: "connect",
    });
    expect(tell(refused)).toBe("connect ECONNREFUSED ::1:5432");
  });

  test("any other: its name and its place, as the runtime quotes values", () => {
    const told = [
      () => BigInt(SECRET),
      () => JSON.parse(SECRET) as unknown,
      () => {
        throw new TypeError(`${SECRET}\n    at ${SECRET}`);
      },
      () => {
        throw Object.assign(new Error(""), { name: "Odd" });
      },
    ].map((act) => {
      try {
        act();
        return "";
      } catch (error) {
        return `${tell(error)} ${error instanceof Error ? framesOf(error).join() : ""}`;
      }
    });
    expect(told.join("\n")).not.toContain(SECRET);
    expect(told.map((text) => /^\w+, which nobody foresaw, at /u.test(text))).toEqual(
      told.map(() => true),
    );
  });
});
