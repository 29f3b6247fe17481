import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectSql, type SqlClient } from "../../../src/backend/sql-client.js";
import {
  assignGate,
  BarrierTimedOut,
  checkGateTriggers,
  type GateKey,
  gateSequence,
  passBarrier,
  readGate,
  reopenGate,
  turnGate,
} from "../../../src/resharding/switch/gate.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { type CopyFixture, copyFixture } from "../../support/copy-fixture.js";
import { createDecodedSlot } from "../../support/decoded-slot.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

const SCHEMA = `
  CREATE TABLE acct (id int PRIMARY KEY, bal bigint);
  INSERT INTO acct SELECT g, 100 FROM generate_series(1, 100) g;
  CREATE TABLE other (id int PRIMARY KEY, bal bigint);
  CREATE TABLE part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
  CREATE TABLE part_a PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
  GRANT ALL ON ALL TABLES IN SCHEMA public TO app;`;

describe("the gate", () => {
  let server: PostgresServer;
  let fixture: CopyFixture;
  let database: string;
  let key: GateKey;

  beforeAll(async () => {
    // Servers are killed here, machines are not: fsync would only cost time.
    server = await startPostgres({ settings: { fsync: "off" } });
    await server.sql("postgres", "CREATE ROLE app LOGIN");
    fixture = await copyFixture(server, {
      name: "gate",
      destinations: 1,
      schema: SCHEMA,
      tables: [{ name: "acct" }, { name: "other" }, { name: "part_a" }],
    });
    database = fixture.sources[0] ?? "";
    await installGates(fixture.context(), fixture.ref);
    key = { ref: fixture.ref, epoch: 1, token: "first" };
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  const connect = async (user = "postgres"): Promise<SqlClient> =>
    await connectSql(
      { ...server.address(database), user },
      { applicationName: "test", settings: { search_path: "public" } },
    );
  const withGate = async (state: "open" | "closed", epoch: number): Promise<GateKey> => {
    await using client = await connect();
    const mine = { ...key, epoch, token: `token ${epoch}` };
    expect(await assignGate(client, mine)).toBe(true);
    expect(await turnGate(client, mine, state)).toBe(true);
    return mine;
  };

  test("is open on the source and closed on the destination after installation, twice", async () => {
    await installGates(fixture.context(), fixture.ref);
    await using client = await connect("app");
    await client.query("UPDATE acct SET bal = bal WHERE id = 1");
    await expect(
      server.sql(fixture.destinations[0] ?? "", "INSERT INTO acct VALUES (-1, 0)"),
    ).rejects.toMatchObject({ code: "SL001" });
  });

  test("a gate whose sequence was lost is made again as its row says, not as the side began", async () => {
    await withGate("closed", 2);
    await using client = await connect();
    await client.query(`DROP SEQUENCE sluice.gate_${fixture.ref.id} CASCADE`);
    await installGates(fixture.context(), fixture.ref);
    expect(await readGate(client, fixture.ref)).toMatchObject({ isOpen: false, lastValue: 2 });
    await withGate("open", 3);
  });

  test("R22: a closed gate refuses every kind of write of every role, COPY and TRUNCATE too", async () => {
    await withGate("closed", 3);
    for (const user of ["app", "postgres"]) {
      await using client = await connect(user);
      for (const sql of [
        "UPDATE acct SET bal = 0 WHERE id = 1",
        "UPDATE acct SET bal = 0 WHERE id = -1",
        "INSERT INTO acct VALUES (1000, 0)",
        "DELETE FROM acct WHERE id = 1",
        "WITH gone AS (DELETE FROM acct RETURNING *) SELECT * FROM gone",
        "INSERT INTO part VALUES (1, '2026-05-05')",
        "INSERT INTO part_a VALUES (1, '2026-05-05')",
      ]) {
        await expect(client.query(sql), `${user}: ${sql}`).rejects.toMatchObject({ code: "SL001" });
      }
    }
    await using owner = await connect();
    await expect(owner.query("TRUNCATE acct")).rejects.toMatchObject({ code: "SL001" });
    await expect(owner.query("COPY acct FROM PROGRAM 'echo 1000,1' CSV")).rejects.toMatchObject({
      code: "SL001",
    });
    await owner.query("SELECT * FROM acct");
    await withGate("open", 3);
  });

  test("R22: our appliers pass a closed gate", async () => {
    await withGate("closed", 4);
    await using applier = await connect();
    await applier.query("SET session_replication_role = replica");
    await applier.query("UPDATE acct SET bal = bal WHERE id = 1");
    await withGate("open", 5);
  });

  test("R22: an older snapshot or an id from another table does not pass a gate closed meanwhile", async () => {
    await using snapshotHolder = await connect("app");
    await using idHolder = await connect("app");
    await snapshotHolder.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    await snapshotHolder.query("SELECT count(*) FROM acct");
    await idHolder.query("BEGIN");
    await idHolder.query("SELECT pg_current_xact_id()");
    await withGate("closed", 6);
    await expect(
      snapshotHolder.query("UPDATE acct SET bal = 1 WHERE id = 2"),
    ).rejects.toMatchObject({
      code: "SL001",
    });
    await expect(idHolder.query("UPDATE acct SET bal = 1 WHERE id = 3")).rejects.toMatchObject({
      code: "SL001",
    });
    await withGate("open", 7);
  });

  test("R22: a role without any right on our schema can write while the gate is open", async () => {
    await using client = await connect("app");
    await client.query("INSERT INTO acct VALUES (2000, 1)");
    await expect(client.query("SELECT * FROM sluice.gate")).rejects.toMatchObject({
      code: "42501",
    });
  });

  test("R23: the barrier waits for whoever passed the gate, after a rollback to a savepoint too", async () => {
    const mine = await withGate("open", 8);
    await using writer = await connect("app");
    await using closer = await connect();
    await writer.query("BEGIN");
    await writer.query("SAVEPOINT s");
    await writer.query("UPDATE acct SET bal = 5 WHERE id = 5");
    await writer.query("ROLLBACK TO s");
    await turnGate(closer, mine, "closed");
    const soon = { atMs: performance.now() + 100, signal: new AbortController().signal };
    await expect(passBarrier(closer, fixture.ref, soon)).rejects.toThrow(BarrierTimedOut);
    const passed = passBarrier(closer, fixture.ref, {
      atMs: performance.now() + 20_000,
      signal: new AbortController().signal,
    });
    await writer.query("COMMIT");
    await passed;
    await withGate("open", 9);
  });

  test("R23: a prepared transaction holds the barrier", async () => {
    const mine = await withGate("open", 10);
    await using writer = await connect("app");
    await writer.query("BEGIN");
    await writer.query("UPDATE acct SET bal = 6 WHERE id = 6");
    await writer.query("PREPARE TRANSACTION 'held'");
    await using closer = await connect();
    await turnGate(closer, mine, "closed");
    const soon = { atMs: performance.now() + 100, signal: new AbortController().signal };
    await expect(passBarrier(closer, fixture.ref, soon)).rejects.toThrow("prepared transaction");
    await closer.query("ROLLBACK PREPARED 'held'");
    await passBarrier(closer, fixture.ref, { ...soon, atMs: performance.now() + 5_000 });
    await withGate("open", 11);
  });

  test("R23: no row change comes after the marker under 12 writers, over several closings", async () => {
    await using slot = await createDecodedSlot(server, {
      database,
      table: "acct",
      name: "barrier",
    });
    for (let round = 0; round < 3; round++) {
      await withGate("open", 20 + 2 * round);
      const mine: GateKey = { ...key, epoch: 21 + 2 * round, token: `round ${round}` };
      let stopped = false;
      let writes = 0;
      const enough = deferred();
      const writers = Array.from({ length: 12 }, async (_, index) => {
        await using client = await connect("app");
        while (!stopped) {
          try {
            await client.query("BEGIN");
            await client.query("UPDATE acct SET bal = bal - 1 WHERE id = $1", [10 + index]);
            await client.query("UPDATE acct SET bal = bal + 1 WHERE id = $1", [40 + index]);
            await client.query("COMMIT");
            writes += 1;
            if (writes > 100) enough.resolve();
          } catch {
            await client.query("ROLLBACK");
            return;
          }
        }
      });
      await enough.promise;
      await using closer = await connect();
      await assignGate(closer, mine);
      await turnGate(closer, mine, "closed");
      await passBarrier(closer, fixture.ref, {
        atMs: performance.now() + 10_000,
        signal: new AbortController().signal,
      });
      await closer.query("SELECT pg_logical_emit_message(true, 'end', 'marker')");
      stopped = true;
      await Promise.all(writers);
      const changes = (await slot.next()).filter(({ kind }) => kind !== "commit");
      const marker = changes.findIndex(({ kind }) => kind === "message");
      expect(marker).toBeGreaterThan(100);
      expect(changes.length - 1 - marker).toBe(0);
    }
    await withGate("open", 40);
  });

  test("R25: a disabled trigger and a partition added later are found, and installed again", async () => {
    await using client = await connect();
    await checkGateTriggers(client, fixture.ref, fixture.spec.tables);
    await client.query(`ALTER TABLE other DISABLE TRIGGER sluice_gate_${fixture.ref.id}`);
    await expect(checkGateTriggers(client, fixture.ref, fixture.spec.tables)).rejects.toThrow(
      "public.other",
    );
    await client.query(
      "CREATE TABLE part_b PARTITION OF part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    );
    await expect(checkGateTriggers(client, fixture.ref, fixture.spec.tables)).rejects.toThrow(
      "part_b",
    );
    await installGates(fixture.context(), fixture.ref);
    // It refuses writes now, but its rows are not moved.
    await expect(checkGateTriggers(client, fixture.ref, fixture.spec.tables)).rejects.toThrow(
      "made after the migration began, so not moved: public.part_b",
    );
    await client.query("DROP TABLE part_b");
    await checkGateTriggers(client, fixture.ref, fixture.spec.tables);
  });

  test("R26: installing waits for a locked table with a timeout, and names it", async () => {
    await using holder = await connect();
    await using client = await connect();
    await client.query(`DROP TRIGGER sluice_gate_${fixture.ref.id} ON other`);
    await holder.query("BEGIN");
    await holder.query("LOCK TABLE other IN ROW EXCLUSIVE MODE");
    const attempts: string[] = [];
    const context = fixture.context({
      log: {
        ...fixture.context().log,
        info: (_message, fields) => void attempts.push(String(fields?.table)),
      },
    });
    const install = installGates(context, fixture.ref);
    await expect(install).rejects.toThrow('waiting for the lock on "public"."other"');
    expect(attempts).toContain('"public"."other"');
    await holder.query("ROLLBACK");
    await installGates(fixture.context(), fixture.ref);
    await checkGateTriggers(client, fixture.ref, [{ schema: "public", name: "other" }]);
  });

  test("R27: an old token turns nothing, though setval survives a rollback", async () => {
    const old = await withGate("open", 50);
    await using client = await connect();
    await assignGate(client, { ...key, epoch: 51, token: "new" });
    expect(await turnGate(client, old, "closed")).toBe(false);
    const gate = await readGate(client, fixture.ref);
    expect(gate).toMatchObject({ isOpen: true, lastValue: 1, epoch: 51 });
    expect(await assignGate(client, old)).toBe(false);
  });

  test("R27: a closer that waits behind the end of its attempt closes nothing", async () => {
    const mine: GateKey = { ...key, epoch: 60, token: "zombie" };
    await using resolver = await connect();
    await using zombie = await connect();
    await assignGate(resolver, mine);
    await resolver.query("BEGIN");
    await reopenGate(resolver, { ref: fixture.ref, epoch: 60, nextToken: "rotated" });
    const late = turnGate(zombie, mine, "closed");
    await resolver.query("COMMIT");
    expect(await late).toBe(false);
    expect(await readGate(resolver, fixture.ref)).toMatchObject({ isOpen: true, lastValue: 1 });
  });

  test("the refusal says where to go", async () => {
    await using client = await connect();
    const mine = await withGate("closed", 70);
    await client.query("UPDATE sluice.gate SET moved_to = 'shard0:5432/app' WHERE migration = $1", [
      fixture.ref.id,
    ]);
    // As an application: in a session of ours hints are withheld, like all that may speak of rows (R56).
    const { host, port } = server.address(database);
    const app = new pg.Client({ host, port, database, user: "app" });
    await app.connect();
    const refused = await app.query("DELETE FROM acct").catch((error: unknown) => error);
    await app.end();
    expect(refused).toMatchObject({ code: "SL001", hint: "It has moved to shard0:5432/app." });
    await turnGate(client, mine, "open");
    expect(gateSequence(fixture.ref)).toContain(fixture.ref.id);
  });
});

/** Promise.withResolvers comes with Node 22. */
function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}
