import type { SelectStmt } from "libpg-query";
import { parse } from "../sql/parser.js";
import { ValueReader } from "./key-value.js";
import type { TableFacts } from "./schema-facts.js";

export interface ViewQuery {
  readonly select: SelectStmt;
  /** Of the view's own text. */
  readonly reader: ValueReader;
  readonly isStored: boolean;
  /** A write to it is one to the table that it shows, if it shows one. */
  readonly isWritable: boolean;
}

const cache = new WeakMap<TableFacts, ViewQuery>();

/** @returns null when the parser is older than the server that wrote the view's text */
export function viewQuery(facts: TableFacts): ViewQuery | null {
  const known = cache.get(facts);
  if (known !== undefined || facts.view === null) return known ?? null;
  const { sql, isStored, hasOwnWrites } = facts.view;
  const parsed = parse(sql);
  const [statement] = parsed.kind === "parsed" ? parsed.statements : [];
  if (statement === undefined || !("SelectStmt" in statement)) return null;
  // No constant of it is another one from call to call.
  const reader = new ValueReader(sql, { key: sql, spans: [] });
  const isWritable = !isStored && !hasOwnWrites;
  const query = { select: statement.SelectStmt, reader, isStored, isWritable };
  cache.set(facts, query);
  return query;
}
