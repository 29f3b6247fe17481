import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDump, splitDump } from "../../../src/resharding/schema/dump-text.js";

const texts = (dump: string) => splitDump(dump).map(({ sql }) => sql);

describe("a semicolon does not end a statement", () => {
  test.each([
    ["in a string", "SELECT ';'"],
    ["after a doubled quote", "SELECT 'it''s; so'"],
    ["in an escape string", String.raw`SELECT E'\';', ';'`],
    ["after a backslash in a plain string", String.raw`SELECT '\'`],
    ["in a quoted identifier", `SELECT 1 AS "a;""b;"`],
    ["in dollar quotes", "SELECT $$ ; $$"],
    ["in tagged dollar quotes with others inside", "SELECT $a$ ; $$ ; $b$ ; $a$"],
    ["in a comment within a statement", "SELECT 1 -- ;\n + 1"],
    ["in a nested block comment", "SELECT 1 /* ; /* ; */ ; */ + 1"],
    ["in parentheses", "CREATE RULE r AS ON INSERT TO t DO INSTEAD (SELECT 1; SELECT 2)"],
    [
      "in an SQL body",
      "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    ],
    ["in a procedure's SQL body", "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END"],
  ])("%s", (_, statement) => {
    expect(texts(`${statement};\nSELECT 2;`)).toEqual([statement, "SELECT 2"]);
  });
});

test("a column named begin or end makes no block", () => {
  const statements = ["CREATE TABLE t (begin int, case_ int)", "SELECT begin FROM t", "SELECT 1"];
  expect(texts(statements.join(";\n"))).toEqual(statements);
});

test("a parameter is no dollar quote", () => {
  expect(texts("SELECT $1; SELECT $2;")).toEqual(["SELECT $1", "SELECT $2"]);
});

test("entries give their types, and a look-alike inside a body does not", () => {
  const dump = `--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $$
-- Name: no; Type: TABLE; Schema: public; Owner: -
BEGIN END $$;


ALTER FUNCTION public.f() OWNER TO me;

--
-- Name: t t_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.t
    ADD CONSTRAINT t_fkey FOREIGN KEY (a) REFERENCES public.u(a);
`;
  expect(
    parseDump(dump).map(({ entryType, sql }) => [entryType, sql.split(/\s/, 2).join(" ")]),
  ).toEqual([
    ["FUNCTION", "CREATE FUNCTION"],
    ["FUNCTION", "ALTER FUNCTION"],
    ["FK CONSTRAINT", "ALTER TABLE"],
  ]);
});

test("settings and psql's commands are left out, the access method is kept", () => {
  const dump = [
    "\\restrict abc;def",
    "SET statement_timeout = 0;",
    "SELECT pg_catalog.set_config('search_path', '', false);",
    "SET default_table_access_method = heap;",
    "CREATE TABLE public.t (a int);",
    "\\unrestrict abc",
  ].join("\n");
  expect(parseDump(dump)).toEqual([
    { entryType: "", sql: "CREATE TABLE public.t (a int)", accessMethod: "heap" },
  ]);
});

test("statements made of any quoted text come back as they were", () => {
  const quoted = fc.oneof(
    fc.string().map((text) => `'${text.replaceAll("'", "''")}'`),
    fc.string().map((text) => `"${text.replaceAll('"', '""')}"`),
    fc.string().map((text) => `$q$${text.replaceAll("$", "")}$q$`),
  );
  fc.assert(
    fc.property(fc.array(fc.array(quoted, { minLength: 1, maxLength: 4 })), (lists) => {
      const statements = lists.map((list) => `SELECT ${list.join(", ")}`);
      expect(texts(statements.map((statement) => `${statement};\n`).join(""))).toEqual(statements);
    }),
  );
});
