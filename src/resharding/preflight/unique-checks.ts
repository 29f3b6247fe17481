import { type LooseUnique, looseUniques } from "./disjoint-values.js";
import { eachSourceTable } from "./source-tables.js";
import {
  type Finding,
  failure,
  type MovingTable,
  note,
  type PreflightCheck,
  type World,
  warning,
  withGist,
} from "./world.js";

export const UNIQUE_CHECKS: readonly PreflightCheck[] = [
  {
    id: "unique-without-sharding-key",
    fine: "every unique constraint of a sharded table contains the sharding key",
    run: checkUnique,
  },
];

/** R33: the old side may refuse on the way back what two shards could both accept. */
function checkUnique(world: World): readonly Finding[] {
  return eachSourceTable(world, (table, scope) =>
    looseUniques(world, table).map((unique) => judgeUnique(world, { ...unique, table, scope })),
  );
}

const EACH_ITS_OWN =
  'each shard sees to its own, the proxy refuses nothing, and a value taken on two shards makes the way back "not ready", with both rows named by their keys';

const GIVEN = "one that a client gives may stand on two";

function judgeUnique(
  { policy }: World,
  found: LooseUnique & { readonly table: MovingTable; readonly scope: string },
): Finding {
  const { scope, index, name, apartBy } = found;
  const { tableClass } = found.table;
  const column = tableClass.kind === "sharded" ? tableClass.column : "";
  const columns = index.columns.map((one) => one ?? "expression").join(", ");
  const what = `unique index ${index.name} (${columns}) does not contain the sharding key ${column}`;
  if (apartBy !== null)
    return withGist(
      note(scope, `${what}; its values are ${apartBy}, so no two shards take the same; ${GIVEN}`),
      {
        text: `no sharding key, and kept apart all the same: from sequences, uuids, or of rows of one shard; ${GIVEN}`,
        item: name,
      },
    );
  const remedy = `To have it refused by PostgreSQL over all shards, add ${column} to the constraint.`;
  if (policy.uniqueWithoutShardingKey === "refuse")
    return failure(
      scope,
      `${what}: ${EACH_ITS_OWN}`,
      `${remedy} Or accept it: [copy] unique_without_sharding_key = "warn" in sluice.toml.`,
    );
  return withGist(warning(scope, `${what}: ${EACH_ITS_OWN}`, remedy), {
    text: `no sharding key: ${EACH_ITS_OWN}`,
    item: name,
  });
}
