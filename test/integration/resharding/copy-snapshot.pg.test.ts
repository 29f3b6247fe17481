import { spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isVisible, parseSnapshot } from "../../../src/core/snapshot.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { type CopyFixture, copyFixture } from "../../support/copy-fixture.js";
import { createDecodedSlot } from "../../support/decoded-slot.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";
import { unprivilegedUser } from "../../support/unprivileged.js";
import { until } from "../../support/until.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const SCHEMA = "CREATE TABLE k (id int PRIMARY KEY, v bigint NOT NULL)";

async function keysFixture(name: string): Promise<{ fixture: CopyFixture; source: string }> {
  const fixture = await copyFixture(server, { name, schema: SCHEMA, tables: [{ name: "k" }] });
  return { fixture, source: fixture.sources[0] ?? "" };
}

async function connect(database: string): Promise<pg.Client> {
  const client = new pg.Client({ ...server.address(database), password: "" });
  client.on("error", () => {});
  await client.connect();
  return client;
}

const range0 = (fixture: CopyFixture) => ({
  ref: fixture.ref,
  schema: "public",
  table: "k",
  sourceShard: 0,
  range: 0,
});

async function copiedRows(fixture: CopyFixture): Promise<Map<string, string>> {
  const rows = new Map<string, string>();
  for (const database of fixture.destinations)
    for (const { id, v } of await server.sql(database, "SELECT id::text, v::text FROM k")) {
      expect(rows.has(String(id)), `key ${id} on two shards`).toBe(false);
      rows.set(String(id), String(v));
    }
  return rows;
}

describe("R1: ranges and stream merge by visibility", () => {
  const KEYS = 3000;

  async function write(
    source: string,
    number: number,
    state: { stopped: boolean; writes: number },
  ) {
    const client = await connect(source);
    for (let n = 1; !state.stopped; n++) {
      const id = 1 + Math.floor(Math.random() * KEYS);
      const dice = Math.random();
      const [text, values] =
        dice < 0.6
          ? ["UPDATE k SET v = $2 WHERE id = $1", [id, n * 100 + number]]
          : dice < 0.8
            ? ["INSERT INTO k VALUES ($1, $2) ON CONFLICT DO NOTHING", [id, n * 100 + number]]
            : ["DELETE FROM k WHERE id = $1", [id]];
      await client.query(String(text), values as unknown[]);
      state.writes++;
    }
    await client.end();
  }

  test("R1: copied under six writers, then every change that no snapshot has seen: equal", {
    timeout: 90_000,
  }, async () => {
    const { fixture, source } = await keysFixture("merge");
    await server.sql(
      source,
      `INSERT INTO k SELECT g, 0 FROM generate_series(1, ${KEYS}) g WHERE g % 5 <> 0`,
    );
    await using slot = await createDecodedSlot(server, {
      database: source,
      table: "k",
      name: "merge",
    });
    const context = fixture.context({}, { copyRangeRows: 150 });
    const [plan] = await planCopy(context, fixture.ref);
    expect(plan?.rangeCount).toBeGreaterThan(10);
    const state = { stopped: false, writes: 0 };
    const writers = Array.from({ length: 6 }, (_, number) => write(source, number, state));
    await until(() => state.writes > 200, { timeoutMs: 10_000, what: "writers to write" });
    for (let range = 0; range < (plan?.rangeCount ?? 0); range++)
      await copyRange(context, { ...range0(fixture), range });
    state.stopped = true;
    await Promise.all(writers);

    const rows = await copiedRows(fixture);
    const ranges = (
      await server.sql(
        fixture.destinations[1] ?? "",
        "SELECT upper_bound, snapshot FROM sluice.copy_chunk ORDER BY range",
      )
    ).map((row) => ({
      upper: row.upper_bound === null ? Number.POSITIVE_INFINITY : Number(row.upper_bound),
      snapshot: parseSnapshot(String(row.snapshot)),
    }));
    let skipped = 0;
    for (const { kind, xid, row } of await slot.next()) {
      const { id, v = "" } = row;
      if (id === undefined) continue;
      const found = ranges.find((range) => Number(id) < range.upper);
      if (found && isVisible(BigInt(xid), found.snapshot)) skipped++;
      else if (kind === "delete") rows.delete(id);
      else rows.set(id, v);
    }
    expect(skipped).toBeGreaterThan(100);
    const expected = await server.sql(source, "SELECT id::text, v::text FROM k");
    expect(new Map([...rows].sort())).toEqual(
      new Map(expected.map((row): [string, string] => [String(row.id), String(row.v)]).sort()),
    );
  });

  test("R1: what commits between the snapshot and the read is in neither", async () => {
    const { fixture, source } = await keysFixture("between");
    await server.sql(source, "INSERT INTO k VALUES (1, 1), (2, 2)");
    await planCopy(fixture.context(), fixture.ref);
    let xid = "";
    const context = fixture.context({
      announce: async (step) => {
        if (step !== "copy.afterSnapshot") return;
        const [row] = await server.sql(
          source,
          "UPDATE k SET v = 100 WHERE id = 1 RETURNING pg_current_xact_id()::text AS xid",
        );
        xid = String(row?.xid);
      },
    });
    await copyRange(context, range0(fixture));
    expect((await copiedRows(fixture)).get("1")).toBe("1");
    const [chunk] = await server.sql(
      fixture.destinations[0] ?? "",
      "SELECT snapshot FROM sluice.copy_chunk",
    );
    expect(isVisible(BigInt(xid), parseSnapshot(String(chunk?.snapshot)))).toBe(false);
  });
});

