import { connect } from "node:net";
import { expect } from "vitest";
import { SHOW_TABLES } from "../../../src/admin/columns.js";
import { BACKEND } from "../../../src/wire/backend.js";
import { Framer } from "../../../src/wire/framer.js";
import {
  COPY_DONE,
  encodeBind,
  encodeCopyData,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  encodeStartup,
  SYNC,
} from "../../../src/wire/frontend.js";
import type { PostgresServer } from "../../support/postgres.js";
import { type Relay, startRelay } from "../../support/relay.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** What a client sends before it vanishes, message by message. */
export interface Script {
  readonly name: string;
  readonly messages: readonly Buffer[];
}

const FLUSH = Buffer.from("4800000004", "hex");

/** Parse, Bind, Describe, Execute of one statement. */
function pipeline(sql: string, name = ""): readonly Buffer[] {
  return [
    encodeParseSql(name, sql, []),
    encodeBind({
      portal: "",
      statement: name,
      parameterFormats: [],
      parameters: [],
      resultFormats: [],
    }),
    encodeDescribe({ target: "portal", name: "" }),
    encodeExecute({ portal: "", maxRows: 0 }),
  ];
}

function simple(...statements: readonly string[]): Script {
  return { name: statements.join("; "), messages: statements.map((sql) => encodeQuery(sql)) };
}

function extended(...statements: readonly string[]): Script {
  return {
    name: `extended: ${statements.join("; ")}`,
    messages: statements.flatMap((sql) => [...pipeline(sql), SYNC]),
  };
}

const COPY: Script = {
  name: "COPY FROM STDIN",
  messages: [
    encodeQuery("COPY dropped FROM STDIN"),
    encodeCopyData([Buffer.from("1\t1\n2\t1\n")]),
    encodeCopyData([Buffer.from("3\t1\n4\t1\n")]),
    COPY_DONE,
  ],
};

/** Each makes the proxy send something by itself: BEGIN, SET, what reads settings back, COMMIT over shards, ... */
const COMMON: readonly Script[] = [
  simple("SET work_mem = '5MB'"),
  simple("SELECT set_config('work_mem', '6MB', false)"),
  simple("BEGIN", "INSERT INTO dropped VALUES (1, 1)", "COMMIT"),
  simple("BEGIN", "SET LOCAL work_mem = '7MB'", "SAVEPOINT a", "INSERT INTO dropped VALUES (3, 2)"),
  simple("BEGIN", "SELECT count(*) FROM dropped"),
  simple("SELECT repeat('x', 100), id FROM many ORDER BY id"),
  simple("SELECT no_such_column"),
  extended("SELECT 7 AS seven"),
  extended("BEGIN", "INSERT INTO dropped VALUES (4, 1)", "SELECT 8 AS eight"),
  { name: "no Sync", messages: [...pipeline("INSERT INTO dropped VALUES (2, 1)"), FLUSH] },
  { name: "a statement with a name", messages: [...pipeline("SELECT 9 AS nine", "s"), SYNC] },
  COPY,
];

export const SINGLE: readonly Script[] = [
  ...COMMON,
  simple("CREATE TEMP TABLE IF NOT EXISTS mine (i int)", "SELECT count(*) FROM mine"),
  simple("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"),
  simple("DISCARD ALL"),
];

export const SHARDED: readonly Script[] = [
  ...COMMON,
  // One row on each shard: both, or none.
  simple("INSERT INTO dropped VALUES (1, 3), (3, 3)"),
  simple("BEGIN", "INSERT INTO dropped VALUES (2, 4), (4, 4)", "COMMIT"),
  extended("INSERT INTO dropped VALUES (1, 5), (4, 5)"),
  simple("UPDATE settings SET value = value + 1"),
  simple("SELECT nextval('drawn')"),
  simple("BEGIN", "DECLARE c CURSOR FOR SELECT id FROM many ORDER BY id", "FETCH 3 FROM c"),
];

export const SCHEMA = `
  CREATE TABLE kept (id bigint PRIMARY KEY);
  CREATE TABLE dropped (id bigint, n int);
  CREATE TABLE many (id bigint PRIMARY KEY);
  CREATE TABLE settings (name text PRIMARY KEY, value int);
  INSERT INTO settings VALUES ('a', 1);
  CREATE SEQUENCE drawn;
  INSERT INTO many SELECT generate_series(1, 300)`;

export interface Setting extends AsyncDisposable {
  readonly proxy: TestProxy;
  readonly relay: Relay;
}

/** A proxy whose servers answer late and in pieces. @param databases one for each shard, of one server */
export async function startSlowly(
  server: PostgresServer,
  databases: readonly string[],
  poolSize: number,
): Promise<Setting> {
  const relay = await startRelay({ port: server.port, answerDelayMs: 1, pieceBytes: 23 });
  const behind: PostgresServer = { ...server, port: relay.port };
  const rules = ["kept", "dropped", "many"].map((name) => ({
    ...{ database: "app", name, schema: null, column: "id", dataType: "bigint" as const },
  }));
  const proxy = await startProxy(
    testConfig({
      databases: [
        { name: "app", shards: databases.map((database) => ({ server: behind, database })) },
      ],
      general: { defaultPoolSize: poolSize, checkoutTimeoutMs: 20_000 },
      ...(databases.length === 1
        ? {}
        : { shardedTables: rules, omnishardedTables: { app: ["settings"] } }),
    }),
  );
  return {
    proxy,
    relay,
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await relay[Symbol.asyncDispose]();
    },
  };
}

