import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { clusterOf } from "../../control/cluster-directory.js";
import { enginePolicyOf } from "../../control/policies.js";
import { createLog } from "../../observe/log.js";
import type { EngineContext } from "../../resharding/context.js";
import type { Check } from "../../resharding/model/migration.js";
import { preflight } from "../../resharding/preflight/preflight-step.js";
import type { MigrationNames } from "./migrate-commands.js";

const PLAN_TIMEOUT_MS = 120_000;
const MARKS: Readonly<Record<Check["severity"], string>> = {
  ok: "ok     ",
  note: "note   ",
  warning: "warning",
  error: "ERROR  ",
};

/**
 * `sluice migrate plan`: the preflight of a migration that is not started, without Temporal.
 * @returns the exit code: 1 when a check says that the migration cannot be made
 */
export async function planMigration(paths: ConfigPaths, names: MigrationNames): Promise<number> {
  const config = readConfig(paths);
  const context: EngineContext = {
    cluster: (name) => clusterOf(config, name),
    policy: enginePolicyOf(config),
    log: createLog({ process: "cli" }, "error"),
    signal: AbortSignal.timeout(PLAN_TIMEOUT_MS),
    heartbeat: () => {},
    announce: async () => {},
    incarnation: `cli-${process.pid}`,
  };
  const { ok, checks, spec } = await preflight(context, {
    // Not of any migration: "destination empty or ours" asks for empty then.
    id: "000000000000",
    source: names.from,
    destination: names.to,
    publication: names.publication,
  });
  for (const check of checks) {
    print(`${MARKS[check.severity]} ${check.id}, ${check.scope}: ${check.evidence}`);
    if (check.remedy !== "") print(`        remedy: ${check.remedy}`);
  }
  for (const table of spec?.tables ?? []) {
    const key = table.shardingColumn === null ? "" : ` by ${table.shardingColumn}`;
    print(`moves   ${table.schema}.${table.name}: ${table.kind}${key}`);
  }
  print(ok ? "the migration can be started" : "the migration cannot be started");
  return ok ? 0 : 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