describe("R6: snapshots come from the primary", () => {
  test("R6: a standby is refused, and nothing is written", async () => {
    await using standby = await startStandby(server);
    const { fixture, source } = await keysFixture("standby");
    await server.sql(source, "INSERT INTO k VALUES (1, 1)");
    await planCopy(fixture.context(), fixture.ref);
    const [{ lsn } = { lsn: "" }] = await server.sql(
      source,
      "SELECT pg_current_wal_lsn()::text AS lsn",
    );
    await until(() => standby.hasReplayed(String(lsn)), {
      timeoutMs: 20_000,
      what: "the standby to replay",
    });
    const primary = fixture.context();
    const misled = fixture.context({
      cluster: (name) => {
        const cluster = primary.cluster(name);
        if (name !== fixture.ref.source) return cluster;
        return { ...cluster, shards: [{ ...server.address(source), port: standby.port }] };
      },
    });
    await expect(copyRange(misled, range0(fixture))).rejects.toMatchObject({
      code: "SLUICE_SNAPSHOT_ON_STANDBY",
    });
    expect((await copiedRows(fixture)).size).toBe(0);
    await expect(planCopy(misled, fixture.ref)).rejects.toMatchObject({
      code: "SLUICE_SNAPSHOT_ON_STANDBY",
    });
  });
});

