import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { clusterOf } from "../../control/cluster-directory.js";
import { enginePolicyOf } from "../../control/policies.js";
import { createLog } from "../../observe/log.js";
import type { EngineContext } from "../../resharding/context.js";
import type { PreflightResult } from "../../resharding/model/activities.js";
import type { Check } from "../../resharding/model/migration.js";
import { preflight } from "../../resharding/preflight/preflight-step.js";
import type { MigrationNames } from "./migrate-commands.js";
import { planPage } from "./plan-page.js";

const PLAN_TIMEOUT_MS = 120_000;
const MARKS: Readonly<Record<Check["severity"], string>> = {
  ok: "ok     ",
  note: "note   ",
  warning: "warning",
  error: "ERROR  ",
};

export interface PlanOptions extends MigrationNames {
  /** Every finding on lines of its own, with its remedy. */
  readonly all?: boolean;
  readonly json?: boolean;
}

/**
 * `sluice migrate plan`: the preflight of a migration that is not started, without Temporal.
 * @returns the exit code: 1 when a check says that the migration cannot be made
 */
export async function planMigration(paths: ConfigPaths, options: PlanOptions): Promise<number> {
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
  const result = await preflight(context, {
    // Not of any migration: "destination empty or ours" asks for empty then.
    id: "000000000000",
    source: options.from,
    destination: options.to,
    publication: options.publication,
  });
  if (options.json === true) print(JSON.stringify(result, null, 2));
  else
    for (const line of options.all === true ? allOf(result) : planPage(result, options))
      print(line);
  return result.ok ? 0 : 1;
}

function allOf({ ok, checks, spec }: PreflightResult): readonly string[] {
  return [
    ...checks.flatMap(({ severity, id, scope, evidence, remedy }) => [
      `${MARKS[severity]} ${id}, ${scope}: ${evidence}`,
      ...(remedy === "" ? [] : [`        remedy: ${remedy}`]),
    ]),
    ...(spec?.tables ?? []).map((table) => {
      const key = table.shardingColumn === null ? "" : ` by ${table.shardingColumn}`;
      return `moves   ${table.schema}.${table.name}: ${table.kind}${key}`;
    }),
    ok ? "the migration can be started" : "the migration cannot be started",
  ];
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
