import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { builtLauncher } from "../support/built.js";
import { type NodeFiles, type SluiceNode, startNode } from "../support/node.js";
import { freePort, type PostgresServer, startPostgres } from "../support/postgres.js";
import { until } from "../support/until.js";
import { PausePoints } from "./stage.js";

/**
 * A node that is killed between PREPARE and the end of a commit over three shards: whoever starts, or lives, makes the
 * transaction committed on all of them or on none, and what was acknowledged before is there.
 */

/** Of the issue: within this of a node's start nothing is left prepared. */
const RECOVERY_MS = 10_000;
const SHARDS = ["shard_0", "shard_1", "shard_2"];
/** One on each shard. */
const TENANTS = [2, 1, 3];
const POINTS = ["prepared", "decided", "firstShardLeft", "settled"] as const;

let server: PostgresServer;
let files: NodeFiles;

beforeAll(async () => {
  await builtLauncher();
  server = await startPostgres();
  for (const name of SHARDS) {
    await server.createDatabase(name);
    await server.sql(name, "CREATE TABLE entry (tenant_id bigint, batch int)");
  }
  await server.sql("postgres", "CREATE ROLE app LOGIN");
  for (const name of SHARDS) await server.sql(name, "GRANT ALL ON entry TO app");
  const databases = SHARDS.map(
    (name, shard) =>
      `[[databases]]\nname = "app"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${name}"\nshard = ${shard}\n`,
  );
  const user = (name: string, more: string) =>
    `[[users]]\nname = "${name}"\npassword = "secret"\ndatabase = "app"\n${more}\n`;
  files = {
    pgdog: `workers = 1\n${databases.join("")}[[sharded_tables]]\ndatabase = "app"\ncolumn = "tenant_id"\ndata_type = "bigint"\n`,
    // Whose transaction it is may not see what others prepared, nor end it.
    users: user("app", "") + user("postgres", "schema_admin = true"),
    sluice: `[temporal]\naddress = "127.0.0.1:${await freePort()}"\n`,
  };
}, 240_000);

afterAll(async () => await server[Symbol.asyncDispose]());

async function connected(node: SluiceNode): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: node.port,
    database: "app",
    user: "app",
    password: "secret",
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

const insertion = (batch: number) =>
  `INSERT INTO entry VALUES ${TENANTS.map((tenant) => `(${tenant}, ${batch})`).join()}`;

async function batches(): Promise<readonly (readonly number[])[]> {
  return await Promise.all(
    SHARDS.map(async (name) =>
      (await server.sql(name, "SELECT batch FROM entry ORDER BY 1")).map(({ batch }) =>
        Number(batch),
      ),
    ),
  );
}

const prepared = async () => await server.sql("postgres", "SELECT gid FROM pg_prepared_xacts");

async function untilRecovered(): Promise<void> {
  await until(async () => (await prepared()).length === 0, {
    timeoutMs: RECOVERY_MS,
    what: "nothing to be left prepared",
  });
}

async function killedAt(
  node: SluiceNode,
  { points, step, batch }: { points: PausePoints; step: string; batch: number },
): Promise<void> {
  const client = await connected(node);
  points.set(step);
  const answer = client.query(insertion(batch)).then(
    () => "acknowledged",
    () => "lost",
  );
  const plane = await points.reached(step);
  expect(node.children().map(({ pid }) => pid)).toContain(plane);
  await node.kill();
  process.kill(plane, "SIGKILL");
  expect(await answer).toBe("lost");
  points.letGo(step);
}

test.each(POINTS)(
  "killed at commit.%s, and started again",
  async (point) => {
    await server.sql("postgres", "SELECT 1");
    const points = new PausePoints();
    await using node = await startNode({ ...files, env: { SLUICE_TEST_ANNOUNCE: points.folder } });
    for (const name of SHARDS) await server.sql(name, "TRUNCATE entry");
    const client = await connected(node);
    await client.query(insertion(1));
    await killedAt(node, { points, step: `commit.${point}`, batch: 2 });
    expect(await prepared()).toHaveLength(
      { prepared: 2, decided: 2, firstShardLeft: 1, settled: 0 }[point],
    );
    await node.start();
    await untilRecovered();
    const expected = point === "prepared" ? [1] : [1, 2];
    expect(await batches()).toEqual(SHARDS.map(() => expected));
    points.remove();
  },
  120_000,
);

test("killed for good: another node that lives does it, and takes nothing from a commit under way", async () => {
  const points = new PausePoints();
  const env = { SLUICE_TEST_ANNOUNCE: points.folder };
  await using living = await startNode({ ...files, env });
  await using dying = await startNode({ ...files, env });
  for (const name of SHARDS) await server.sql(name, "TRUNCATE entry");
  await killedAt(dying, { points, step: "commit.decided", batch: 1 });
  await untilRecovered();
  expect(await batches()).toEqual(SHARDS.map(() => [1]));

  // Undecided for several looks of the recovery: it waits for whoever decides.
  const client = await connected(living);
  points.set("commit.prepared");
  const answer = client.query(insertion(2));
  await points.reached("commit.prepared");
  const looks =
    "SELECT query_start > $1::timestamptz AS has FROM pg_stat_activity WHERE application_name = 'sluice recovery' AND query LIKE '%pg_xact_status%'";
  const [row] = await server.sql(
    "postgres",
    "SELECT (clock_timestamp() + interval '3 s')::text AS later",
  );
  await until(
    async () => (await server.sql("postgres", looks, [row?.later])).some(({ has }) => has === true),
    {
      timeoutMs: 30_000,
      what: "a look at the commit under way",
    },
  );
  expect(await prepared()).toHaveLength(2);
  points.letGo("commit.prepared");
  await answer;
  expect(await batches()).toEqual(SHARDS.map(() => [1, 2]));
  points.remove();
}, 120_000);

test("two_phase_commit = true where a server cannot prepare is refused at start, by name", async () => {
  await using unable = await startPostgres({ settings: { max_prepared_transactions: "0" } });
  for (const name of SHARDS) await unable.createDatabase(name);
  const elsewhere = files.pgdog.replaceAll(`port = ${server.port}`, `port = ${unable.port}`);
  const refused = startNode({ ...files, pgdog: `two_phase_commit = true\n${elsewhere}` });
  await expect(refused).rejects.toThrow(
    /two_phase_commit is true, and shard [012] .*max_prepared_transactions = 0/,
  );
  await using node = await startNode({ ...files, pgdog: elsewhere });
  expect(node.log().match(/max_prepared_transactions is 0/g)).toHaveLength(SHARDS.length);
}, 120_000);
