import { SQLSTATE } from "../../core/sqlstate.js";
import { namedStatements } from "../../sql/statement-names.js";
import { FIRST_SHARD } from "../../topology/topology.js";
import { encodeNotice } from "../../wire/error-fields.js";
import type { ExecutionContext } from "../execution/executor.js";
import { forgetStatement, forgetStatements } from "../execution/session-state.js";
import type { StatementEffects } from "../execution/statement-effects.js";
import { StatementRefused } from "../session-errors.js";
import type { ShardedStatements } from "./statements.js";

/**
 * Statements about the session itself (BEGIN, COMMIT, SET, SAVEPOINT, DISCARD, ...): not for one shard's server
 * to answer alone.
 * @returns the command tag
 * @throws StatementFailed, SluiceError
 */
export async function runOfSession(
  sql: string,
  effects: StatementEffects,
  { statements, context }: SessionStatement,
): Promise<string> {
  const { state, transaction } = statements;
  switch (effects.kind) {
    case "begin":
      if (state.transaction === "none") {
        state.transaction = "begun";
        state.beginSql = sql;
        // Sent with the first statement, where no server could refuse it.
        if (!effects.isPlainControl) await beginNow({ statements, context });
      } else warn(statements, IN_TRANSACTION);
      return /^\s*start/i.test(sql) ? "START TRANSACTION" : "BEGIN";
    case "commit":
    case "rollback":
      if (isChained(sql)) return await chain(sql, effects.kind, { statements, context });
      if (state.transaction === "none") warn(statements, NOT_IN_TRANSACTION);
      return await endTransaction(state.transaction === "failed" ? "rollback" : effects.kind, {
        statements,
        context,
      });
    case "deallocate":
    case "discard":
      return discard(sql, effects, statements);
    default: {
      statements.begin(context, null);
      statements.noteChanges({ sql, effects }, context);
      const { tag } = await transaction.everywhere(sql);
      const [server] = transaction.used;
      if (server) {
        const restoring = state.settings.restoring([effects], server);
        if (restoring !== null) await transaction.everywhere(restoring);
        statements.tellNews(server);
      }
      if (effects.kind === "rollbackTo") {
        if (state.transaction === "failed") state.transaction = "open";
        statements.forgetTables();
      }
      return tag;
    }
  }
}

async function beginNow({ statements, context }: SessionStatement): Promise<void> {
  const { state, transaction } = statements;
  try {
    statements.begin(context, null);
    await transaction.acquire(FIRST_SHARD);
  } catch (error) {
    transaction.release();
    state.transaction = "none";
    throw error;
  }
}

const IN_TRANSACTION = encodeNotice({
  severity: "WARNING",
  sqlState: SQLSTATE.activeSqlTransaction,
  message: "there is already a transaction in progress",
});
const NOT_IN_TRANSACTION = encodeNotice({
  severity: "WARNING",
  sqlState: SQLSTATE.noActiveSqlTransaction,
  message: "there is no transaction in progress",
});

/** To who wants to hear warnings. */
function warn({ state, sink }: ShardedStatements, warning: Buffer): void {
  const least = state.settings.current.get("client_min_messages") ?? "notice";
  if (!/^(error|fatal|panic)$/i.test(least)) sink.write(warning);
}

function isChained(sql: string): boolean {
  return /\band\s+chain\b/i.test(sql);
}

/** The next transaction begins with this one's end, in the same modes. */
async function chain(
  sql: string,
  kind: "commit" | "rollback",
  statement: SessionStatement,
): Promise<string> {
  const { state } = statement.statements;
  if (state.transaction === "none")
    throw new StatementRefused(
      SQLSTATE.noActiveSqlTransaction,
      `${sql.trim().split(/\s+/)[0]?.toUpperCase()} AND CHAIN can only be used in transaction blocks`,
    );
  const tag = await endTransaction(state.transaction === "failed" ? "rollback" : kind, statement);
  state.transaction = "begun";
  return tag;
}

interface SessionStatement {
  readonly statements: ShardedStatements;
  readonly context: ExecutionContext;
}

async function endTransaction(
  kind: "commit" | "rollback",
  { statements, context }: SessionStatement,
): Promise<string> {
  const { state, transaction } = statements;
  try {
    if (kind === "commit") {
      await transaction.commit(context.served.database.twoPhaseCommit);
      statements.cursors.committed(statements.transaction.number);
    } else for (const server of transaction.used) await server.query("ROLLBACK");
  } catch (error) {
    // Whatever came of it, the client's transaction is over.
    state.transaction = "none";
    throw error;
  }
  state.transaction = "none";
  await statements.settleSettings();
  transaction.release();
  return kind === "commit" ? "COMMIT" : "ROLLBACK";
}

function discard(
  sql: string,
  effects: StatementEffects,
  { state, cursors }: ShardedStatements,
): string {
  const [named] = effects.kind === "deallocate" ? namedStatements(sql) : [];
  if (named) {
    if (!state.statements.has(named.name))
      throw new StatementRefused(
        SQLSTATE.invalidSqlStatementName,
        `prepared statement "${named.name}" does not exist`,
      );
    forgetStatement(state, named.name);
    return "DEALLOCATE";
  }
  if (effects.discards === "none")
    throw new StatementRefused(
      SQLSTATE.featureNotSupported,
      "only DISCARD ALL and DEALLOCATE ALL are known on a sharded database",
      { hint: "Use DISCARD ALL, or DEALLOCATE ALL." },
    );
  forgetStatements(state);
  if (effects.discards === "all") {
    state.settings.restart();
    cursors.closeAll();
    const news = state.parameters.restarted();
    if (news) state.client.write(news);
  }
  return sql.trim().replace(/\s*;$/, "").replaceAll(/\s+/g, " ").toUpperCase();
}
