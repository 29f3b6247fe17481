import { quoteIdentifier } from "../../core/identifier.js";
import { namedStatements } from "../../sql/statement-names.js";
import type { PreparedStatement } from "./prepared-statements.js";
import { forgetStatement, type SessionState } from "./session-state.js";
import type { StatementEffects } from "./statement-effects.js";

/** A text with the names that servers know. */
export interface NamingText {
  readonly sql: string;
  /** To be there when it is executed. */
  readonly statements: readonly PreparedStatement[];
}

/**
 * DEALLOCATE and EXECUTE of statements that were prepared by the protocol, which PostgreSQL allows (PDO and older Rails
 * deallocate so). Null: the text names none of this session's.
 */
export function namingText(
  sql: string,
  effects: StatementEffects,
  state: SessionState,
): NamingText | null {
  if (state.statements.size === 0 || !NAMING.has(effects.kind)) return null;
  const statements: PreparedStatement[] = [];
  let text = "";
  let at = 0;
  for (const { name, start, end } of namedStatements(sql)) {
    const named = name === "" ? undefined : state.statements.get(name);
    if (!named) continue;
    const statement = state.registry.under(named, state.settings.fingerprint);
    statements.push(statement);
    text += sql.slice(at, start) + quoteIdentifier(statement.name);
    at = end;
  }
  return statements.length === 0 ? null : { sql: text + sql.slice(at), statements };
}

const NAMING: ReadonlySet<StatementEffects["kind"]> = new Set(["deallocate", "execute", "several"]);

/** The client's statements that a text has deallocated are gone. */
export function forgetNamed(sql: string, effects: StatementEffects, state: SessionState): void {
  if (!NAMING.has(effects.kind)) return;
  for (const { kind, name } of namedStatements(sql))
    if (kind === "deallocate") forgetStatement(state, name);
}
