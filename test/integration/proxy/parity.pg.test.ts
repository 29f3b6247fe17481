import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["straight", "through"]) await server.createDatabase(name);
  proxy = await startProxy(
    testConfig({ databases: [{ name: "through", shards: [{ server, database: "through" }] }] }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

interface Printed {
  readonly out: string;
  readonly errors: string;
}

/** What psql prints. The place in PostgreSQL's source is not ours to know where we answer ourselves. */
async function psql(port: number, database: string): Promise<Printed> {
  return await new Promise((resolve, reject) => {
    const target = ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", "-d", database];
    const options = ["-X", "-P", "pager=off", "-v", "VERBOSITY=verbose"];
    const child = spawn(join(server.binDir, "psql"), [...options, ...target, "-f", "-"]);
    let out = "";
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", () => resolve({ out, errors: errors.replaceAll(/^LOCATION: .*\n/gm, "") }));
    child.stdin.end(SCRIPT);
  });
}

const SCRIPT = String.raw`
\set ON_ERROR_STOP 0
CREATE TABLE t (id serial PRIMARY KEY, n numeric, j jsonb, a text[], b bytea, d timestamptz DEFAULT '2020-01-01 00:00:00+00');
INSERT INTO t (n, j, a, b) VALUES (1.50, '{"x": [1, null]}', '{a,"b c",NULL}', '\xdeadbeef') RETURNING *;
INSERT INTO t (n) SELECT generate_series(1, 1000);
SELECT count(*), sum(n), min(id), max(id) FROM t;
SELECT * FROM missing;
SELECT 1/0;
INSERT INTO t (id) VALUES (1);
SELECT 'a' || chr(252) AS u, NULL AS nothing, ''::text AS empty;
BEGIN;
UPDATE t SET n = n + 1 WHERE id < 5;
SAVEPOINT s;
SELECT nonsense;
SELECT 1;
ROLLBACK TO s;
RELEASE s;
COMMIT;
SELECT n FROM t WHERE id < 6 ORDER BY id;
BEGIN;
SELECT 1/0;
COMMIT;
COMMIT;
ROLLBACK;
BEGIN;
BEGIN;
END;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SHOW transaction_isolation;
SHOW transaction_read_only;
DELETE FROM t;
ROLLBACK;
START TRANSACTION;
SAVEPOINT x;
COMMIT AND CHAIN;
SELECT 1 AS chained;
COMMIT;
SET statement_timeout = '7s';
SHOW statement_timeout;
BEGIN;
SET LOCAL statement_timeout = '8s';
SHOW statement_timeout;
COMMIT;
SHOW statement_timeout;
BEGIN;
SET statement_timeout = '9s';
ROLLBACK;
SHOW statement_timeout;
RESET statement_timeout;
SHOW statement_timeout;
SET nonsense = 1;
SET app.custom = 'x';
SELECT current_setting('app.custom');
SELECT set_config('app.custom', 'y', true);
SELECT current_setting('app.custom');
SET TIME ZONE 'America/New_York';
SELECT d FROM t WHERE id = 1;
RESET ALL;
SELECT d AT TIME ZONE 'UTC' FROM t WHERE id = 1;
COPY (SELECT id, n FROM t WHERE id < 4 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER);
COPY t (id, n) FROM STDIN;
5001	1
5002	2
\.
COPY t (id, n) FROM STDIN;
5001	1
\.
SELECT count(*) FROM t;
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 3 AS c;
INSERT INTO t (id) VALUES (9001) \; SELECT 1/0;
SELECT count(*) FROM t WHERE id = 9001;
DO $$ BEGIN RAISE NOTICE 'a notice with detail' USING DETAIL = 'd', HINT = 'h'; END $$;
PREPARE p (int) AS SELECT $1 + 1 AS plus;
EXECUTE p(1);
DEALLOCATE p;
EXECUTE p(1);
CREATE TEMP TABLE mine (x int);
INSERT INTO mine VALUES (1);
SELECT * FROM mine;
DECLARE c CURSOR FOR SELECT 1;
BEGIN;
DECLARE c CURSOR FOR SELECT generate_series(1, 3);
FETCH 2 FROM c;
COMMIT;
DISCARD ALL;
SELECT * FROM mine;
NOTIFY nobody;
ALTER TABLE t ADD COLUMN late int DEFAULT 5;
SELECT late FROM t WHERE id = 1;
VACUUM t;
SELECT length(repeat('x', 1000000)), repeat('y', 100000) = repeat('y', 100000);
DROP TABLE t;
`;

test("psql prints the same straight and through the proxy", async () => {
  const straight = await psql(server.port, "straight");
  const through = await psql(proxy.port, "through");
  expect(through.out).toBe(straight.out);
  expect(through.errors).toBe(straight.errors);
  expect(straight.errors).toContain("division by zero");
});
