import type { SelectStmt } from "libpg-query";
import type { ColumnEquality } from "./conditions.js";
import type { ValueReader } from "./key-value.js";
import type { ColumnUse, TableRef } from "./table-ref.js";

/** A query of WITH that is taken in the place of its mentions. */
export interface Cte {
  readonly select: SelectStmt;
  /** Where it stands. */
  readonly home: Block;
  readonly columns: readonly string[];
}

/** One SELECT, UPDATE, DELETE or INSERT with its own FROM. */
export class Block {
  readonly parent: Block | null;
  /** Names in FROM. */
  readonly refs: TableRef[] = [];
  /** Sharded tables that its rows are made of, those within views and plain subqueries too. */
  readonly located: TableRef[] = [];
  /** null: a name of WITH whose query we do not look into. */
  readonly ctes: Map<string, Cte | null>;
  /** Columns of JOIN ... USING: of several tables, yet not ambiguous. */
  readonly merged = new Set<string>();
  /** Columns that are equal in each of its rows. */
  readonly equalities: ColumnEquality[] = [];
  /** A table that is no part of a shard's rows keeps rows where a sharded one has no match. */
  preservesOutside = false;
  /** What it reads is in an order that nothing of its own asks for. */
  hasInnerOrder = false;
  /** Reads the constants of its text; null: the client's. */
  readonly reader: ValueReader | null;

  constructor(parent: Block | null, reader: ValueReader | null = null) {
    this.parent = parent;
    this.ctes = new Map(parent?.ctes);
    this.reader = reader ?? parent?.reader ?? null;
  }

  /** A place beside its FROM: sees the queries around and the CTEs, and not its tables. */
  besides(): Block {
    const place = new Block(this.parent, this.reader);
    for (const [name, cte] of this.ctes) place.ctes.set(name, cte);
    return place;
  }

  /** @param names of a column, with or without its table and schema */
  column(names: readonly string[]): ColumnUse | null {
    const column = names.at(-1) ?? "";
    const found = names.length === 1 ? named(column, this) : qualified(names, this);
    const origin = found?.ref.originOf(column);
    return found && origin ? { ...origin, at: found.at } : null;
  }
}

interface Found {
  readonly ref: TableRef;
  readonly at: Block;
}

function named(column: string, block: Block): Found | null {
  const owners = block.refs.filter((ref) => ref.hasColumn(column));
  const [first] = owners;
  if (first !== undefined && (owners.length === 1 || block.merged.has(column))) {
    return { ref: first, at: block };
  }
  // Ambiguous, or perhaps a column of something whose columns we do not know.
  if (owners.length > 1 || block.refs.some((ref) => ref.hasUnknownColumns)) return null;
  return block.parent === null ? null : named(column, block.parent);
}

function qualified(names: readonly string[], block: Block): Found | null {
  const [schema, name] = names.length > 2 ? [names.at(-3), names.at(-2)] : [null, names.at(-2)];
  const ref = block.refs.find(
    (one) =>
      one.alias === name && (schema === null || (!one.isAliased && one.table?.schema === schema)),
  );
  if (ref !== undefined) return { ref, at: block };
  return block.parent === null ? null : qualified(names, block.parent);
}
