import type { SqlClient } from "../../backend/sql-client.js";
import type { Cluster, EnginePolicy } from "../context.js";
import type { Check, MigrationRef, Side } from "../model/migration.js";
import type { ForeignKeyFacts, PublicationFacts, TableFacts } from "./catalog-facts.js";
import type { TableClass } from "./table-class.js";

/** One shard as preflight sees it. */
export interface ShardView {
  readonly side: Side;
  readonly shard: number;
  /** For findings: "source/0 (127.0.0.1:5432/app)". */
  readonly scope: string;
  readonly client: SqlClient;
  readonly serverVersion: number;
  /** null on the destination, and where the source has no such publication. */
  readonly publication: PublicationFacts | null;
  /** Publications of others that name a moving table for updates or deletes. Empty on the destination. */
  readonly otherPublications: readonly { readonly oid: number; readonly publication: string }[];
  /** The moving tables that exist here, leaves and the partitioned tables above them. */
  readonly tables: readonly TableFacts[];
  /** `sluice.migration` of this shard knows `ref.id`: what is here may be ours. */
  readonly isOurs: boolean;
}

/** A table that moves: a plain table or a leaf partition, as source shard 0 has it. */
export interface MovingTable {
  readonly facts: TableFacts;
  readonly tableClass: TableClass;
}

/** Everything that the checks look at, read once. */
export interface World {
  readonly ref: MigrationRef;
  readonly policy: EnginePolicy;
  readonly source: Cluster;
  readonly destination: Cluster;
  /** Only those that could be reached; source shards first. */
  readonly shards: readonly ShardView[];
  /** Every configured shard of both sides was reached: without that there is no plan. */
  readonly isComplete: boolean;
  readonly tables: readonly MovingTable[];
  readonly foreignKeys: readonly ForeignKeyFacts[];
}

export type Finding = Omit<Check, "id">;

/** One named check. No finding means: it is fine. */
export interface PreflightCheck {
  readonly id: string;
  /** Said when there is no finding. */
  readonly fine: string;
  readonly run: (world: World) => readonly Finding[] | Promise<readonly Finding[]>;
}

export function failure(scope: string, evidence: string, remedy: string): Finding {
  return { scope, severity: "error", evidence, remedy };
}

export function warning(scope: string, evidence: string, remedy: string): Finding {
  return { scope, severity: "warning", evidence, remedy };
}

/** Worth knowing; nothing is to be done. */
export function note(scope: string, evidence: string): Finding {
  return { scope, severity: "note", evidence, remedy: "" };
}

/** For pages on which findings of one kind are one. */
export function withGist(finding: Finding, gist: NonNullable<Check["gist"]>): Finding {
  return { ...finding, gist };
}

export function shardsOf(world: World, side: Side): readonly ShardView[] {
  return world.shards.filter((shard) => shard.side === side);
}

/** For findings and for the policy's lists. */
export function displayName(table: { readonly schema: string; readonly name: string }): string {
  return `${table.schema}.${table.name}`;
}

/** For lists on one screen: of schema public the name alone, of a partition its root's. */
export function shortName(
  table: Pick<TableFacts, "schema" | "name" | "rootSchema" | "rootName">,
): string {
  const schema = table.rootSchema ?? table.schema;
  const name = table.rootName ?? table.name;
  return schema === "public" ? name : `${schema}.${name}`;
}

export function sameTable(
  one: { readonly schema: string; readonly name: string },
  other: { readonly schema: string; readonly name: string },
): boolean {
  return one.schema === other.schema && one.name === other.name;
}

/** One finding per shard whose query answers with rows. */
export async function eachShard(
  shards: readonly ShardView[],
  look: (shard: ShardView) => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  const findings = await Promise.all(shards.map(look));
  return findings.flat();
}
