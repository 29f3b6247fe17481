import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { shardOfText } from "../../../src/topology/hash.js";
import { builtLauncher } from "../../support/built.js";
import { runSluice } from "../../support/node.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let cwd: string;

const SHARDS = ["g0", "g1", "g2"];
/** A key of each shard, of three. */
const keys = SHARDS.map((_, shard) => {
  const all = Array.from({ length: 50 }, (__, key) => key);
  return all.find((key) => shardOfText(String(key), "bigint", 3) === shard) ?? -1;
});

beforeAll(async () => {
  await builtLauncher();
  server = await startPostgres();
  cwd = mkdtempSync(join(tmpdir(), "sluice-guard-"));
  const databases = SHARDS.map(
    (name, shard) =>
      `[[databases]]\nname = "app"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${name}"\nshard = ${shard}\n`,
  );
  const rules = `[[sharded_tables]]\ndatabase = "app"\ncolumn = "tenant_id"\n`;
  writeFileSync(join(cwd, "pgdog.toml"), [...databases, rules].join("\n"));
  writeFileSync(
    join(cwd, "users.toml"),
    '[[users]]\nname = "postgres"\ndatabase = "app"\nschema_admin = true\n',
  );
  for (const [shard, name] of SHARDS.entries()) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE task (id bigint, tenant_id int); INSERT INTO task VALUES (1, ${keys[shard]});
       CREATE TABLE log (tenant_id bigint, at date) PARTITION BY RANGE (at);
       CREATE TABLE log_1 PARTITION OF log DEFAULT; INSERT INTO log VALUES (${keys[shard]}, '2026-01-01');
       CREATE TABLE plan (id int)`,
    );
  }
}, 240_000);

afterAll(async () => {
  rmSync(cwd, { recursive: true, force: true });
  await server[Symbol.asyncDispose]();
});

const each = (...lines: readonly string[]) =>
  SHARDS.flatMap((_, shard) => lines.map((line) => `shard ${shard}: ${line}\n`)).join("");

it("add, list and drop, and what is on a shard that is not its own", async () => {
  const run = async (action: string) => await runSluice(["guard", action, "app"], { cwd });
  await server.sql("g1", `INSERT INTO task VALUES (2, ${keys[0]})`);
  const first = await run("add");
  expect(first.code).toBe(1);
  expect(first.stdout).toMatch(/shard 1: public\.task: placement guard, NOT VALID: rows are there/);
  expect(first.stdout.match(/: placement guard\n/g)).toHaveLength(5);
  // New ones are refused already, and the old one can go.
  await expect(server.sql("g1", `INSERT INTO task VALUES (3, ${keys[0]})`)).rejects.toThrow(
    /sluice_placement/,
  );
  await server.sql("g1", "DELETE FROM task WHERE id = 2");
  expect(await run("add")).toMatchObject({
    code: 0,
    stdout:
      "shard 0: nothing to guard\nshard 1: public.task: placement guard\nshard 2: nothing to guard\n",
  });
  // As of a cluster of another size.
  await server.sql(
    "g2",
    `ALTER TABLE task DROP CONSTRAINT sluice_placement;
     ALTER TABLE task ADD CONSTRAINT sluice_placement CHECK (tenant_id >= 0);
     ALTER TABLE plan ADD CONSTRAINT sluice_placement CHECK (id >= 0)`,
  );
  const other = await run("list");
  expect(other.code).toBe(1);
  expect(other.stdout).toContain(
    "shard 2: public.task: placement guard of another number of shards",
  );
  expect(other.stdout).toContain("shard 2: public.plan: placement guard, and no rule shards");
  await run("add");
  await expect(server.sql("g2", `INSERT INTO task VALUES (3, ${keys[0]})`)).rejects.toThrow(
    /sluice_placement/,
  );
  expect((await run("drop")).code).toBe(0);
  const none = each("public.log: no placement guard", "public.task: no placement guard");
  expect(await run("list")).toMatchObject({ code: 1, stdout: none });
}, 120_000);