describe("R7: readers see whole tables", () => {
  test("R7: row security is an error, not a filter", async () => {
    const { fixture, source } = await keysFixture("rls");
    await server.sql(
      source,
      `INSERT INTO k SELECT g, g FROM generate_series(1, 100) g;
       CREATE ROLE reader_${fixture.ref.id} LOGIN;
       GRANT USAGE ON SCHEMA sluice TO reader_${fixture.ref.id};
       GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO reader_${fixture.ref.id};
       GRANT SELECT ON k TO reader_${fixture.ref.id};
       ALTER TABLE k ENABLE ROW LEVEL SECURITY;
       CREATE POLICY half ON k USING (id <= 50)`,
    );
    const owner = fixture.context();
    const reader = fixture.context({
      cluster: (name) => {
        const cluster = owner.cluster(name);
        if (name !== fixture.ref.source) return cluster;
        const user = `reader_${fixture.ref.id}`;
        return { ...cluster, shards: [{ ...server.address(source), user }] };
      },
    });
    await planCopy(owner, fixture.ref);
    await expect(copyRange(reader, range0(fixture))).rejects.toMatchObject({
      code: "SLUICE_COPY_FAILED",
      recovery: "operator",
      message: expect.stringContaining("row-level security"),
    });
    expect((await copiedRows(fixture)).size).toBe(0);
    expect((await copyRange(owner, range0(fixture))).rowCount).toBe(100);
    expect((await copiedRows(fixture)).size).toBe(100);
  });

  test("R7: a TRUNCATE beside the copy is wholly before its snapshot", async () => {
    const { fixture, source } = await keysFixture("truncate");
    await server.sql(source, "INSERT INTO k SELECT g, g FROM generate_series(1, 100) g");
    await planCopy(fixture.context(), fixture.ref);
    const truncater = await connect(source);
    await truncater.query("BEGIN");
    await truncater.query("TRUNCATE k");
    await truncater.query("INSERT INTO k VALUES (1001, 1), (1002, 2), (1003, 3)");
    const { xid } = (await truncater.query("SELECT pg_current_xact_id()::text AS xid")).rows[0];
    const copied = copyRange(fixture.context(), range0(fixture));
    await until(
      async () =>
        (
          await server.sql(
            source,
            "SELECT 1 FROM pg_locks WHERE relation = 'k'::regclass AND NOT granted",
          )
        ).length > 0,
      { timeoutMs: 10_000, what: "the copy to wait for the table" },
    );
    await truncater.query("COMMIT");
    await truncater.end();
    expect((await copied).rowCount).toBe(3);
    expect([...(await copiedRows(fixture)).keys()].sort()).toEqual(["1001", "1002", "1003"]);
    const [chunk] = await server.sql(
      fixture.destinations[0] ?? "",
      "SELECT snapshot FROM sluice.copy_chunk",
    );
    expect(isVisible(BigInt(xid), parseSnapshot(String(chunk?.snapshot)))).toBe(true);
  });
});

interface Standby extends AsyncDisposable {
  readonly port: number;
  hasReplayed(lsn: string): Promise<boolean>;
}

async function startStandby(primary: PostgresServer): Promise<Standby> {
  const user = unprivilegedUser();
  const base = mkdtempSync(join(tmpdir(), "sluice-standby-"));
  const dataDir = join(base, "data");
  if (user) chownSync(base, user.uid, user.gid);
  const options = { cwd: "/", encoding: "utf8", ...(user ?? {}) } as const;
  const backup = spawnSync(
    join(primary.binDir, "pg_basebackup"),
    [
      ...["-D", dataDir, "-h", "127.0.0.1", "-p", String(primary.port), "-U", "postgres"],
      ...["-R", "-X", "stream", "-c", "fast", "--no-sync"],
    ],
    options,
  );
  if (backup.status !== 0) throw new Error(`pg_basebackup failed: ${backup.stderr}`);
  chmodSync(dataDir, 0o700);
  const port = await freePort();
  const settings = {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    // Not below the primary's, or the standby stops.
    max_connections: "200",
    max_prepared_transactions: "50",
    max_wal_senders: "40",
    shared_buffers: "64MB",
  };
  const child = spawn(
    join(primary.binDir, "postgres"),
    [
      "-D",
      dataDir,
      ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]),
    ],
    { cwd: "/", stdio: "ignore", ...(user ?? {}) },
  );
  const ask = async (text: string): Promise<boolean> => {
    const client = new pg.Client({ ...primary.address("postgres"), port, password: "" });
    client.on("error", () => {});
    try {
      await client.connect();
      return Boolean((await client.query(text)).rows[0]?.answer);
    } catch {
      return false;
    } finally {
      await client.end().catch(() => {});
    }
  };
  await until(() => ask("SELECT pg_is_in_recovery() AS answer"), {
    timeoutMs: 30_000,
    what: "the standby to answer",
  });
  return {
    port,
    hasReplayed: async (lsn) =>
      await ask(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'::pg_lsn AS answer`),
    [Symbol.asyncDispose]: async () => {
      const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      child.kill("SIGQUIT");
      await gone;
      rmSync(base, { recursive: true, force: true });
    },
  };
}
