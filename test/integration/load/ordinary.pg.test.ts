import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LOAD_FILE, ordinary } from "../../demo/ordinary/application.js";
import type { Query } from "../../support/load/final-tables.js";
import type { Load, LoadReport } from "../../support/load/load.js";
import { judgeOrdinary } from "../../support/load/ordinary/judge.js";
import type { Known, Ledger } from "../../support/load/ordinary/ledger.js";
import { startOrdinaryLoad } from "../../support/load/ordinary/load.js";
import { readScript } from "../../support/load/ordinary/script.js";
import { type OrdinaryState, readOrdinary } from "../../support/load/ordinary/state.js";
import type { Judgement } from "../../support/load/verdict.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** load.sql and its judge, straight on one server: what they say of a proxy is worth what they say here. */
describe("the ordinary load and its ledger on one PostgreSQL", () => {
  let server: PostgresServer;
  let before: OrdinaryState;
  let report: LoadReport<Known>;
  const query = async (text: string) => await server.sql("app", text);
  const verdict = async (side: Query = query) => {
    const after = await readOrdinary([side]);
    return judgeOrdinary({ known: report.histories, before, after });
  };

  beforeAll(async () => {
    server = await startPostgres();
    await server.createDatabase("app");
    await server.sql("app", "CREATE ROLE app LOGIN");
    await ordinary(17_000).seed(server, "app");
    before = await readOrdinary([query]);
    const load: Load<Known> = await startOrdinaryLoad({
      addresses: [
        { host: "127.0.0.1", port: server.port, database: "app", user: "app", password: "" },
      ],
      clients: 8,
      round: 0,
      script: readScript(LOAD_FILE),
      before,
      thinkMs: 1,
    });
    await until(() => load.report().acknowledged > 8_000, {
      timeoutMs: 60_000,
      what: "8000 acknowledged writes",
    });
    await load.stop();
    report = load.report();
  });
  afterAll(async () => await server[Symbol.asyncDispose]());

  it("makes no error, and every kind of row", () => {
    expect(report.errors).toEqual([]);
    expect(report.unknown).toBe(0);
    const kinds = (keys: Iterable<string>) =>
      [...new Set([...keys].map((key) => key.split(" ")[0]))].toSorted();
    const all = ledgers();
    const own = report.histories.flatMap((one) => (one.kind === "team" ? one.history.rows : []));
    for (const table of ["notes", "tasks", "teams"])
      expect(own.filter((row) => row.table === table && row.acknowledged).length).toBeGreaterThan(
        9,
      );
    expect(own.some((row) => row.table === "tasks" && row.acknowledged === null)).toBe(true);
    expect(kinds(all.flatMap(({ rows }) => [...rows.keys()]))).toEqual([
      ...["comments", "projects", "tenants"],
    ]);
    expect(kinds(all.flatMap(({ counts }) => [...counts.keys()]))).toEqual([
      ...["attachments", "audit_log", "feature_flags", "tasks", "users"],
    ]);
    expect(kinds(all.flatMap(({ stamps }) => [...stamps.keys()]))).toEqual([
      ...["feature_flags", "sessions", "users"],
    ]);
  });

  it("finds what was acknowledged", async () => {
    expect(await verdict()).toEqual({ lost: 0, doubled: 0, findings: [] });
  });

  const oneOf = (table: string, where: string) =>
    `${table} WHERE ctid = (SELECT ctid FROM ${table} WHERE ${where} LIMIT 1)`;
  // Its deletes are refused: a table of it has no replica identity.
  const unpublished = "DROP PUBLICATION all_tables";
  it.each([
    ["a row", `${unpublished}; DELETE FROM ${oneOf("projects", "name LIKE 'load %'")}`],
    ["a sign-up", `DELETE FROM ${oneOf("tenants", "slug LIKE 'signup-%'")}`],
    ["a comment", `DELETE FROM ${oneOf("comments", "body LIKE 'load %'")}`],
    ["a line of the log", `DELETE FROM ${oneOf("audit_log_new", "action = 'load'")}`],
    ["a change", `UPDATE tasks SET state = 'open' ${whereOf(oneOf("tasks", "state = 'done'"))}`],
    [
      "a time",
      `ALTER TABLE users DISABLE TRIGGER ALL; UPDATE users SET last_login_at = now() - interval '1 hour'
       ${whereOf(oneOf("users", "last_login_at IS NOT NULL"))}`,
    ],
    [
      "a turn of a flag",
      `ALTER TABLE feature_flags DISABLE TRIGGER ALL; UPDATE feature_flags SET enabled = NOT enabled
       ${whereOf(oneOf("feature_flags", "name LIKE 'flag-%'"))}`,
    ],
    ["a session", `DELETE FROM ${oneOf("sessions", "session_data = 'new'")}`],
    ["what hangs on a row", `DELETE FROM ${oneOf("comments", "body = 'first!'")}`],
    [
      "a row's change",
      `UPDATE tasks SET estimate = estimate - 1 ${whereOf(oneOf("tasks", "title LIKE 'team %'"))}`,
    ],
    ["a row of the seed", `DELETE FROM ${oneOf("attachments", "true")}`],
    [
      "a row of a table that nobody writes",
      `${unpublished}; DELETE FROM ${oneOf("project_members", "true")}`,
    ],
  ])("sees a lost one: %s", async (_what, sql) => {
    expect(await verdictAfter(sql)).toMatchObject({ lost: 1, doubled: 0 });
  });

  it.each([
    [
      "a line of the log",
      () => `INSERT INTO audit_log (tenant_id, action)
             SELECT tenant_id, action FROM audit_log WHERE action = 'load' LIMIT 1`,
    ],
    [
      "a comment",
      () => `INSERT INTO comments (tenant_id, task_id, author_id, body)
             SELECT tenant_id, task_id, author_id, body FROM comments WHERE body LIKE 'load %' LIMIT 1`,
    ],
    ["a row of nobody", () => "INSERT INTO tenants (slug, plan_id) VALUES ('signup-x', 1)"],
    [
      "a row that was deleted",
      () => {
        const [, tenant, rest] = /^attachments (\d+)\/(\d+)$/u.exec(emptied()) ?? [];
        return `INSERT INTO attachments (id, tenant_id, task_id, file_name)
                SELECT 100000 + ${rest}, ${tenant}, id, 'again' FROM tasks LIMIT 1`;
      },
    ],
  ])("sees a doubled one: %s", async (_what, sql) => {
    expect(await verdictAfter(sql())).toMatchObject({ lost: 0, doubled: 1 });
  });

  const ledgers = (): readonly Ledger[] =>
    report.histories.flatMap((one) => (one.kind === "script" ? [one.ledger] : []));
  const emptied = () =>
    ledgers()
      .flatMap(({ counts }) => [...counts])
      .find(([key, { sum }]) => key.startsWith("attachments ") && sum > 0)?.[0] ?? "";

  /** What the judge would say if that had happened; it has not. */
  async function verdictAfter(sql: string): Promise<Judgement> {
    const client = new pg.Client({ ...server.address("app"), password: "" });
    await client.connect();
    try {
      await client.query(`BEGIN; ${sql}`);
      return await verdict(async (text) => (await client.query(text)).rows);
    } finally {
      await client.end();
    }
  }
});

/** The condition of what was written for DELETE. */
function whereOf(from: string): string {
  return from.slice(from.indexOf("WHERE"));
}
