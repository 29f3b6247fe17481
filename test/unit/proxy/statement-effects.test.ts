import { describe, expect, test } from "vitest";
import { startupSettings } from "../../../src/proxy/execution/session-settings.js";
import { effectsOf } from "../../../src/proxy/execution/statement-effects.js";

describe("effects of statements on their session", () => {
  test.each([
    ["SELECT 1", null],
    ["INSERT INTO template VALUES (1)", null],
    ["SELECT pg_advisory_xact_lock(1)", null],
    ["SELECT pg_advisory_lock(1)", "advisory lock"],
    ["select pg_try_advisory_lock(1)", "advisory lock"],
    ["CREATE TEMP TABLE t (id int)", "temporary object"],
    ["SELECT 1 AS one INTO TEMP t", "temporary object"],
    ["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor WITH HOLD"],
    ["PREPARE p AS SELECT 1", "statement made by SQL's PREPARE"],
    ["LISTEN x", "LISTEN"],
    ["SELECT set_config($1, 'x', false)", "set_config() with a computed name"],
    ["SELECT set_config('a.b', 'x', false)", null],
    ["BEGIN; CREATE TEMP TABLE t (id int); COMMIT", "temporary object"],
  ])("R38: %s ties to %s", (sql, tie) => {
    expect(effectsOf(sql).tie).toBe(tie);
  });

  test.each([
    ["SET search_path = a, b", ["search_path"], "none"],
    ["RESET search_path", ["search_path"], "named"],
    ["SET TIME ZONE 'UTC'", ["timezone"], "none"],
    ["RESET ALL", [], "all"],
    ["SELECT set_config('App.Who', 'x', true)", ["app.who"], "none"],
    ["SET LOCAL work_mem = '1MB'", [], "none"],
    ["UPDATE t SET a = 1", [], "none"],
  ])("%s changes %j", (sql, settings, resets) => {
    expect(effectsOf(sql)).toMatchObject({ settings, resets });
  });

  test.each([
    ["BEGIN", true],
    [" begin work ;", true],
    ["START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE", true],
    ["BEGIN ISOLATION LEVEL NONSENSE", false],
    ["COMMIT AND CHAIN", false],
    ["ROLLBACK TO s", false],
    ["BEGIN; SELECT 1", false],
  ])("%s is plain control: %s", (sql, isPlain) => {
    expect(effectsOf(sql).isPlainControl).toBe(isPlain);
  });

  test("start-up options", () => {
    const settings = startupSettings(
      new Map([
        ["user", "u"],
        ["client_encoding", "UTF8"],
        ["application_name", "a"],
        ["options", "-c search_path=x\\ y -cwork_mem=1MB --lock-timeout=5 -q"],
      ]),
    );
    expect([...settings]).toEqual([
      ["search_path", "x y"],
      ["work_mem", "1MB"],
      ["lock_timeout", "5"],
      ["application_name", "a"],
    ]);
  });
});
