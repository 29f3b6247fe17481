import { join } from "node:path";
import pg from "pg";
import type { Application } from "./application.js";
import { startCluster, type TestCluster } from "./cluster.js";
import type { Query } from "./load/final-tables.js";
import type { LoadAddress } from "./load/session.js";
import { type SluiceNode, startNode } from "./node.js";
import { SHOP_PUBLICATION, shop } from "./shop/application.js";
import { startTemporal, type TemporalServer } from "./temporal.js";

/** Rows of the shop, or another application. */
type What = { readonly rows: number } | { readonly application: Application };

export type StackOptions = What & Settings;

interface Settings {
  readonly withUi?: boolean;
  readonly nodes?: number;
  /** Where nodes listen, in their order; default: any free port. */
  readonly ports?: readonly number[];
  /** SQLite file of Temporal, for tests that kill it. */
  readonly temporalFile?: string;
  /** More lines for [general] of pgdog.toml. */
  readonly general?: string;
  readonly sluice?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Settings of the PostgreSQL servers. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Hears what is being done. */
  readonly say?: (line: string) => void;
}

/** Source, two shards, Temporal, nodes, and an application's schema with rows. */
export interface Stack extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly temporal: TemporalServer;
  readonly nodes: readonly SluiceNode[];
  readonly application: Application;
  /** What RESHARD is told. */
  readonly migration: string;
  readonly seeded: Readonly<Record<string, number>>;
  /** Where clients of the application connect: one for each node. */
  readonly addresses: readonly LoadAddress[];
  /** Opens the admin database of a node. */
  admin(node?: number): Promise<Admin>;
  /** Straight to the servers, past the proxy. */
  readonly source: Query;
  readonly shards: readonly Query[];
}

/** A connection to the admin database. */
export interface Admin extends AsyncDisposable {
  run(command: string): Promise<Record<string, unknown>[]>;
}

const DATABASE = "prod";
const DESTINATION = "prod_sharded";
/** Of a stack with the shop's rows. */
export const MIGRATION = `${DATABASE} ${DESTINATION} ${SHOP_PUBLICATION}`;
const APP = { user: "app", password: "app-password" };
const ADMIN = { user: "admin", password: "admin-password" };

