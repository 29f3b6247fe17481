import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { builtLauncher } from "../../support/built.js";
import { isAlive, type NodeFiles, type SluiceNode, startNode } from "../../support/node.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;
let deadPort: number;

beforeAll(async () => {
  await builtLauncher();
  server = await startPostgres();
  for (const name of ["prod", "dst0", "dst1"]) await server.createDatabase(name);
  await server.sql(
    "prod",
    "CREATE TABLE t (id bigint PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t",
  );
  deadPort = await freePort();
}, 240_000);

afterAll(async () => await server[Symbol.asyncDispose]());

interface Shape {
  readonly general?: string;
  readonly workers?: number;
}

function files({ general = "", workers = 2 }: Shape = {}): NodeFiles {
  const database = (name: string, databaseName: string, shard: number) =>
    `[[databases]]\nname = "${name}"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${databaseName}"\nshard = ${shard}\n`;
  const user = (name: string) =>
    `[[users]]\nname = "app"\npassword = "secret"\ndatabase = "${name}"\nserver_user = "postgres"\nschema_admin = true\n`;
  return {
    pgdog: `workers = ${workers}
shutdown_timeout = 3000
${general}
[admin]
password = "admin-secret"
${database("prod", "prod", 0)}${database("prod_sharded", "dst0", 0)}${database("prod_sharded", "dst1", 1)}
[[sharded_tables]]
database = "prod_sharded"
name = "t"
column = "id"
`,
    users: user("prod") + user("prod_sharded"),
    // Nothing listens there: what needs Temporal must say so, the rest must not notice.
    sluice: `[temporal]\naddress = "127.0.0.1:${deadPort}"\n`,
  };
}

