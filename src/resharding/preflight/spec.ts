import type { MigrationSpec, TablePlan } from "../model/migration.js";
import { readTypes, readUnhashableTypes, type TableFacts } from "./catalog-facts.js";
import { rollbackDependsOn } from "./disjoint-values.js";
import { planIdentity } from "./planned-identity.js";
import { planTable } from "./table-plan.js";
import { type MovingTable, sameTable, shardsOf, type World } from "./world.js";

/**
 * What is moved, from the catalog of source shard 0; other shards are compared by checks.
 * @returns null when no table moves
 */
export async function buildSpec(world: World): Promise<MigrationSpec | null> {
  const source = shardsOf(world, "source").find((view) => view.shard === 0);
  if (!source || world.tables.length === 0) return null;
  const columns = world.tables.flatMap(({ facts }) => facts.columns);
  const types = await readTypes(source.client, unique(columns.map((column) => column.typeOid)));
  const unhashable = await readUnhashableTypes(
    source.client,
    unique(columns.map((column) => column.type)),
  );
  return {
    version: 1,
    source: { shardCount: world.source.shards.length },
    destination: { shardCount: world.destination.shards.length },
    tables: world.tables.map((table) => ({
      ...planTable({
        // As it is once the stream reads it.
        facts: plannedFacts(world, table),
        tableClass: table.tableClass,
        types,
        unhashable,
        differingColumns: differingColumns(world, table),
      }),
      ...dependencies(world, table),
    })),
  };
}

function plannedFacts(world: World, { facts, tableClass }: MovingTable): TableFacts {
  return world.policy.replicaIdentity === "auto" ? planIdentity(facts, tableClass).facts : facts;
}

/** Absent where there are none: a plan is a payload. */
function dependencies(world: World, table: MovingTable): Pick<TablePlan, "rollbackDependsOn"> {
  const found = rollbackDependsOn(world, table);
  return found.length === 0 ? {} : { rollbackDependsOn: found };
}

function unique<T>(values: readonly T[]): readonly T[] {
  return [...new Set(values)];
}

/** Columns that have another type on a destination shard, where the table exists already. */
function differingColumns(world: World, { facts }: MovingTable): ReadonlySet<string> {
  const twins = shardsOf(world, "destination").flatMap((view) =>
    view.tables.filter((table) => sameTable(table, facts)),
  );
  return new Set(
    facts.columns
      .filter((column) =>
        twins.some((twin) =>
          twin.columns.some(({ name, type }) => name === column.name && type !== column.type),
        ),
      )
      .map((column) => column.name),
  );
}
