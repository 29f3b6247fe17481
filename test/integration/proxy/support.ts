import { createServer } from "node:net";
import pg from "pg";
import { SHOW_TABLES } from "../../../src/admin/columns.js";
import type {
  Config,
  DatabaseConfig,
  GeneralConfig,
  UserConfig,
} from "../../../src/config/model.js";
import { createLog, type Log } from "../../../src/observe/log.js";
import type {
  AdminValue,
  FromDataPlane,
  MainCalls,
  ToDataPlane,
} from "../../../src/proxy/channel.js";
import { DataPlane } from "../../../src/proxy/data-plane.js";
import type { PostgresServer } from "../../support/postgres.js";

const GENERAL: GeneralConfig = {
  host: "127.0.0.1",
  port: 0,
  workers: 1,
  defaultPoolSize: 10,
  minPoolSize: 0,
  poolerMode: "transaction",
  authType: "trust",
  checkoutTimeoutMs: 5_000,
  connectTimeoutMs: 5_000,
  idleTimeoutMs: 60_000,
  serverLifetimeMs: 0,
  serverLifetimeJitterMs: 0,
  preparedStatementsLimit: 1_000,
  clientLoginTimeoutMs: 5_000,
  shutdownTimeoutMs: 1_000,
  cutoverTrafficStopThresholdBytes: 1_000_000,
  logLevel: "info",
  cutoverSaveConfig: false,
  reshardingCopyFormat: "binary",
  reshardingParallelCopies: 1,
  twoPhaseCommit: "auto",
  others: {},
};

export interface TestDatabase {
  readonly name: string;
  readonly shards: readonly { readonly server: PostgresServer; readonly database: string }[];
}

export interface TestConfig {
  readonly databases: readonly TestDatabase[];
  readonly general?: Partial<GeneralConfig>;
  readonly users?: readonly Partial<UserConfig>[];
  readonly shardedTables?: Config["shardedTables"];
  readonly omnishardedTables?: Config["omnishardedTables"];
}

export function testConfig(options: TestConfig): Config {
  const databases: DatabaseConfig[] = options.databases.flatMap(({ name, shards }) =>
    shards.map(({ server, database }, shard) => ({
      name,
      host: "127.0.0.1",
      port: server.port,
      shard,
      role: "primary" as const,
      databaseName: database,
      user: null,
      password: null,
      poolSize: null,
      poolerMode: null,
    })),
  );
  const users = (options.users ?? [{}]).flatMap((user) =>
    options.databases.map(({ name }) => ({
      name: "postgres",
      database: name,
      password: null,
      serverUser: null,
      serverPassword: null,
      poolSize: null,
      poolerMode: null,
      schemaAdmin: true,
      ...user,
    })),
  );
  return {
    general: { ...GENERAL, ...options.general },
    databases,
    users,
    shardedTables: options.shardedTables ?? [],
    omnishardedTables: options.omnishardedTables ?? {},
    admin: { name: "admin", user: "admin", password: "secret" },
    rewrite: { shardKey: "rewrite", splitInserts: "rewrite" },
    pgDumpPath: "pg_dump",
    warnings: [],
    sluice: {
      nodeId: "test",
      temporal: { address: "", namespace: "" },
      movers: 0,
      pauseCapMs: 0,
      pauseBudgetMs: 0,
      openTransactions: "wait",
      silentNode: "abort",
      holdMaxClients: 1_000,
      holdMaxBytes: 1_000_000,
      verifyMaxAgeMs: 0,
      copyRangeRows: 0,
      replicaIdentity: "auto",
      uniqueWithoutShardingKey: "warn",
      leftBehind: [],
      placementGuard: true,
      adminApiTimeoutMs: 0,
    },
  };
}

export interface TestProxy extends AsyncDisposable {
  readonly port: number;
  readonly plane: DataPlane;
  readonly messages: readonly FromDataPlane[];
  /** Called for each message, beside `messages`. */
  onMessage: (message: FromDataPlane) => void;
  /** Answers the statements of clients of the admin database. */
  onAdmin: MainCalls["admin"];
  /** Told that tables have changed, for the other planes of its node. */
  onTablesChanged: MainCalls["tablesChanged"];
  tell(message: ToDataPlane): void;
  topology(config: Config, epochs?: Readonly<Record<string, number>>): void;
  /** Connected; ends itself with the proxy. */
  client(database: string, options?: pg.ClientConfig): Promise<pg.Client>;
  url(database: string, user?: string): string;
  /** SHOW CLIENTS, by the names of its columns. */
  clientRows(): readonly Readonly<Record<string, AdminValue | undefined>>[];
}

/** A data plane in this process, listening on a free port. */
export async function startProxy(
  config: Config,
  log: Log = createLog({}, process.env.SLUICE_TEST_LOG ?? "fatal"),
): Promise<TestProxy> {
  const messages: FromDataPlane[] = [];
  const clients: pg.Client[] = [];
  let generation = 0;
  const plane = new DataPlane({
    send: (message) => {
      messages.push(message);
      proxy.onMessage(message);
    },
    admin: async (user, sql) => await proxy.onAdmin(user, sql),
    tablesChanged: async (database) => await proxy.onTablesChanged(database),
    log,
  });
  const server = createServer((socket) => plane.attach(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const { port } = address;
  const proxy: TestProxy = {
    port,
    plane,
    messages,
    onMessage: () => {},
    onAdmin: async () => ({ kind: "done", tag: "" }),
    onTablesChanged: async () => {},
    tell: (message) => plane.handle(message),
    topology: (next, epochs = {}) =>
      plane.handle({ kind: "topology", generation: ++generation, config: next, epochs }),
    client: async (database, options = {}) => {
      const client = new pg.Client({
        host: "127.0.0.1",
        port,
        database,
        user: "postgres",
        ...options,
      });
      client.on("error", () => {});
      await client.connect();
      clients.push(client);
      return client;
    },
    clientRows: () => {
      const names = SHOW_TABLES.clients.columns.map(({ name }) => name);
      const rows = plane.show("clients");
      return rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]])));
    },
    url: (database, user = "postgres") => `postgres://${user}@127.0.0.1:${port}/${database}`,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(clients.map((client) => client.end().catch(() => {})));
      server.close();
      await plane.shutdown(0);
    },
  };
  proxy.topology(config);
  return proxy;
}