async function connectTo(node: SluiceNode, database = "prod"): Promise<pg.Client> {
  const isAdmin = database === "admin";
  const client = new pg.Client({
    host: "127.0.0.1",
    port: node.port,
    database,
    user: isAdmin ? "admin" : "app",
    password: isAdmin ? "admin-secret" : "secret",
    connectionTimeoutMillis: 10_000,
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

function psql(node: SluiceNode, sql: string, password = "admin-secret") {
  const { status, stdout, stderr } = spawnSync(
    join(server.binDir, "psql"),
    ["-X", "-h", "127.0.0.1", "-p", String(node.port), "-U", "admin", "-d", "admin", "-c", sql],
    { encoding: "utf8", env: { ...process.env, PGPASSWORD: password, PGCONNECT_TIMEOUT: "10" } },
  );
  return { status, stdout, stderr };
}

/** Rows as objects; the extended protocol would be used for values, so none are bound. */
async function ask(client: pg.Client, sql: string): Promise<Record<string, unknown>[]> {
  const { rows } = await client.query<Record<string, unknown>>(sql);
  return rows;
}

describe("a node, without Temporal", () => {
  let node: SluiceNode;

  beforeAll(async () => {
    node = await startNode(files());
  }, 180_000);

  afterAll(async () => await node[Symbol.asyncDispose]());

  it("serves traffic", async () => {
    const client = await connectTo(node);
    expect(await ask(client, "SELECT 40 + 2 AS n")).toEqual([{ n: 42 }]);
    await client.end();
  });

  it("has an admin database for psql", () => {
    const version = psql(node, "SHOW VERSION;");
    expect(version.stderr).toBe("");
    expect(version.stdout).toContain("Sluice 0.1.0");
    expect(psql(node, "show   pools").stdout).toMatch(/\bprod\b/);
    expect(psql(node, "MAINTENANCE ON nowhere").stderr).toContain('"nowhere" is not configured');
    expect(psql(node, "MAINTENANCE ON prod").stdout).toContain("MAINTENANCE ON");
    expect(psql(node, "MAINTENANCE OFF").stdout).toContain("MAINTENANCE OFF");
  });

  it("lists the clients of all data planes", async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connectTo(node)));
    const admin = await connectTo(node, "admin");
    const rows = await ask(admin, "SHOW CLIENTS");
    expect(rows.filter((row) => row.database === "prod").length).toBeGreaterThanOrEqual(4);
    const [lists] = await ask(admin, "SHOW LISTS");
    expect(Number(lists?.databases)).toBe(2);
    await Promise.all([admin, ...clients].map((client) => client.end()));
  });

  it("keeps the admin connection open after an error", async () => {
    const admin = await connectTo(node, "admin");
    await expect(ask(admin, "SELECT 1")).rejects.toMatchObject({
      code: "08P01",
      severity: "ERROR",
    });
    await expect(ask(admin, "RESHARD nowhere prod_sharded p")).rejects.toMatchObject({
      code: "3D000",
      severity: "ERROR",
    });
    await expect(ask(admin, "RESHARD prod prod_sharded missing")).rejects.toMatchObject({
      code: "42704",
    });
    expect(await ask(admin, "SHOW INSTANCE_ID")).toHaveLength(1);
    await admin.end();
  });

  it("refuses a wrong admin password", () => {
    const { status, stderr } = psql(node, "SHOW VERSION", "wrong");
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/FATAL/);
    expect(stderr).not.toContain("admin-secret");
  });

  it.each(["RESHARD prod prod_sharded p", "SHOW TASKS", "CUTOVER", "STOP_TASK 1"])(
    "says within 5 s that Temporal is absent: %s",
    async (sql) => {
      const admin = await connectTo(node, "admin");
      const begun = performance.now();
      await expect(ask(admin, sql)).rejects.toMatchObject({
        code: "58000",
        message: expect.stringContaining("Temporal") as string,
        hint: expect.stringContaining("RESOLVE CUTOVER") as string,
      });
      expect(performance.now() - begun).toBeLessThan(5_500);
      expect(await ask(admin, "SHOW CUTOVER")).toEqual([]);
      await admin.end();
      // Nothing was made on the servers.
      const slots = await server.sql("prod", "SELECT FROM pg_replication_slots");
      expect(slots).toEqual([]);
    },
  );

  it("passes a cancel request on to the data plane that has the client", async () => {
    const client = await connectTo(node);
    const sleeping = ask(client, "SELECT pg_sleep(30)").catch((error: unknown) => error);
    const busy = async () =>
      (
        await server.sql(
          "prod",
          "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid() AND state = 'active'",
        )
      ).length > 0;
    await until(busy, { timeoutMs: 5_000, what: "the sleeping statement" });
    // Two data planes take turns: of two requests one arrives at the other one.
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
    for (let count = 0; count < 2; count += 1) {
      const packet = Buffer.alloc(16);
      packet.writeInt32BE(16, 0);
      packet.writeInt32BE(80877102, 4);
      packet.writeInt32BE(processID, 8);
      packet.writeInt32BE(secretKey, 12);
      const socket = connect(node.port, "127.0.0.1");
      await once(socket, "connect");
      socket.end(packet);
      socket.resume();
      await once(socket, "close");
      if (count === 0) expect(await sleeping).toMatchObject({ code: "57014" });
    }
    await client.end();
  });

  it("starts a data plane again, and only its clients are disconnected", async () => {
    const clients = await Promise.all(Array.from({ length: 6 }, () => connectTo(node)));
    const [victim] = node.children().filter((child) => child.role === "data-plane");
    expect(victim).toBeDefined();
    if (!victim) return;
    process.kill(victim.pid, "SIGKILL");
    const outcomes = await Promise.allSettled(clients.map((client) => ask(client, "SELECT 1")));
    const served = outcomes.filter((outcome) => outcome.status === "fulfilled").length;
    expect(served).toBeGreaterThan(0);
    expect(served).toBeLessThan(6);
    await until(() => node.children().filter((child) => child.role === "data-plane").length === 2, {
      timeoutMs: 10_000,
      what: "the data plane to be started again",
    });
    for (let count = 0; count < 4; count += 1) {
      const client = await connectTo(node);
      expect(await ask(client, "SELECT 1 AS n")).toEqual([{ n: 1 }]);
      await client.end();
    }
    await Promise.allSettled(clients.map((client) => client.end()));
  });
});