export async function startStack(options: StackOptions): Promise<Stack> {
  const say = options.say ?? (() => {});
  const started: AsyncDisposable[] = [];
  // What was started last needs the others, so it ends first.
  const stop = async () => {
    for (const one of started.splice(0).reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    return { ...(await build(options, started, say)), [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  options: StackOptions,
  started: AsyncDisposable[],
  say: (line: string) => void,
): Promise<Omit<Stack, typeof Symbol.asyncDispose>> {
  const use = <T extends AsyncDisposable>(one: T): T => {
    started.push(one);
    return one;
  };
  say("starting PostgreSQL: one source, two shards");
  const cluster = use(
    await startCluster({
      hba: HBA,
      ...(options.settings === undefined ? {} : { settings: options.settings }),
    }),
  );
  const servers = [cluster.source, ...cluster.shards];
  for (const [index, server] of servers.entries())
    say(`  ${index === 0 ? "source " : `shard ${index - 1}`}  port ${server.port}`);
  // Roles belong to a server and do not travel with a schema.
  for (const server of servers)
    await server.sql("postgres", `CREATE ROLE ${APP.user} LOGIN PASSWORD '${APP.password}'`);
  say("starting Temporal");
  const temporal = use(
    await startTemporal({
      withUi: options.withUi ?? false,
      ...(options.temporalFile === undefined ? {} : { databaseFile: options.temporalFile }),
    }),
  );
  const application = "application" in options ? options.application : shop(options.rows);
  say("loading the application's schema and rows");
  const seeded = await application.seed(cluster.source, "app");
  const rows = Object.values(seeded).reduce((sum, count) => sum + count, 0);
  say(`  ${rows} rows in ${Object.keys(seeded).length} tables`);
  const count = options.nodes ?? 2;
  say(`starting ${count} proxy nodes`);
  const nodes: SluiceNode[] = [];
  for (let index = 0; index < count; index++) {
    const node = use(
      await startNode({
        ...portOf(options, index),
        pgdog: pgdogToml(cluster, application, options),
        users: USERS_TOML,
        sluice: sluiceToml(temporal, index, options),
        ...(options.env === undefined ? {} : { env: options.env }),
      }),
    );
    say(`  node ${index + 1}   port ${node.port}`);
    nodes.push(node);
  }
  return {
    cluster,
    temporal,
    nodes,
    application,
    migration: `${DATABASE} ${DESTINATION} ${application.publication}`,
    seeded,
    addresses: nodes.map((node) => ({
      host: "127.0.0.1",
      port: node.port,
      database: DATABASE,
      ...APP,
    })),
    admin: async (node = 0) => await connectAdmin(nodes[node]?.port ?? 0),
    source: async (text) => await cluster.source.sql("app", text),
    shards: cluster.shards.map(
      (server, shard) => async (text: string) => await server.sql(`app_${shard}`, text),
    ),
  };
}

function portOf({ ports }: StackOptions, node: number): { readonly port?: number } {
  const port = ports?.[node];
  return port === undefined ? {} : { port };
}

/** Our own tools come as the superuser without a password; everybody else proves one. */
const HBA = [
  "host all postgres 127.0.0.1/32 trust",
  "host replication postgres 127.0.0.1/32 trust",
  "host all all 127.0.0.1/32 scram-sha-256",
];

/** What follows [general], host and port, which `startNode` writes. */
function pgdogToml(cluster: TestCluster, application: Application, options: StackOptions): string {
  const [first, second] = cluster.shards;
  return `workers = 1
default_pool_size = 20
auth_type = "scram"
cutover_save_config = true
resharding_parallel_copies = 2
${options.general ?? ""}

[[databases]]
name = "${DATABASE}"
host = "127.0.0.1"
port = ${cluster.source.port}
database_name = "app"

[[databases]]
name = "${DESTINATION}"
shard = 0
host = "127.0.0.1"
port = ${first.port}
database_name = "app_0"

[[databases]]
name = "${DESTINATION}"
shard = 1
host = "127.0.0.1"
port = ${second.port}
database_name = "app_1"

# What no rule matches is the same on every shard.
${application.shardedTables.map(shardedTable).join("\n")}

[admin]
user = "${ADMIN.user}"
password = "${ADMIN.password}"

[replication]
pg_dump_path = "${join(cluster.source.binDir, "pg_dump")}"
`;
}

function shardedTable({ name, column }: Application["shardedTables"][number]): string {
  const only = name === undefined ? "" : `name = "${name}"\n`;
  return `[[sharded_tables]]\ndatabase = "${DESTINATION}"\n${only}column = "${column}"\n`;
}

const USERS_TOML = [DATABASE, DESTINATION]
  .map(
    (database) => `[[users]]
name = "${APP.user}"
database = "${database}"
password = "${APP.password}"

# Schema, copy and replication are done as this one.
[[users]]
name = "owner"
database = "${database}"
password = "owner-password"
server_user = "postgres"
schema_admin = true
`,
  )
  .join("\n");

function sluiceToml(temporal: TemporalServer, index: number, options: StackOptions): string {
  return `[node]
id = "node-${index + 1}"

[temporal]
address = "${temporal.address}"
${options.sluice ?? ""}
`;
}

async function connectAdmin(port: number): Promise<Admin> {
  const client = new pg.Client({ host: "127.0.0.1", port, database: "admin", ...ADMIN });
  client.on("error", () => {});
  await client.connect();
  return {
    run: async (command) => (await client.query<Record<string, unknown>>(command)).rows,
    [Symbol.asyncDispose]: async () => {
      await client.end().catch(() => {});
    },
  };
}