/** Where a client vanishes: after so many bytes of what it sends, or of what it is told after login. */
export type Cut = { readonly sent: number } | { readonly told: number };

/** Logs in, sends the script up to the cut, and is gone. Resolves when its socket is closed. */
export async function vanish(port: number, script: Script, cut: Cut): Promise<void> {
  const whole = Buffer.concat(script.messages);
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    const framer = new Framer();
    let isReady = false;
    let told = 0;
    socket.on("error", reject);
    socket.on("close", () => resolve());
    const begin = () => {
      isReady = true;
      if ("told" in cut) socket.write(whole);
      // Written, and the rest is silence: a reset could overtake the bytes.
      else socket.write(whole.subarray(0, cut.sent), () => socket.end());
    };
    socket.on("data", (chunk) => {
      if (isReady) {
        told += chunk.length;
        if ("told" in cut && told >= cut.told) socket.destroy();
        return;
      }
      framer.push(chunk);
      while (framer.next()) if (framer.type === BACKEND.readyForQuery) begin();
    });
    const parameters = [
      ["user", "postgres"],
      ["database", "app"],
    ] as const;
    socket.write(encodeStartup(new Map(parameters)));
    // All was told before the cut, or nothing more will be.
    if ("told" in cut) socket.setTimeout(200, () => socket.destroy());
  });
}

/** Every `step`th place; the first bytes of each message, and its last, always. */
export function cutsOf({ messages }: Script, step: number): readonly Cut[] {
  const sent = new Set<number>();
  let at = 0;
  for (const message of messages) {
    sent.add(at + 1);
    at += message.length;
    sent.add(at - 1);
    sent.add(at);
  }
  for (let place = 0; place <= at; place += step) sent.add(place);
  const told: Cut[] = [];
  for (let place = 1; place <= at; place += step * 2) told.push({ told: place });
  return [...[...sent].map((place) => ({ sent: place })), ...told];
}

/** Clients that stay, until `end`: readers that know their answers, writers that count what was acknowledged. */
export async function startBystanders(proxy: TestProxy): Promise<Bystanders> {
  const acknowledged: number[] = [];
  let isEnding = false;
  let next = 0;
  let answers = 0;
  const until_ = async (work: () => Promise<void>) => {
    while (!isEnding) await work();
  };
  const readers = [0, 1, 2].map(async (reader) => {
    const client = await proxy.client("app");
    await until_(async () => {
      const number = next++;
      const asked = `r${reader} ${number}`;
      const { rows } =
        number % 2 === 0
          ? await client.query(`SELECT '${asked}' AS answer, current_setting('work_mem') AS mem`)
          : await client.query("SELECT $1::text AS answer, current_setting('work_mem') AS mem", [
              asked,
            ]);
      expect(rows).toEqual([{ answer: asked, mem: "4MB" }]);
      answers++;
    });
  });
  const writers = [0, 1].map(async () => {
    const client = await proxy.client("app");
    await until_(async () => {
      const id = next++;
      const { rowCount } =
        id % 2 === 0
          ? await client.query(`INSERT INTO kept VALUES (${id})`)
          : await client.query("INSERT INTO kept VALUES ($1)", [id]);
      expect(rowCount).toBe(1);
      acknowledged.push(id);
    });
  });
  const all = Promise.all([...readers, ...writers]);
  // Whoever has a wrong answer says so at the end.
  all.catch(() => {
    isEnding = true;
  });
  return {
    end: async () => {
      isEnding = true;
      await all;
      return { answers, acknowledged };
    },
  };
}

export interface Bystanders {
  /** @throws what one of them met */
  end(): Promise<{ readonly answers: number; readonly acknowledged: readonly number[] }>;
}

/** No connection is lent, being mended, waited for or left in a transaction. */
export async function expectRest(proxy: TestProxy): Promise<void> {
  const names = SHOW_TABLES.pools.columns.map(({ name }) => name);
  const inUse = () =>
    proxy.plane
      .show("pools")
      .map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]])))
      .filter((row) => row.sv_active !== 0 || row.sv_idle_xact !== 0 || row.cl_waiting !== 0);
  await until(() => inUse().length === 0, { timeoutMs: 8_000, what: "all to be at rest" });
}

/** Runs the scripts, `together` clients at a time, at all places. @returns how many vanished */
export async function vanishEverywhere(
  proxy: TestProxy,
  scripts: readonly Script[],
  { step, together }: { readonly step: number; readonly together: number },
): Promise<number> {
  const jobs = scripts.flatMap((script) => cutsOf(script, step).map((cut) => ({ script, cut })));
  let at = 0;
  const run = async () => {
    for (let job = jobs[at++]; job; job = jobs[at++]) await vanish(proxy.port, job.script, job.cut);
  };
  await Promise.all(Array.from({ length: together }, run));
  return jobs.length;
}
