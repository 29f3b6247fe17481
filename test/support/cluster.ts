import { type PostgresOptions, type PostgresServer, startPostgres } from "./postgres.js";

/** A source and its two shards, each a server of its own with one database. */
export interface TestCluster extends AsyncDisposable {
  readonly source: PostgresServer;
  readonly shards: readonly [PostgresServer, PostgresServer];
  /** Database names: source, shards in their order. */
  readonly databases: readonly ["app", "app_0", "app_1"];
}

export async function startCluster(options: PostgresOptions = {}): Promise<TestCluster> {
  const servers = await startAll(options);
  const [source, first, second] = servers;
  await source.createDatabase("app");
  await first.createDatabase("app_0");
  await second.createDatabase("app_1");
  return {
    source,
    shards: [first, second],
    databases: ["app", "app_0", "app_1"],
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  };
}

async function startAll(
  options: PostgresOptions,
): Promise<[PostgresServer, PostgresServer, PostgresServer]> {
  const results = await Promise.allSettled([
    startPostgres(options),
    startPostgres(options),
    startPostgres(options),
  ]);
  const [source, first, second] = results;
  if (
    source.status === "fulfilled" &&
    first.status === "fulfilled" &&
    second.status === "fulfilled"
  )
    return [source.value, first.value, second.value];
  const failed: unknown[] = [];
  for (const result of results)
    if (result.status === "fulfilled") await result.value[Symbol.asyncDispose]();
    else failed.push(result.reason);
  throw new AggregateError(failed, "a server did not start");
}
