import {
  displayName,
  type Finding,
  type MovingTable,
  type ShardView,
  shardsOf,
  type World,
} from "./world.js";

type TableCheck = (table: MovingTable, scope: string, shard: ShardView) => readonly Finding[];

/** Each source shard's own facts, under the class that the destination's rules give the table. */
export function eachSourceTable(world: World, look: TableCheck): readonly Finding[] {
  return shardsOf(world, "source").flatMap((shard) =>
    world.tables.flatMap(({ facts, tableClass }) => {
      const here = shard.tables.find(
        (table) => table.schema === facts.schema && table.name === facts.name,
      );
      if (!here) return [];
      return look({ facts: here, tableClass }, `${shard.scope} ${displayName(here)}`, shard);
    }),
  );
}
