import type { Config } from "../../../src/config/model.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "../proxy/support.js";
import { type Answer, Client, comparable } from "./answer.js";
import type { Act, Story } from "./story.js";
import { fill, SHARDS, SIDES, tableDifferences, tablesOf } from "./tables.js";

/** What the proxy answered otherwise than one PostgreSQL, with all that led to it. */
export interface Difference {
  readonly story: string;
  readonly acts: readonly string[];
  readonly expected: unknown;
  readonly actual: unknown;
}

export interface Outcome {
  readonly statements: number;
  readonly differences: readonly Difference[];
  /** Statements that the proxy refused, and said so, by its words for it. */
  readonly refused: ReadonlyMap<string, number>;
}

/** One database of the ordinary application, and the same rows over two shards behind the proxy. */
export class Both implements AsyncDisposable {
  readonly #server: PostgresServer;
  readonly #proxy: TestProxy;
  readonly #differences: Difference[] = [];
  readonly #refused = new Map<string, number>();
  #statements = 0;
  #clients = 0;

  private constructor(server: PostgresServer, proxy: TestProxy) {
    this.#server = server;
    this.#proxy = proxy;
  }

  static async start(): Promise<Both> {
    const server = await startPostgres({
      settings: { max_prepared_transactions: "50", statement_timeout: "15s", timezone: "UTC" },
    });
    for (const name of SIDES) await server.createDatabase(name);
    await fill(server);
    return new Both(server, await startProxy(config(server)));
  }

  get outcome(): Outcome {
    return {
      statements: this.#statements,
      differences: this.#differences,
      refused: this.#refused,
    };
  }

  /** As at the start, whatever stories have made. */
  async restart(): Promise<void> {
    // A difference may have left transactions open.
    await this.#server.sql(
      "postgres",
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE state <> 'idle' AND datname <> 'postgres' AND pid <> pg_backend_pid()`,
    );
    await fill(this.#server);
    this.#proxy.topology(config(this.#server));
  }

  /** Plays it on both, and looks at all tables afterwards. A difference ends it, and all is made anew. */
  async play(story: Story): Promise<void> {
    const before = this.#differences.length;
    let pair = await this.#login();
    const done: string[] = [];
    for (const act of story.acts) {
      if (act.kind === "vanish") {
        done.push("-- vanish");
        pair = await this.#vanish(pair);
        continue;
      }
      this.#statements += 1;
      done.push(described(act));
      const difference = await this.#step(act, pair);
      if (difference === null) continue;
      this.#differences.push({ story: story.title, acts: [...done], ...difference });
      break;
    }
    const isSame = this.#differences.length === before;
    if (isSame) await this.#leave(pair);
    else await Promise.all([pair.plain.end(), pair.sharded.end()]);
    if (isSame) await this.#compareTables(story.title, done);
    if (this.#differences.length > before) await this.restart();
  }

  async #step(
    act: Exclude<Act, { kind: "vanish" }>,
    { plain, sharded }: ClientPair,
  ): Promise<Pick<Difference, "expected" | "actual"> | null> {
    const actual = await sharded.do(act);
    if (isRefusal(actual)) {
      const words = actual.error?.message.replaceAll(/"[^"]*"/g, '"..."') ?? "";
      this.#refused.set(words, (this.#refused.get(words) ?? 0) + 1);
      // What is refused in a transaction has failed it.
      if (actual.status === "E") await plain.do({ kind: "statement", sql: "SELECT 1 / 0" });
      return null;
    }
    const expected = await plain.do(act);
    const [left, right] = [comparable(expected, act.sql), comparable(actual, act.sql)];
    if (JSON.stringify(left) === JSON.stringify(right)) return null;
    return {
      expected: { ...(left as object), says: expected.error?.message },
      actual: { ...(right as object), says: actual.error?.message },
    };
  }

  async #login(): Promise<ClientPair> {
    const name = `client_${++this.#clients}`;
    const plain = await Client.connect({
      port: this.#server.port,
      database: "plain",
      application_name: name,
    });
    const sharded = await Client.connect({ port: this.#proxy.port, database: "app" });
    return { plain, sharded };
  }

  async #vanish({ plain, sharded }: ClientPair): Promise<ClientPair> {
    plain.vanish();
    sharded.vanish();
    await this.#quiet();
    return await this.#login();
  }

  async #leave({ plain, sharded }: ClientPair): Promise<void> {
    await Promise.all([plain.end(), sharded.end()]);
    await this.#quiet();
  }

  /** No client's transaction is open on either side. */
  async #quiet(): Promise<void> {
    const list = SHARDS.map((name) => `'${name}'`).join(", ");
    await until(
      async () => {
        const [row] = await this.#server.sql(
          "postgres",
          `SELECT count(*) FILTER (WHERE datname = 'plain')::int AS plain,
             count(*) FILTER (WHERE datname IN (${list}) AND state <> 'idle')::int AS sharded
           FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`,
        );
        return row?.plain === 0 && row.sharded === 0;
      },
      { timeoutMs: 20_000, what: "the clients' transactions to end", intervalMs: 2 },
    );
  }

  async #compareTables(story: string, acts: readonly string[]): Promise<void> {
    const [plain, first, second] = await Promise.all(
      SIDES.map(async (name) => await tablesOf(this.#server, name)),
    );
    for (const [expected, actual] of tableDifferences(plain, [first, second]))
      this.#differences.push({ story, acts, expected, actual });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy[Symbol.asyncDispose]();
    await this.#server[Symbol.asyncDispose]();
  }
}

interface ClientPair {
  readonly plain: Client;
  readonly sharded: Client;
}

function config(server: PostgresServer): Config {
  const rule = { database: "app", schema: null, dataType: "bigint" } as const;
  return testConfig({
    databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
    shardedTables: [
      { ...rule, name: "tenants", column: "id" },
      { ...rule, name: null, column: "tenant_id" },
    ],
  });
}

/** Ours; PostgreSQL's own 0A000 are asked of one server like any other error. */
function isRefusal({ error }: Answer): boolean {
  return error?.sqlState === "0A000";
}

function described(act: Exclude<Act, { kind: "vanish" }>): string {
  if (act.kind === "copy") return `${act.sql}\n${act.data}`;
  const { sql, values, name } = act;
  return values ? `${sql} -- ${name ?? ""} ${JSON.stringify(values)}` : sql;
}
