import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkTask } from "../../../src/admin/task-check.js";
import { connectSql } from "../../../src/backend/sql-client.js";
import type { Config } from "../../../src/config/model.js";
import { parseConfig } from "../../../src/config/read-config.js";
import { ensureControlSchema } from "../../../src/resharding/control/control-schema.js";
import {
  readNodes,
  readReplicationSlots,
  readTableCopies,
} from "../../../src/resharding/control/status.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";

const MIGRATION = "0123456789ab";
const SPEC = JSON.stringify({
  tables: [
    { schema: "public", name: "users", kind: "sharded" },
    { schema: "public", name: "countries", kind: "omnisharded" },
  ],
});

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["src", "dst0", "dst1", "Plain"]) await server.createDatabase(name);
  await server.sql(
    "src",
    'CREATE TABLE users (id bigint PRIMARY KEY); CREATE PUBLICATION "Pub" FOR TABLE users',
  );
  for (const [shard, name] of ["dst0", "dst1"].entries()) {
    await using client = await connectSql(server.address(name), { applicationName: "test" });
    await ensureControlSchema(client);
    await client.query(
      `INSERT INTO sluice.migration (id, source, destination, publication, side, shard, spec, created_at)
       VALUES ($1, 'src', 'dst', 'Pub', 'destination', $2, $3, now() - interval '10 s')`,
      [MIGRATION, shard, SPEC],
    );
    await client.query(
      `INSERT INTO sluice.copy_chunk (migration, source_shard, schema_name, table_name, range, row_count, byte_count, copied_at)
       VALUES ($1, 0, 'public', 'users', 0, 100, 1000, now()), ($1, 0, 'public', 'users', 1, 0, 0, NULL),
              ($1, 0, 'public', 'countries', 0, 7, 70, now()), ($1, 0, 'public', 'countries', 1, 0, 0, NULL),
              ($1, 0, 'public', 'done', 0, 1, 1, now()), ($1, 0, 'public', 'queued', 0, 0, 0, NULL)`,
      [MIGRATION],
    );
  }
}, 60_000);

afterAll(async () => await server[Symbol.asyncDispose]());

const destinations = () => [server.address("dst0"), server.address("dst1")];

describe("status read from the databases", () => {
  it("sums a sharded table over shards, counts an omnisharded one once, leaves finished ones out", async () => {
    const { rows, unreachable } = await readTableCopies([server.address("src"), ...destinations()]);
    expect(unreachable).toEqual([]);
    expect(rows.map((row) => [row.table, row.rowCount, row.byteCount])).toEqual([
      ["users", 200, 2_000],
      ["countries", 7, 70],
      ["queued", 0, 0],
    ]);
    expect(rows[0]?.elapsedMs).toBeGreaterThanOrEqual(10_000);
  });

  it("shows our slots with their lag, and not those of others", async () => {
    const slot = `sluice_${MIGRATION}_0_0`;
    await server.sql("src", `SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
    await server.sql("src", "SELECT pg_create_logical_replication_slot('foreign', 'pgoutput')");
    await server.sql("src", "INSERT INTO users VALUES (1)");
    await server.sql(
      "dst0",
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin, system_identifier, timeline)
       VALUES ('${MIGRATION}', 0, 0, 0, '${slot}', 'o', 's', 1)`,
    );
    const { rows } = await readReplicationSlots([server.address("src"), ...destinations()]);
    expect(rows.map((row) => row.name)).toEqual([slot]);
    expect(rows[0]?.address.database).toBe("src");
    expect(rows[0]?.lagBytes).toBeGreaterThan(0);
    expect(rows[0]?.lastTransaction).toBeInstanceOf(Date);
    await server.sql("src", `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`);
  });

  it("takes the newest word of a node that several shards know", async () => {
    for (const [database, epoch, age] of [
      ["dst0", 1, 60],
      ["dst1", 2, 0],
    ])
      await server.sql(
        String(database),
        `INSERT INTO sluice.node (migration, node_id, incarnation, address, epoch, config_hash, last_seen)
         VALUES ('${MIGRATION}', 'n1', 'i', 'h:1', ${epoch}, 'c', now() - interval '${age} s')`,
      );
    const { rows } = await readNodes(destinations());
    expect(rows.map((row) => [row.nodeId, row.epoch])).toEqual([["n1", 2]]);
  });

  it("names a server that does not answer and shows the rest", async () => {
    const silent = { ...server.address("gone"), port: await freePort() };
    const { rows, unreachable } = await readTableCopies([silent, ...destinations()]);
    expect(rows).toHaveLength(3);
    expect(unreachable).toHaveLength(1);
    expect(unreachable[0]).toContain(`127.0.0.1:${silent.port}/gone`);
  });

  it("has nothing to tell of a database without our schema", async () => {
    expect(await readTableCopies([server.address("Plain")])).toEqual({ rows: [], unreachable: [] });
  });
});

function config(): Config {
  const database = (name: string, databaseName: string) =>
    `[[databases]]\nname = "${name}"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${databaseName}"\n`;
  const user = (name: string) =>
    `[[users]]\nname = "postgres"\ndatabase = "${name}"\nschema_admin = true\n`;
  return parseConfig({
    pgdog: database("src", "src") + database("dst", "dst0") + database("Plain", "Plain"),
    users: user("src") + user("dst") + user("Plain"),
  });
}

describe("checks before a task exists", () => {
  const slot = null;

  it("passes what can be started", async () => {
    await checkTask(config(), { source: "src", destination: "dst", publication: "Pub", slot });
  });

  it("finds a publication that the source lacks, in its own case", async () => {
    await expect(
      checkTask(config(), { source: "src", destination: "dst", publication: "pub", slot }),
    ).rejects.toMatchObject({ code: "SLUICE_PUBLICATION_UNKNOWN", sqlState: "42704" });
    await expect(
      checkTask(config(), { source: "Plain", destination: "dst", publication: "Pub", slot }),
    ).rejects.toThrow(/publication "Pub" does not exist on 127\.0\.0\.1:\d+\/Plain/);
  });

  it("names a database that is not configured", async () => {
    await expect(
      checkTask(config(), { source: "src", destination: "Dst", publication: "Pub", slot }),
    ).rejects.toMatchObject({ code: "SLUICE_DATABASE_UNKNOWN", sqlState: "3D000" });
  });
});
