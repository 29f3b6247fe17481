import { connect } from "node:net";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuthType } from "../../../src/config/model.js";
import type { AdminResult } from "../../../src/proxy/channel.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres({
    hba: [
      "host all scram_user 127.0.0.1/32 scram-sha-256",
      "host all md5_user 127.0.0.1/32 md5",
      "host all plain_user 127.0.0.1/32 password",
      "host all all 127.0.0.1/32 trust",
    ],
  });
  await server.createDatabase("app");
  await server.sql(
    "app",
    "CREATE ROLE scram_user LOGIN PASSWORD 'geheim ü'; CREATE ROLE plain_user LOGIN PASSWORD 'plain'",
  );
  await server.sql(
    "app",
    "SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'md5'",
  );
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const withProxy = async (authType: AuthType, use: (proxy: TestProxy) => Promise<void>) => {
  await using proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: [{ server, database: "app" }] }],
      users: [
        { name: "scram_user", password: "geheim ü" },
        { name: "md5_user", password: "md5" },
        { name: "plain_user", password: "plain" },
        { name: "broken", password: "x", serverUser: "scram_user", serverPassword: "wrong" },
      ],
      general: { authType },
    }),
  );
  proxy.onAdmin = async (_user, sql) => adminAnswer(sql);
  await use(proxy);
};

function adminAnswer(sql: string): AdminResult {
  if (/oops/.test(sql))
    return {
      kind: "error",
      sqlState: "08P01",
      message: "no such command",
      detail: null,
      hint: "SHOW HELP",
    };
  if (/RELOAD/.test(sql)) return { kind: "done", tag: "RELOAD" };
  return {
    kind: "rows",
    columns: [
      { name: "id", type: "bigint" },
      { name: "name", type: "text" },
      { name: "size", type: "numeric" },
      { name: "paused", type: "bool" },
    ],
    rows: [
      [7, "seven", 1.5, true],
      [8, null, 2, false],
    ],
    tag: "SHOW",
  };
}

async function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("login", () => {
  test.each(["scram", "md5", "plain"] as const)(
    "%s towards clients, and each method towards servers",
    async (method) => {
      await withProxy(method, async (proxy) => {
        for (const [user, password] of [
          ["scram_user", "geheim ü"],
          ["md5_user", "md5"],
          ["plain_user", "plain"],
        ]) {
          const client = await proxy.client("app", { user, password });
          expect((await client.query("SELECT current_user AS me")).rows).toEqual([{ me: user }]);
        }
        const wrong = await failure(proxy.client("app", { user: "scram_user", password: "wrong" }));
        const unknown = await failure(proxy.client("app", { user: "nobody", password: "wrong" }));
        expect([wrong.code, wrong.severity]).toEqual(["28P01", "FATAL"]);
        expect([unknown.code, unknown.message]).toEqual([
          "28P01",
          wrong.message.replace("scram_user", "nobody"),
        ]);
        const nowhere = await failure(
          proxy.client("nowhere", { user: "md5_user", password: "md5" }),
        );
        expect(nowhere.code).toBe("3D000");
        expect(
          (await failure(proxy.client("nowhere", { user: "md5_user", password: "x" }))).code,
        ).toBe("28P01");
      });
    },
  );

  test("a server that refuses us is a clear error without secrets", async () => {
    await withProxy("scram", async (proxy) => {
      const error = await failure(proxy.client("app", { user: "broken", password: "x" }));
      expect(error.code).toBe("28P01");
      expect(JSON.stringify(error)).not.toContain("wrong");
    });
  });

  test("start-up settings are applied, and a wrong one is refused", async () => {
    await withProxy("plain", async (proxy) => {
      const account = { user: "plain_user", password: "plain" };
      const client = await proxy.client("app", {
        ...account,
        options: "-c search_path=pg_catalog -c statement_timeout=4321",
      });
      expect((await client.query("SHOW statement_timeout")).rows).toEqual([
        { statement_timeout: "4321ms" },
      ]);
      expect(
        (await failure(proxy.client("app", { ...account, options: "-c work_mem=lots" }))).code,
      ).toBe("22023");
    });
  });

  test("a first packet that is none is answered and closed", async () => {
    await withProxy("trust", async (proxy) => {
      const socket = connect(proxy.port, "127.0.0.1");
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      socket.on("error", () => {});
      socket.resume();
      socket.write("GET / HTTP/1.1\r\n\r\n");
      await closed;
    });
  });

  test("the admin database: rows, types, notices and errors that end nothing", async () => {
    await withProxy("scram", async (proxy) => {
      const client = await proxy.client("admin", { user: "admin", password: "secret" });
      const { rows, fields } = await client.query("SHOW THINGS");
      expect(rows).toEqual([
        { id: "7", name: "seven", size: "1.5", paused: true },
        { id: "8", name: null, size: "2", paused: false },
      ]);
      expect(fields.map((field) => field.dataTypeID)).toEqual([20, 25, 1700, 16]);
      const error = await failure(client.query("oops"));
      expect([error.code, error.hint]).toEqual(["08P01", "SHOW HELP"]);
      expect((await client.query("RELOAD")).command).toBe("RELOAD");
      const extended = await client.query({ text: "SHOW THINGS", values: [], name: "named" });
      expect(extended.rows.length).toBe(2);
      expect((await failure(proxy.client("admin", { user: "admin", password: "x" }))).code).toBe(
        "28P01",
      );
      for (const what of ["clients", "pools", "servers", "stats"] as const) {
        const widths = { clients: 21, pools: 24, servers: 18, stats: 54 };
        for (const row of proxy.plane.show(what)) expect(row.length).toBe(widths[what]);
      }
    });
  });
});

