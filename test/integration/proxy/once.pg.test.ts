import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type * as Routers from "../../../src/router/router.js";
import type * as Frontend from "../../../src/wire/frontend.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** A message is decoded once and a statement routed once, whoever looks at it on its way. */

const calls = vi.hoisted(() => new Map<string, number>());

// The real functions, counted where the proxy's modules import them.
vi.mock("../../../src/wire/frontend.js", async (importOriginal) => {
  const frontend = await importOriginal<typeof Frontend>();
  const counted = Object.entries(frontend).map(([name, value]) => {
    if (typeof value !== "function" || !name.startsWith("decode")) return [name, value];
    const decode = value as (...frames: unknown[]) => unknown;
    return [
      name,
      (...frames: unknown[]) => {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        return decode(...frames);
      },
    ];
  });
  return Object.fromEntries(counted);
});
vi.mock("../../../src/router/router.js", async (importOriginal) => {
  const routers = await importOriginal<typeof Routers>();
  return {
    ...routers,
    createRouter: (...options: Parameters<typeof Routers.createRouter>) => {
      const router = routers.createRouter(...options);
      const route: Routers.Router["route"] = (sql, parameters) => {
        calls.set("route", (calls.get("route") ?? 0) + 1);
        return router.route(sql, parameters);
      };
      return { ...router, route };
    },
  };
});

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["shard_0", "shard_1"]) {
    await server.createDatabase(name);
    await server.sql(name, "CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text)");
  }
  const [zero, one] = ["shard_0", "shard_1"].map((database) => ({ server, database }));
  if (!zero || !one) throw new Error("no shards");
  proxy = await startProxy(
    testConfig({
      databases: [
        { name: "single", shards: [zero] },
        { name: "app", shards: [zero, one] },
      ],
      shardedTables: [
        { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
      ],
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

beforeEach(() => calls.clear());

function counted(): Record<string, number> {
  const result = Object.fromEntries(calls);
  calls.clear();
  return result;
}

/** Bind, Describe of the portal, Execute, Sync: what node-postgres sends for a prepared statement. */
const REPEATED = { decodeBindNames: 1, decodeTarget: 1, decodeExecute: 1 };
const ROUTED = { decodeBindValues: 1, route: 1 };

describe.each([
  ["one server", "single", "SELECT * FROM tenant WHERE tenant_id = $1", {}],
  ["one of two shards", "app", "SELECT * FROM tenant WHERE tenant_id = $1", ROUTED],
  ["two shards", "app", "SELECT * FROM tenant WHERE tenant_id > $1 ORDER BY 1", ROUTED],
  ["a write on two shards", "app", "UPDATE tenant SET name = '' WHERE tenant_id > $1", ROUTED],
])("%s", (_, database, text, more) => {
  test("Parse, Bind, Describe, Execute, Sync", async () => {
    const client = await proxy.client(database);
    // The router reads its tables before the first statement.
    await client.query("SELECT 1");
    counted();
    for (const name of ["first", "second"]) {
      await client.query({ name, text, values: [1] });
      expect(counted()).toEqual({ decodeParse: 1, ...REPEATED, ...more });
      await client.query({ name, text, values: [2] });
      expect(counted()).toEqual({ ...REPEATED, ...more });
    }
    await client.query(text, [3]);
    expect(counted()).toEqual({ decodeParse: 1, ...REPEATED, ...more });
  });

  test("in a transaction", async () => {
    const client = await proxy.client(database);
    await client.query("BEGIN");
    await client.query(text, [1]);
    counted();
    await client.query(text, [2]);
    expect(counted()).toEqual({ decodeParse: 1, ...REPEATED, ...more });
    await client.query("ROLLBACK");
  });

  test("the simple protocol", async () => {
    const client = await proxy.client(database);
    await client.query("SELECT 1");
    counted();
    await client.query(text.replace("$1", "1"));
    expect(counted()).toEqual({ decodeQuery: 1, ...("route" in more ? { route: 1 } : {}) });
  });
});
