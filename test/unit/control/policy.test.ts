import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../src/config/read-config.js";
import { enginePolicyOf, taskPolicyOf } from "../../../src/control/policies.js";

const USERS = '[[users]]\nname = "app"\ndatabase = "shop"\npassword = "x"\n';
const configOf = (general: string, sluice: string) =>
  parseConfig({
    pgdog: `[general]\n${general}\n[[databases]]\nname = "shop"\nhost = "h"\n`,
    users: USERS,
    sluice,
  });
const both = (general: string, sluice: string) => {
  const config = configOf(general, sluice);
  return { engine: enginePolicyOf(config), task: taskPolicyOf(config) };
};

describe("each key of the files changes exactly what is told of it", () => {
  const plain = both("", "");
  it.each([
    ['resharding_copy_format = "text"', "", ["engine.copyFormat"]],
    ["resharding_parallel_copies = 7", "", ["task.parallelCopies"]],
    ["cutover_traffic_stop_threshold = 4242", "", ["engine.trafficStopThresholdBytes"]],
    ["", "[switch]\npause_cap_ms = 4321", ["task.pauseCapMs"]],
    ["", "[switch]\npause_budget_ms = 432", ["engine.pauseBudgetMs"]],
    ["", '[switch]\nopen_transactions = "end"', ["engine.openTransactions"]],
    ["", '[switch]\nsilent_node = "fence"', ["task.silentNode"]],
    ["", "[switch]\nverify_max_age_ms = 5000", ["engine.verifyMaxAgeMs", "task.verifyMaxAgeMs"]],
    ["", "[copy]\nrange_rows = 777", ["engine.copyRangeRows"]],
    ["", '[copy]\nreplica_identity = "refuse"', ["engine.replicaIdentity"]],
    ["", '[copy]\nunique_without_sharding_key = "refuse"', ["engine.uniqueWithoutShardingKey"]],
    // The consent of before: what was written on purpose keeps its meaning.
    ["", "[copy]\naccept_unique_without_sharding_key = true", []],
    ["", "[copy]\naccept_unique_without_sharding_key = false", ["engine.uniqueWithoutShardingKey"]],
    [
      "",
      '[copy]\naccept_unique_without_sharding_key = false\nunique_without_sharding_key = "warn"',
      [],
    ],
    ["", '[copy]\nleft_behind = ["public.old"]', ["engine.leftBehind"]],
    ["default_pool_size = 7", "[admin]\napi_timeout_ms = 1234", []],
  ])("%s %s", (general, sluice, expected) => {
    expect(differences(plain, both(general, sluice))).toEqual(expected);
  });
});

/** Paths of what is not the same. */
function differences(
  one: ReturnType<typeof both>,
  other: ReturnType<typeof both>,
): readonly string[] {
  return (["engine", "task"] as const).flatMap((part) => {
    const before: Readonly<Record<string, unknown>> = { ...one[part] };
    const after: Readonly<Record<string, unknown>> = { ...other[part] };
    return Object.keys(after)
      .filter((key) => JSON.stringify(after[key]) !== JSON.stringify(before[key]))
      .map((key) => `${part}.${key}`);
  });
}
