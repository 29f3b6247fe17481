import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

const USERS = ["postgres", "plain", "loose"];

// One server connection for all clients of a user: what one leaves there, the next one would find.
const config = () =>
  testConfig({
    databases: [
      { name: "app", shards: [{ server, database: "app" }] },
      {
        name: "wide",
        shards: [
          { server, database: "wide_0" },
          { server, database: "wide_1" },
        ],
      },
    ],
    users: USERS.map((name) => ({ name })),
    general: { defaultPoolSize: 1 },
    shardedTables: [
      { database: "wide", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });

const FUNCTIONS = `
  CREATE FUNCTION hide() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('search_path', 'nowhere', false); END $$;
  CREATE FUNCTION hide_deeper() RETURNS void LANGUAGE sql AS 'SELECT hide()';
  CREATE FUNCTION brand() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.brand', 'x', false); END $$;
  CREATE FUNCTION zone() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET timezone = 'Asia/Tokyo'; END $$;
  CREATE FUNCTION dynamic(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; END $$;
  CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$ BEGIN SET timezone = 'Asia/Tokyo'; END $$;`;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["app", "wide_0", "wide_1"]) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text);
       GRANT ALL ON tenant TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC; ${FUNCTIONS}`,
    );
  }
  await server.sql(
    "app",
    `CREATE ROLE plain LOGIN; CREATE ROLE loose LOGIN;
     ALTER ROLE loose SET standard_conforming_strings = off;
     ALTER ROLE loose SET timezone = 'Asia/Tokyo'; ALTER ROLE loose SET datestyle = 'German'`,
  );
});

beforeEach(async () => {
  proxy = await startProxy(config());
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Told {
  readonly client: pg.Client;
  readonly parameters: Map<string, string>;
}

async function told(database: string, options: pg.ClientConfig = {}): Promise<Told> {
  const parameters = new Map<string, string>();
  const { Client } = (await import("pg")).default;
  const client = new Client({
    ...{ host: "127.0.0.1", port: proxy.port, database, user: "postgres" },
    ...options,
  });
  const { connection } = client as unknown as {
    connection: { on(name: string, f: (m: Record<string, string>) => void): void };
  };
  connection.on("parameterStatus", (message) => {
    parameters.set(message.parameterName ?? "", message.parameterValue ?? "");
  });
  client.on("error", () => {});
  await client.connect();
  return { client, parameters };
}

async function show(client: pg.Client, name: string): Promise<string | null> {
  const { rows } = await client.query(`SELECT current_setting('${name}', true) AS value`);
  return (rows[0] as { value: string | null }).value;
}

async function code(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "none",
    (error: { code?: string }) => error.code ?? "?",
  );
}

describe("what a statement leaves in its session is not for the next client", () => {
  const WAYS = [
    "CREATE TABLE pg_temp.secret AS SELECT 42 AS x",
    "CREATE /* */ TEMPORARY TABLE secret AS SELECT 42 AS x",
    "SELECT 42 AS x INTO pg_temp.secret",
    "SELECT 42 AS x INTO/**/TEMP secret",
    "DO $$ BEGIN CREATE TEMP TABLE secret AS SELECT 42 AS x; END $$",
    "SELECT dynamic('create temp table secret as select 42 as x')",
    "CREATE TEMP VIEW secret AS SELECT 42 AS x",
  ];

  test.each(WAYS)("%s", async (sql) => {
    const one = await proxy.client("app");
    await one.query(sql);
    expect((await one.query("SELECT x FROM secret")).rows).toEqual([{ x: 42 }]);
    await one.end();
    const two = await proxy.client("app");
    expect(await code(two.query("SELECT x FROM secret"))).toBe("42P01");
    await two.end();
  });

  test("functions of a temporary schema, and what search_path makes temporary", async () => {
    const one = await proxy.client("app");
    await one.query("CREATE FUNCTION pg_temp.own() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    await one.query("SET search_path = pg_temp");
    await one.query("CREATE TABLE secret (x int)");
    await one.end();
    const two = await proxy.client("app");
    expect(await code(two.query("SELECT pg_temp.own()"))).toBe("42883");
    expect(await code(two.query("SELECT x FROM secret"))).toBe("42P01");
  });

  const CHANGES = [
    "SELECT hide()",
    "SELECT hide_deeper()",
    "DO $$ BEGIN PERFORM set_config('search_path', 'nowhere', false); END $$",
    "UPDATE pg_settings SET setting = 'nowhere' WHERE name = 'search_path'",
    "SELECT dynamic('set search_path = nowhere')",
    "SELECT set_config('search_path', 'nowhere', false)",
  ];

  test.each(CHANGES)("%s", async (sql) => {
    const one = await proxy.client("app");
    const two = await proxy.client("app");
    await one.query(sql);
    expect((await two.query("SELECT count(*)::int AS n FROM tenant")).rows).toEqual([{ n: 0 }]);
    expect(await show(one, "search_path")).toBe("nowhere");
    await one.query("RESET search_path");
    expect(await show(one, "search_path")).toBe('"$user", public');
  });

  test("a trigger that sets, CALL, and settings with a dot", async () => {
    await server.sql(
      "app",
      `CREATE TABLE noisy (id int); CREATE FUNCTION noise() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM set_config('app.noise', 'loud', false); RETURN NEW; END $$;
       CREATE TRIGGER noise BEFORE INSERT ON noisy FOR EACH ROW EXECUTE FUNCTION noise()`,
    );
    const one = await proxy.client("app");
    const two = await proxy.client("app");
    await one.query("SELECT brand()");
    await one.query("CALL proc()");
    await one.query("INSERT INTO noisy VALUES (1)");
    for (const name of ["app.brand", "app.noise"]) expect(await show(two, name)).toBeFalsy();
    expect(await show(two, "timezone")).not.toBe("Asia/Tokyo");
    expect(await show(one, "app.brand")).toBe("x");
    expect(await show(one, "app.noise")).toBe("loud");
    expect(await show(one, "timezone")).toBe("Asia/Tokyo");
    await server.sql("app", "DROP TABLE noisy; DROP FUNCTION noise()");
  });

  test("a client that leaves at once", async () => {
    for (const sql of ["SET work_mem = '20MB'", "SELECT hide()"]) {
      const one = await proxy.client("app");
      const { connection } = one as unknown as { connection: { stream: { destroy(): void } } };
      await one.query(sql);
      connection.stream.destroy();
      const two = await proxy.client("app");
      expect(await show(two, "work_mem")).toBe("4MB");
      expect(await show(two, "search_path")).toBe('"$user", public');
    }
  });
});

describe("what a client is told", () => {
  test("its own role's settings at login, whoever came first", async () => {
    const first = await told("app", { user: "postgres" });
    const loose = await told("app", { user: "loose" });
    const again = await told("app", { user: "loose" });
    expect(first.parameters.get("standard_conforming_strings")).toBe("on");
    expect(first.parameters.get("is_superuser")).toBe("on");
    for (const { parameters, client } of [loose, again]) {
      expect(parameters.get("standard_conforming_strings")).toBe("off");
      expect(parameters.get("TimeZone")).toBe("Asia/Tokyo");
      expect(parameters.get("DateStyle")).toMatch(/^German/);
      expect(parameters.get("is_superuser")).toBe("off");
      expect(parameters.get("session_authorization")).toBe("loose");
      await client.end();
    }
    await first.client.end();
  });

  test("its start-up settings, also where they are known already", async () => {
    for (let round = 0; round < 2; round++) {
      const { client, parameters } = await told("app", { options: "-c timezone=Asia/Tokyo" });
      expect(parameters.get("TimeZone")).toBe("Asia/Tokyo");
      await client.end();
    }
    const other = await told("app");
    expect(other.parameters.get("TimeZone")).not.toBe("Asia/Tokyo");
    await other.client.end();
  });

  test("a role changed since: its statements run as it was told", async () => {
    await using fresh = await startProxy(config());
    const before = proxy;
    proxy = fresh;
    const { client, parameters } = await told("app", { user: "plain" });
    proxy = before;
    expect(parameters.get("standard_conforming_strings")).toBe("on");
    await server.sql("app", "ALTER ROLE plain SET standard_conforming_strings = off");
    fresh.plane.handle({ kind: "reconnect" });
    expect(await show(client, "standard_conforming_strings")).toBe("on");
    await server.sql("app", "ALTER ROLE plain RESET standard_conforming_strings");
    await client.end();
  });

  test.each(["app", "wide"])("what it sets on %s", async (database) => {
    const { client, parameters } = await told(database, { application_name: "mine" });
    expect(parameters.get("application_name")).toBe("mine");
    await client.query("SET TimeZone = 'Asia/Tokyo'");
    expect(parameters.get("TimeZone")).toBe("Asia/Tokyo");
    await client.query("SELECT set_config('application_name', 'other', false)");
    expect(parameters.get("application_name")).toBe("other");
    await client.query("RESET ALL");
    await client.query("SELECT 1");
    expect(parameters.get("application_name")).toBe("mine");
    expect(await show(client, "application_name")).toBe("mine");
    expect(parameters.get("TimeZone")).not.toBe("Asia/Tokyo");
    await client.query("BEGIN");
    await client.query("SET application_name = 'third'");
    await client.query("RESET application_name");
    expect(await show(client, "application_name")).toBe("mine");
    await client.query("COMMIT");
    await client.query("SET DateStyle = 'German'");
    await client.query("DISCARD ALL");
    await client.query("SELECT 1");
    expect(parameters.get("DateStyle")).toBe("ISO, MDY");
    expect(parameters.get("application_name")).toBe("mine");
    await client.end();
  });

  test("a client without a name has none, not ours", async () => {
    const client = await proxy.client("app");
    expect(await show(client, "application_name")).toBe("");
    await client.query("RESET ALL");
    expect(await show(client, "application_name")).toBe("");
  });
});

describe("on shards", () => {
  test("what pg_dump does first stays with it", async () => {
    for (const values of [null, []]) {
      const one = await proxy.client("wide");
      const text = "SELECT pg_catalog.set_config('search_path', '', false)";
      await (values === null ? one.query(text) : one.query(text, values));
      expect(await code(one.query("SELECT count(*) FROM tenant"))).toBe("42P01");
      await one.end();
      const two = await proxy.client("wide");
      for (const id of [1, 2, 3, 4])
        await two.query("SELECT name FROM public.tenant WHERE tenant_id = $1", [id]);
      expect((await two.query("SELECT count(*)::int AS n FROM tenant")).rows).toEqual([{ n: 0 }]);
      await two.end();
    }
  });

  test("in a transaction all of its servers have it, and only as long as it says", async () => {
    const client = await proxy.client("wide");
    const paths = async () => {
      const texts = [1, 3].map(
        (id) => `SELECT current_setting('app.x', true) AS x FROM tenant WHERE tenant_id = ${id}`,
      );
      return (await Promise.all(texts.map((text) => client.query(text)))).map(
        ({ rows }) => (rows[0] as { x: string | null }).x,
      );
    };
    await client.query("INSERT INTO tenant VALUES (1), (3)");
    for (const [local, after] of [
      [true, ["", ""]],
      [false, ["7", "7"]],
    ] as const) {
      await client.query("BEGIN");
      await client.query(`SELECT set_config('app.x', '7', ${local})`);
      expect(await paths()).toEqual(["7", "7"]);
      await client.query("COMMIT");
      expect((await paths()).map((x) => x ?? "")).toEqual(after);
    }
    const other = await proxy.client("wide");
    expect(await show(other, "app.x")).toBeFalsy();
    await client.query("DELETE FROM tenant WHERE tenant_id IN (1, 3)");
  });

  test("a temporary schema is refused as temporary tables are", async () => {
    const client = await proxy.client("wide");
    expect(await code(client.query("CREATE TABLE pg_temp.x (a int)"))).toBe("0A000");
  });

  test.each(["app", "wide"])("AND CHAIN on %s begins the next transaction", async (database) => {
    const client = await proxy.client(database);
    const status = () => (client as unknown as { _txStatus?: string })._txStatus;
    expect(await code(client.query("COMMIT AND CHAIN"))).toBe("25P01");
    await client.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
    await client.query("INSERT INTO tenant VALUES (1), (3)");
    await client.query("COMMIT AND CHAIN");
    expect(await show(client, "transaction_isolation")).toBe("serializable");
    await client.query("DELETE FROM tenant");
    await client.query("ROLLBACK AND CHAIN");
    expect(await code(client.query("SELECT 1/0"))).toBe("22012");
    await client.query("ROLLBACK AND CHAIN");
    await client.query("DELETE FROM tenant");
    await client.query("ROLLBACK AND NO CHAIN");
    const { rows } = await client.query("SELECT count(*)::int AS n FROM tenant");
    expect(rows).toEqual([{ n: 2 }]);
    expect(status()).not.toBe("T");
    await client.query("DELETE FROM tenant WHERE tenant_id IN (1, 3)");
  });
});

test.each(["app", "wide"])("SET seed on %s does no harm", async (database) => {
  const client = await proxy.client(database);
  for (const sql of ["SET seed = 0.5", "SET seed TO DEFAULT", "SET transaction_read_only = on"])
    await client.query(sql).catch(() => {});
  // Whose connection it is meanwhile.
  await (await proxy.client(database)).query("SELECT 1");
  expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
});