describe("servers that die", () => {
  test("a lost server is an error and never a hang; the transaction stays failed until it is ended", async () => {
    await withProxy("trust", async (proxy) => {
      const client = await proxy.client("app", { user: "plain_user" });
      const kill = async () =>
        await server.sql(
          "app",
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain_user'",
        );
      const sleeping = failure(client.query("SELECT pg_sleep(30)"));
      await until(
        async () =>
          (
            await server.sql(
              "app",
              "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND usename = 'plain_user'",
            )
          ).length > 0,
        { timeoutMs: 3_000, what: "it to run" },
      );
      await kill();
      const error = await sleeping;
      expect([error.code, error.severity]).toEqual(["08006", "ERROR"]);
      expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await client.query("BEGIN");
      await client.query("SELECT 1");
      await kill();
      expect((await failure(client.query("SELECT 2"))).code).toBe("08006");
      expect((await failure(client.query("SELECT 3"))).code).toBe("25P02");
      expect((await failure(client.query("SELECT $1::int", [3]))).code).toBe("25P02");
      await client.query("ROLLBACK");
      expect((await client.query("SELECT 4 AS four")).rows).toEqual([{ four: 4 }]);
    });
  });

  test("a client that goes away in a transaction leaves nothing behind", async () => {
    await withProxy("trust", async (proxy) => {
      await server.sql(
        "app",
        "CREATE TABLE IF NOT EXISTS gone (id int); GRANT ALL ON gone TO PUBLIC",
      );
      const client = await proxy.client("app", { user: "plain_user" });
      await client.query("BEGIN");
      await client.query("INSERT INTO gone VALUES (1)");
      const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
      connection.stream.destroy();
      await until(
        async () =>
          (await server.sql("app", "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%'"))
            .length === 0,
        { timeoutMs: 3_000, what: "the rollback" },
      );
      const running = await proxy.client("app", { user: "plain_user" });
      const lost = running.query("SELECT pg_sleep(60)").catch(() => "lost");
      await until(
        async () =>
          (
            await server.sql(
              "app",
              "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active' AND pid <> pg_backend_pid()",
            )
          ).length,
        { timeoutMs: 3_000, what: "it to run" },
      );
      (
        running as unknown as { connection: { stream: { destroy(): void } } }
      ).connection.stream.destroy();
      await lost;
      await until(
        async () =>
          (
            await server.sql(
              "app",
              "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active' AND pid <> pg_backend_pid()",
            )
          ).length === 0,
        { timeoutMs: 3_000, what: "the cancel" },
      );
    });
  });
});
