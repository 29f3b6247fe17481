import { expect } from "vitest";
import type { Cluster, EngineContext } from "../../src/resharding/context.js";
import type { PreflightResult } from "../../src/resharding/model/activities.js";
import type { Check, MigrationRef, TablePlan } from "../../src/resharding/model/migration.js";
import { preflight } from "../../src/resharding/preflight/preflight-step.js";
import { engineContext } from "./engine.js";
import type { PostgresServer } from "./postgres.js";

export const TENANT_RULE = {
  name: null,
  schema: null,
  column: "tenant_id",
  dataType: "bigint",
} as const;
export const ACCOUNTS = `CREATE TABLE accounts (tenant_id bigint NOT NULL, id bigint NOT NULL, name text,
  PRIMARY KEY (tenant_id, id))`;
const PUBLICATION = "CREATE PUBLICATION moving FOR ALL TABLES";

export interface PreflightOptions {
  /** Statements on every source shard. */
  readonly source?: string;
  /** Statements on every destination shard. */
  readonly destination?: string;
  readonly sourceShards?: number;
  readonly destinationShards?: number;
  readonly publication?: string;
  readonly rules?: Cluster["shardedTables"];
  readonly sourceRules?: Cluster["shardedTables"];
  readonly policy?: Partial<EngineContext["policy"]>;
  readonly user?: string;
}

export interface PreflightFixture {
  readonly ref: MigrationRef;
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly clusters: readonly [Cluster, Cluster];
  run(policy?: Partial<EngineContext["policy"]>): Promise<PreflightResult>;
}

let serial = 0;
const emptyDestinations = new WeakMap<PostgresServer, readonly string[]>();

/** Databases of one test. Empty destinations are shared: preflight changes nothing. */
export async function preflightFixture(
  server: PostgresServer,
  options: PreflightOptions = {},
): Promise<PreflightFixture> {
  serial += 1;
  const databases = (side: string, count: number) =>
    Array.from({ length: count }, (_, shard) => `${side}_${serial}_${shard}`);
  const sources = databases("source", options.sourceShards ?? 1);
  for (const name of sources) await server.createDatabase(name);
  const isShared = options.destination === undefined && options.destinationShards === undefined;
  const shared = isShared ? emptyDestinations.get(server) : undefined;
  const destinations = shared ?? databases("destination", options.destinationShards ?? 2);
  if (!shared) for (const name of destinations) await server.createDatabase(name);
  if (isShared) emptyDestinations.set(server, destinations);
  for (const name of sources) {
    await server.sql(name, options.source ?? ACCOUNTS);
    await server.sql(name, options.publication ?? PUBLICATION);
  }
  for (const name of destinations) await server.sql(name, options.destination ?? "");
  const cluster = (name: string, shards: readonly string[], rules: Cluster["shardedTables"]) => ({
    name,
    shards: shards.map((shard) => ({
      ...server.address(shard),
      user: options.user ?? "postgres",
    })),
    shardedTables: rules,
    omnishardedTables: [],
  });
  const rules = options.rules ?? [TENANT_RULE];
  const clusters = [
    cluster("app", sources, options.sourceRules ?? rules),
    cluster("app_sharded", destinations, rules),
  ] as const;
  const ref: MigrationRef = {
    id: serial.toString(16).padStart(12, "0"),
    source: "app",
    destination: "app_sharded",
    publication: "moving",
  };
  return {
    ref,
    sources,
    destinations,
    clusters: [clusters[0], clusters[1]],
    run: (policy) => preflight(engineContext(clusters, { ...options.policy, ...policy }), ref),
  };
}

export function found(result: PreflightResult, id: string): readonly Check[] {
  const checks = result.checks.filter((one) => one.id === id);
  expect(checks, `check ${id} is told`).not.toEqual([]);
  return checks;
}

export function expectFinding(
  result: PreflightResult,
  id: string,
  expected: {
    severity: "note" | "warning" | "error";
    evidence: RegExp;
    remedy?: RegExp;
    scope?: RegExp;
  },
): void {
  expect(found(result, id)).toContainEqual(
    expect.objectContaining({
      id,
      severity: expected.severity,
      scope: expect.stringMatching(expected.scope ?? /./),
      evidence: expect.stringMatching(expected.evidence),
      remedy: expect.stringMatching(expected.remedy ?? /^/),
    }),
  );
  if (expected.severity === "error") expect(result.ok).toBe(false);
}

export function errorsOf(result: PreflightResult): readonly string[] {
  return result.checks
    .filter(({ severity }) => severity === "error")
    .map(({ id, scope, evidence }) => `${id} ${scope}: ${evidence}`);
}

/** The plan of one table; fails the test when there is none. */
export function planOf(result: PreflightResult, name: string): TablePlan {
  const table = result.spec?.tables.find((one) => one.name === name);
  if (!table) throw new Error(`no plan for ${name}`);
  return table;
}
