import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { builtLauncher } from "../../support/built.js";
import { runSluice } from "../../support/node.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let cwd: string;

beforeAll(async () => {
  await builtLauncher();
  server = await startPostgres();
  cwd = mkdtempSync(join(tmpdir(), "sluice-omnisharded-"));
  const databases = ["s0", "s1"].map(
    (name, shard) =>
      `[[databases]]\nname = "app"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${name}"\nshard = ${shard}\n`,
  );
  const rule = '[[sharded_tables]]\ndatabase = "app"\ncolumn = "tenant_id"\n';
  writeFileSync(join(cwd, "pgdog.toml"), [...databases, rule].join("\n"));
  writeFileSync(
    join(cwd, "users.toml"),
    '[[users]]\nname = "postgres"\ndatabase = "app"\nschema_admin = true\n',
  );
  for (const name of ["s0", "s1"]) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE flag (id int PRIMARY KEY, name text);
       CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
       CREATE TRIGGER touch BEFORE UPDATE ON flag FOR EACH ROW EXECUTE FUNCTION touch();
       INSERT INTO flag VALUES (1, 'secret-value')`,
    );
  }
}, 240_000);

afterAll(async () => {
  rmSync(cwd, { recursive: true, force: true });
  await server[Symbol.asyncDispose]();
});

it("sluice guard puts guards on every shard, once", async () => {
  const first = await runSluice(["guard", "add", "app"], { cwd });
  const stdout = "shard 0: public.flag: row guards\nshard 1: public.flag: row guards\n";
  expect(first).toMatchObject({ code: 0, stdout });
  const second = await runSluice(["guard", "add", "app"], { cwd });
  expect(second.stdout).toBe("shard 0: nothing to guard\nshard 1: nothing to guard\n");
});

it("sluice verify --omnisharded ends with 1 where shards differ, and shows no value (R56)", async () => {
  const same = await runSluice(["verify", "app", "--omnisharded"], { cwd });
  expect(same).toMatchObject({
    code: 0,
    stdout: "1 omnisharded tables are the same on 2 shards\n",
  });
  await server.sql("s1", "UPDATE flag SET name = 'other-value'");
  const { code, stdout, stderr } = await runSluice(["verify", "app", "--omnisharded"], { cwd });
  expect(code).toBe(1);
  expect(stdout).toContain(
    '"public"."flag": shard 1 has 1 rows, shard 0 has 1; 1 keys (id) differ',
  );
  expect(stdout + stderr).not.toMatch(/value/);
});
