import type { Block, ColumnEquality, ColumnUse, TableRef, Together } from "./block.js";
import type { KeyConditions } from "./conditions.js";
import type { Scope } from "./scope.js";

/** Every row of the query meets this: WHERE, ON of an inner join. */
export function holdAlways(block: Block, { constraints, equalities }: KeyConditions): void {
  for (const { use, terms } of constraints) {
    // A condition on a table outside holds for the rows in here only.
    if (use.at === block) use.ref.constraints.push({ terms, isInserted: false });
  }
  block.equalities.push(...equalities);
  for (const [one, other] of edges(block.equalities)) {
    if (one.at === block && other.at === block) one.ref.together.absorb(other.ref.together);
    else if (one.at === block) one.ref.together.anchors.push(other);
    else if (other.at === block) other.ref.together.anchors.push(one);
  }
}

/**
 * ON of an outer join: rows of the side that may be missing meet it, and nothing is said of the side that is
 * kept.
 */
export function holdForMissable(
  block: Block,
  { constraints, equalities }: KeyConditions,
  missable: readonly TableRef[],
): void {
  // Only what is of this side alone is found by this condition alone.
  const isMissable = (rows: Together) => rows.members.every((member) => missable.includes(member));
  const isOf = ({ ref, at }: ColumnUse) => at === block && missable.includes(ref);
  for (const { use, terms } of constraints) {
    const isOurs = isOf(use) && isMissable(use.ref.together);
    if (isOurs) use.ref.constraints.push({ terms, isInserted: false });
  }
  const [inner, outer] = [[], []] as [ColumnEquality[], ColumnEquality[]];
  for (const edge of edges(equalities)) {
    const [one, other] = edge;
    if (isOf(one) && isOf(other)) inner.push(edge);
    else if (isOf(one)) outer.push(edge);
    else if (isOf(other)) outer.push([other, one]);
  }
  // Among themselves first: they are then left out or kept together.
  for (const [one, other] of inner) {
    const [rows, others] = [one.ref.together, other.ref.together];
    if (isMissable(rows) && isMissable(others)) rows.absorb(others);
  }
  for (const [one, other] of [...inner, ...outer]) {
    const [rows, others] = [one.ref.together, other.ref.together];
    if (other.at !== block) {
      if (isMissable(rows)) rows.anchors.push(other);
    } else if (isMissable(rows)) others.attach(rows);
    else if (isMissable(others)) rows.attach(others);
  }
}

/**
 * Equalities that put rows on one shard: of the columns of two locators of one space. Of a foreign key of
 * several columns all must be there.
 */
function edges(equalities: readonly ColumnEquality[]): readonly ColumnEquality[] {
  const between = new Map<TableRef, Map<TableRef, ColumnEquality[]>>();
  for (const equality of equalities) {
    noteBetween(between, equality[0].ref, equality[1].ref, equality);
    noteBetween(between, equality[1].ref, equality[0].ref, equality);
  }
  return equalities.filter(([one, other]) => {
    if (one.ref === other.ref) return false;
    const areEqual = (left: string, right: string) =>
      (between.get(one.ref)?.get(other.ref) ?? []).some(
        ([a, b]) =>
          (isUse(a, one, left) && isUse(b, other, right)) ||
          (isUse(b, one, left) && isUse(a, other, right)),
      );
    return one.ref.locators.some(
      ({ space, columns }) =>
        columns.includes(one.column) &&
        other.ref.locators.some(
          (locator) =>
            locator.space === space &&
            columns.every((column, place) => areEqual(column, locator.columns[place] ?? "")),
        ),
    );
  });
}

function noteBetween(
  between: Map<TableRef, Map<TableRef, ColumnEquality[]>>,
  ...[one, other, equality]: [TableRef, TableRef, ColumnEquality]
): void {
  const of = between.get(one) ?? new Map<TableRef, ColumnEquality[]>();
  between.set(one, of);
  const list = of.get(other) ?? [];
  of.set(other, list);
  list.push(equality);
}

function isUse(use: ColumnUse, like: ColumnUse, column: string): boolean {
  return use.ref === like.ref && use.at === like.at && use.column === column;
}

/** The end of a query in an expression, or of one of whose rows we can tell no shard. */
export function settle(scope: Scope, block: Block, view: string | null): void {
  for (const rows of new Set(block.located.map((ref) => ref.together))) {
    // Tied to a row outside they are where that is.
    if (rows.anchors.length === 0) scope.loose.push({ rows, view });
  }
}

/** The rows of a query in FROM become rows of the query that reads it. */
export function handOver(inner: Block, block: Block): void {
  for (const rows of new Set(inner.located.map((ref) => ref.together))) {
    const siblings = rows.anchors.filter(({ at }) => at === block);
    const others = rows.anchors.filter(({ at }) => at !== block);
    rows.anchors.splice(0, rows.anchors.length, ...others);
    // LATERAL: on the shard of the row beside it.
    siblings[0]?.ref.together.attach(rows);
  }
  block.located.push(...inner.located);
}