describe("reload", () => {
  const poolSize = async (admin: pg.Client) =>
    (await ask(admin, "SHOW CONFIG")).find((row) => row.name === "default_pool_size")?.value;

  it("reads good files on SIGHUP and keeps the running ones before a broken file", async () => {
    await using node = await startNode(files({ general: "default_pool_size = 3", workers: 1 }));
    const admin = await connectTo(node, "admin");
    const client = await connectTo(node);
    expect(await poolSize(admin)).toBe("3");

    node.write(files({ general: "default_pool_size = 4", workers: 1 }));
    node.signal("SIGHUP");
    await until(async () => (await poolSize(admin)) === "4", {
      timeoutMs: 5_000,
      what: "the new pool size",
    });

    node.write(files({ general: "default_pool_size = 5\nno_such_key = 1", workers: 1 }));
    node.signal("SIGHUP");
    await until(() => node.log().includes("reload refused"), {
      timeoutMs: 5_000,
      what: "the refusal in the log",
    });
    expect(node.log()).toMatch(/pgdog\.toml:\d+: [^"]*no_such_key/);
    await expect(ask(admin, "RELOAD")).rejects.toMatchObject({ code: "F0000" });
    expect(await poolSize(admin)).toBe("4");

    await ask(admin, "SET default_pool_size TO 6");
    expect(await poolSize(admin)).toBe("6");
    node.write(files({ general: "default_pool_size = 7", workers: 1 }));
    await ask(admin, "RELOAD");
    expect(await poolSize(admin)).toBe("7");
    expect(await ask(client, "SELECT 1 AS n")).toEqual([{ n: 1 }]);
    await Promise.all([admin.end(), client.end()]);
  }, 60_000);
});

describe("log_level", () => {
  const levels = (node: SluiceNode) =>
    new Map(
      node
        .log()
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => {
          const { level, msg } = JSON.parse(line) as { level: number; msg: string };
          return [msg, level] as const;
        }),
    );

  it("is obeyed by every process, from the start and after RELOAD", async () => {
    const env = { SLUICE_LOG_LEVEL: "" };
    const quiet = { general: 'log_level = "error"', workers: 1 };
    await using node = await startNode({ ...files(quiet), env });
    const admin = await connectTo(node, "admin");
    await ask(admin, "RELOAD");
    node.write(files({ general: 'log_level = "info"', workers: 1 }));
    expect([...levels(node).values()].filter((level) => level < 50)).toEqual([]);
    await ask(admin, "RELOAD");
    // Of the main process, and of those that look for Temporal again and again.
    await until(
      () =>
        levels(node).has("configuration reloaded") &&
        levels(node).has("no connection to Temporal, traffic goes on"),
      { timeoutMs: 20_000, what: "the log of the main and of the control process" },
    );
    await admin.end();
  }, 60_000);
});

describe("the end of a node", () => {
  const alive = (pids: readonly number[]) => pids.filter(isAlive);

  it("leaves no orphan when its main process is killed", async () => {
    await using node = await startNode(files());
    const pids = await until(
      () => {
        const children = node.children();
        return children.length >= 4 ? children.map((child) => child.pid) : null;
      },
      { timeoutMs: 10_000, what: "all child processes" },
    );
    // Clients keep the event loop of a data plane alive: it must end although it has work.
    const clients = await Promise.all(Array.from({ length: 4 }, () => connectTo(node)));
    node.signal("SIGKILL");
    await node.ended;
    await until(() => alive(pids).length === 0, { timeoutMs: 20_000, what: "the children to end" });
    await Promise.allSettled(clients.map((client) => client.end()));
  }, 60_000);

  it("waits for transactions on SIGTERM, refuses new clients, then ends", async () => {
    await using node = await startNode(files());
    const pids = node.children().map((child) => child.pid);
    const client = await connectTo(node);
    await ask(client, "BEGIN");
    await ask(client, "INSERT INTO t VALUES (1)");
    node.signal("SIGTERM");
    await until(() => node.log().includes("shutting down"), {
      timeoutMs: 20_000,
      what: "the shutdown to begin",
    });
    await expect(connectTo(node)).rejects.toMatchObject({ code: "57P01", severity: "FATAL" });
    await ask(client, "COMMIT");
    expect(await node.ended).toEqual({ code: 0, signal: null });
    expect(alive(pids)).toEqual([]);
    expect(await server.sql("prod", "SELECT id::int FROM t")).toEqual([{ id: 1 }]);
  }, 60_000);

  it("ends within shutdown_timeout whatever clients do", async () => {
    await using node = await startNode(files());
    const client = await connectTo(node);
    await ask(client, "BEGIN");
    await ask(client, "INSERT INTO t VALUES (2)");
    const pids = node.children().map((child) => child.pid);
    const begun = performance.now();
    node.signal("SIGTERM");
    await node.ended;
    expect(performance.now() - begun).toBeLessThan(3_000 + 2_000);
    expect(alive(pids)).toEqual([]);
  }, 60_000);

  it("ends at once at the second SIGTERM", async () => {
    await using node = await startNode(files());
    const client = await connectTo(node);
    await ask(client, "BEGIN");
    await ask(client, "INSERT INTO t VALUES (3)");
    const begun = performance.now();
    node.signal("SIGTERM");
    await until(() => node.log().includes("shutting down"), {
      timeoutMs: 20_000,
      what: "the shutdown to begin",
    });
    node.signal("SIGTERM");
    expect(await node.ended).toEqual({ code: 1, signal: null });
    expect(performance.now() - begun).toBeLessThan(2_500);
  }, 60_000);
});
