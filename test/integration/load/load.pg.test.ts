import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareSides } from "../../support/load/compare.js";
import { readFinalTables } from "../../support/load/final-tables.js";
import { judge } from "../../support/load/judge.js";
import { type LoadReport, startLoad } from "../../support/load/load.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { SHOP_TABLES, shop } from "../../support/shop/application.js";
import { until } from "../../support/until.js";

/** The load and its oracle, straight on one server: what they say of a proxy is worth what they say here. */
describe("load and oracle on one PostgreSQL", () => {
  let server: PostgresServer;
  let report: LoadReport;
  const query = async (text: string) => await server.sql("app", text);
  const verdict = async () => judge(report.histories, await readFinalTables([query]));

  beforeAll(async () => {
    server = await startPostgres();
    await server.createDatabase("app");
    await server.sql("app", "CREATE ROLE app LOGIN");
    const seeded = await shop(5_000).seed(server, "app");
    const load = await startLoad({
      addresses: [
        { host: "127.0.0.1", port: server.port, database: "app", user: "app", password: "" },
      ],
      clients: 8,
      seed: 7,
      tenants: seeded.tenants ?? 1,
      thinkMs: 1,
    });
    await until(() => load.report().acknowledged > 2_000, {
      timeoutMs: 30_000,
      what: "2000 acknowledged writes",
    });
    await load.stop();
    report = load.report();
  });
  afterAll(async () => await server[Symbol.asyncDispose]());

  it("makes no error and every kind of row", () => {
    expect(report.errors).toEqual([]);
    expect(report.unknown).toBe(0);
    const rows = report.histories.flatMap((history) => history.rows);
    for (const table of ["events", "orders"] as const) {
      expect(rows.filter((row) => row.table === table && row.acknowledged).length).toBeGreaterThan(
        9,
      );
      expect(rows.some((row) => row.table === table && row.acknowledged === null)).toBe(true);
    }
  });

  it("finds what was acknowledged, and a side equal to itself", async () => {
    expect(await verdict()).toEqual({ lost: 0, doubled: 0, findings: [] });
    const same = await compareSides(query, [query], SHOP_TABLES);
    expect(same.findings).toEqual([]);
    expect(same.rows.source.countries).toBe(20);
  });

  it("sees one lost row, one lost change, one doubled change and one doubled counter", async () => {
    const events = report.histories.flatMap((history) =>
      history.rows.filter((row) => row.table === "events" && row.acknowledged),
    );
    const [gone, behind, ahead] = events;
    await server.sql("postgres", "CREATE DATABASE before TEMPLATE app");
    await query(`DELETE FROM events WHERE id = '${gone?.id}'`);
    await query(`UPDATE events SET revision = revision - 1 WHERE id = '${behind?.id}'`);
    await query(`UPDATE events SET revision = revision + 1 WHERE id = '${ahead?.id}'`);
    await query("UPDATE tenants SET writes = writes + 1 WHERE tenant_id = 1");
    expect(await verdict()).toMatchObject({ lost: 2, doubled: 2 });
    const before = async (text: string) => await server.sql("before", text);
    const changed = await compareSides(before, [query], SHOP_TABLES);
    expect(changed.isEqual).toBe(false);
    expect(changed.findings).toContain("events: 5 rows differ in all");
  });
});
