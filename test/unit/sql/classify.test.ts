import { describe, expect, test } from "vitest";
import { classify, sessionTieOf, settingOf } from "../../../src/sql/classify.js";

const kinds = (sql: string) => classify(sql).map((one) => one.kind);

describe("kind of a statement", () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ["", ["empty"]],
    [";", ["empty"]],
    ["  -- nothing\n", ["empty"]],
    ["select 1", ["select"]],
    ["select 1;", ["select"]],
    ["SELECT 1; ", ["select"]],
    ["/* a /* nested */ comment */ -- and a line\n UPDATE t SET a = 1", ["update"]],
    ["((select 1)) union select 2", ["select"]],
    ["BEGIN", ["begin"]],
    ["start transaction isolation level serializable", ["begin"]],
    ["END", ["commit"]],
    ["commit prepared 'x'", ["twoPhase"]],
    ["prepare transaction 'x'", ["twoPhase"]],
    ["prepare p as select 1", ["prepare"]],
    ["rollback", ["rollback"]],
    ["ROLLBACK WORK TO SAVEPOINT s", ["rollbackTo"]],
    ["rollback prepared 'x'", ["twoPhase"]],
    ["set x = 1", ["set"]],
    ["set session x = 1", ["set"]],
    ["set local x = 1", ["setLocal"]],
    ["set transaction read only", ["setTransaction"]],
    ["vacuum t", ["maintenance"]],
    ["truncate t", ["ddl"]],
    ["sel", ["other"]],
    ["BEGIN; INSERT INTO t VALUES (';'); COMMIT", ["begin", "insert", "commit"]],
    ["select $a$ ; $b$ ; $a$; select E'\\';' ; select \"a;b\"", ["select", "select", "select"]],
    [
      "create function f() returns int begin atomic select 1; select case when true then 2 end; end; select 1",
      ["ddl", "select"],
    ],
    [";;select 1;;", ["select"]],
  ];
  test.each(cases)("%s", (sql, expected) => {
    expect(kinds(sql)).toEqual(expected);
  });

  test("positions cut the statements out", () => {
    const sql = "select 1 ; /* ; */ select 2";
    expect(classify(sql).map(({ start, end }) => sql.slice(start, end).trim())).toEqual([
      "select 1",
      "/* ; */ select 2",
    ]);
  });
});

describe("settings", () => {
  const cases: readonly (readonly [string, ReturnType<typeof settingOf>])[] = [
    ["set search_path to a, b", { name: "search_path", value: "a, b" }],
    ["SET Work_Mem='4MB';", { name: "work_mem", value: "'4MB'" }],
    ["set session my.var = 'x'", { name: "my.var", value: "'x'" }],
    ["set local x to default", { name: "x", value: null }],
    ["set time zone 'UTC'", { name: "timezone", value: "'UTC'" }],
    ["set session authorization bob", { name: "session_authorization", value: "bob" }],
    ["set role none", { name: "role", value: "none" }],
    ["set names 'utf8'", { name: "client_encoding", value: "'utf8'" }],
    ["reset all", { name: "all", value: null }],
    ["reset search_path", { name: "search_path", value: null }],
    ["set session characteristics as transaction read only", null],
  ];
  test.each(cases)("%s", (sql, expected) => {
    expect(settingOf(sql)).toEqual(expected);
  });
});

describe("what ties a session to its connection", () => {
  test.each([
    ["select pg_advisory_lock(1)", "advisory lock"],
    ["select pg_try_advisory_lock_shared(1)", "advisory lock"],
    ["select pg_advisory_xact_lock(1)", null],
    ["create temp table t()", "temporary object"],
    ["CREATE LOCAL TEMPORARY TABLE t()", "temporary object"],
    ["select 1 into temp t", "temporary object"],
    ["declare c cursor with hold for select 1", "cursor WITH HOLD"],
    ["load 'auto_explain'", "LOAD"],
    ["select 1", null],
  ])("%s", (sql, expected) => {
    expect(sessionTieOf(sql)).toBe(expected);
  });
});
