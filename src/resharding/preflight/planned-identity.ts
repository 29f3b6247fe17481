import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { IndexFacts, TableFacts } from "./catalog-facts.js";
import type { TableClass } from "./table-class.js";
import { identityColumns } from "./table-plan.js";

/** What we set before our publication names the table; null: it has one that the stream can use. */
export type IdentityToSet =
  | { readonly kind: "index"; readonly index: string }
  | { readonly kind: "full" };

export interface PlannedIdentity {
  readonly set: IdentityToSet | null;
  /** The table as it is once that is set. */
  readonly facts: TableFacts;
}

/**
 * R9: a table whose updates and deletes name no row gets an identity for the time of the migration: a unique
 * index over NOT NULL columns, else whole rows. Pure.
 */
export function planIdentity(facts: TableFacts, tableClass: TableClass): PlannedIdentity {
  if (isUsable(facts)) return { set: null, facts };
  const index = fittingIndex(facts, tableClass);
  if (index === undefined)
    return { set: { kind: "full" }, facts: { ...facts, replicaIdentity: "f" } };
  const indexes = facts.indexes.map((each) => ({ ...each, isReplicaIdentity: each === index }));
  return {
    set: { kind: "index", index: index.name },
    facts: { ...facts, replicaIdentity: "i", indexes },
  };
}

/** There is one, and the stream carries all of its columns: generated ones it does not. */
function isUsable(facts: TableFacts): boolean {
  const columns = identityColumns(facts);
  return columns.size > 0 && !generatedColumns(facts).some((name) => columns.has(name));
}

export function generatedColumns(facts: TableFacts): readonly string[] {
  return facts.columns.filter(({ isGenerated }) => isGenerated).map(({ name }) => name);
}

/** As PostgreSQL demands of USING INDEX. One with the sharding key routes by itself; then the fewest columns. */
function fittingIndex(facts: TableFacts, tableClass: TableClass): IndexFacts | undefined {
  const sent = new Set(
    facts.columns.filter((one) => one.notNull && !one.isGenerated).map(({ name }) => name),
  );
  const withoutShardingKey = (index: IndexFacts) =>
    tableClass.kind === "sharded" && !index.columns.includes(tableClass.column) ? 1 : 0;
  return facts.indexes
    .filter(
      (index) =>
        index.isUnique &&
        index.isImmediate &&
        index.isValid &&
        !index.isPartial &&
        !index.isExclusion &&
        index.columns.every((name) => name !== null && sent.has(name)),
    )
    .toSorted(
      (one, other) =>
        withoutShardingKey(one) - withoutShardingKey(other) ||
        one.columns.length - other.columns.length,
    )[0];
}

/** As a person would type it. */
export function identityStatement(facts: TableFacts, set: IdentityToSet): string {
  const table = quoteQualified(facts.schema, facts.name);
  return `ALTER TABLE ${table} REPLICA IDENTITY ${identityWords(set)};`;
}

export function identityWords(set: IdentityToSet): string {
  return set.kind === "full" ? "FULL" : `USING INDEX ${quoteIdentifier(set.index)}`;
}
