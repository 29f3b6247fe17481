import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { tell } from "../../core/tell.js";
import type { EngineContext } from "../context.js";
import type { MigrationRef } from "../model/migration.js";
import {
  type FedColumn,
  readExtremes,
  readSequenceStates,
  readSequences,
  type SequenceFacts,
} from "../preflight/sequence-facts.js";
import { extremeLimit, type SequenceReading, type SequenceSetting } from "./sequence-course.js";

interface QualifiedName {
  readonly schema: string;
  readonly name: string;
}

/** Every sequence of one shard that travels, as it stands; and those that stay, by name only. */
export interface ShardSequences {
  readonly client: SqlClient;
  readonly readings: ReadonlyMap<string, SequenceReading>;
}

/** As messages name a sequence; no two have the same. */
export function sequenceName({ schema, name }: QualifiedName): string {
  return [schema, name].map((part) => (/[".]/.test(part) ? quoteIdentifier(part) : part)).join(".");
}

/** @throws what the server says, also when a sequence is dropped meanwhile */
export async function readShardSequences(
  client: SqlClient,
  tables: readonly QualifiedName[],
): Promise<ShardSequences> {
  const facts = (await readSequences(client, tables)).filter(({ fate }) => fate === "travels");
  const states = await readSequenceStates(client, facts);
  const records = await client.query<{ relation: number; own: string; increment: string }>(
    "SELECT relation, own_increment::text AS own, increment::text AS increment FROM sluice.sequence",
  );
  const readings = new Map<string, SequenceReading>();
  for (const [index, one] of facts.entries()) {
    const state = states[index];
    const record = records.rows.find(({ relation }) => relation === one.oid);
    // Somebody who has altered it since means it: then it counts in what it counts in.
    const isOurs = record !== undefined && BigInt(record.increment) === one.increment;
    const ownIncrement = isOurs ? BigInt(record.own) : null;
    if (state) readings.set(sequenceName(one), { facts: one, state, ownIncrement });
  }
  return { client, readings };
}

/** How long a column without an index may be searched. */
const SCAN_TIMEOUT_MS = 30_000;

/**
 * The highest ids in the columns that a shard's sequences feed: clients give ids themselves, too.
 * @param columns "all": those without an index too, by a scan each. One that takes too long is left out, and said:
 *   no index means that nothing but the client would mind an id that is there twice.
 */
export async function readShardExtremes(
  context: Pick<EngineContext, "log">,
  { client, readings }: ShardSequences,
  columns: "indexed" | "all",
): Promise<ReadonlyMap<string, readonly bigint[]>> {
  const questions = [...readings].flatMap(([name, reading]) =>
    reading.facts.columns.map((column) => ({
      ...{ name, column, limit: extremeLimit(reading, column) },
      isLowest: reading.facts.increment < 0n,
    })),
  );
  const found = new Map<string, bigint[]>();
  const note = (name: string, value: bigint | null | undefined) => {
    if (value !== null && value !== undefined) found.set(name, [...(found.get(name) ?? []), value]);
  };
  const indexed = questions.filter(({ column }) => column.isIndexed);
  const values = await readExtremes(client, indexed);
  for (const [index, { name }] of indexed.entries()) note(name, values[index]);
  if (columns === "indexed") return found;
  for (const question of questions.filter(({ column }) => !column.isIndexed)) {
    const [value] = await scan(context, client, question);
    note(question.name, value);
  }
  return found;
}

async function scan(
  context: Pick<EngineContext, "log">,
  client: SqlClient,
  question: Parameters<typeof readExtremes>[1][number] & { readonly column: FedColumn },
): Promise<readonly (bigint | null)[]> {
  await client.query(`SET statement_timeout = ${SCAN_TIMEOUT_MS}`);
  try {
    return await readExtremes(client, [question]);
  } catch (error) {
    if (sqlStateOf(error) !== SQLSTATE.queryCanceled) throw error;
    const { schema, table, column } = question.column;
    context.log.warn("ids given by clients were not looked at: the column has no index", {
      column: `${schema}.${table}.${column}`,
    });
    return [];
  } finally {
    await client.query("RESET statement_timeout");
  }
}

/**
 * Brings a sequence that is not there, with owner and rights; or the name of an identity column's, which
 * PostgreSQL finds by its column. Others made it, or gave it this name, after the schema was copied (R48).
 * Second run: finds it.
 */
export async function bringSequence(
  context: Pick<EngineContext, "log">,
  input: {
    readonly ref: MigrationRef;
    readonly facts: SequenceFacts;
    readonly from: SqlClient;
    readonly to: ShardSequences;
  },
): Promise<void> {
  const { ref, facts, from, to } = input;
  const identity = facts.columns.find(({ isIdentity }) => isIdentity);
  const twin = [...to.readings.values()].find(
    (one) => identity && one.facts.columns.some((column) => isSameIdentity(column, identity)),
  )?.facts;
  if (twin) {
    const name = quoteQualified(twin.schema, twin.name);
    const rename = `ALTER SEQUENCE ${name} RENAME TO ${quoteIdentifier(facts.name)}`;
    return await whileClosed(to.client, ref, [`${rename};`]);
  }
  const name = quoteQualified(facts.schema, facts.name);
  await whileClosed(to.client, ref, [
    `CREATE SEQUENCE IF NOT EXISTS ${name} AS ${facts.type} INCREMENT BY ${facts.increment}
       MINVALUE ${facts.min} MAXVALUE ${facts.max} START WITH ${facts.start};`,
  ]);
  for (const statement of await readAccess(from, facts))
    try {
      await to.client.query(statement);
    } catch (error) {
      // As in the rest of the schema: a role that is not there, or that we may not be.
      context.log.warn("a right of a sequence was not given", { statement, error: tell(error) });
    }
}

function isSameIdentity(one: FedColumn, other: FedColumn): boolean {
  return (
    one.isIdentity &&
    one.schema === other.schema &&
    one.table === other.table &&
    one.column === other.column
  );
}

async function readAccess(client: SqlClient, facts: SequenceFacts): Promise<readonly string[]> {
  const { rows } = await client.query<{ statement: string }>(
    `SELECT format('ALTER SEQUENCE %I.%I OWNER TO %I', $2::text, $3::text, pg_get_userbyid(relowner)) AS statement
       FROM pg_class WHERE oid = $1
     UNION ALL
     SELECT format('GRANT %s ON SEQUENCE %I.%I TO %s%s', x.privilege_type, $2::text, $3::text,
                   CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                   CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
       FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x WHERE c.oid = $1`,
    [facts.oid, facts.schema, facts.name],
  );
  return rows.map(({ statement }) => statement);
}

/** A sequence as it was read, and how it shall be. */
export interface SequenceChange {
  readonly reading: SequenceReading;
  readonly setting: SequenceSetting;
}

/**
 * Sets sequences of one shard, all in one transaction: `ALTER SEQUENCE` is undone with it, unlike `setval`, and
 * makes sessions throw away the ids that they keep in advance (`CACHE`).
 *
 * One that is not any more as it was read is left: another run has been here, or somebody took an id. Whoever
 * calls reads again and decides anew, so a run that was frozen before this changes nothing that a later one did.
 */
export async function setSequences(
  client: SqlClient,
  ref: MigrationRef,
  changes: readonly SequenceChange[],
): Promise<void> {
  if (changes.length > 0) await whileClosed(client, ref, changes.map(changeSql));
}

/**
 * Only while this side does not serve, and nobody begins to serve on it meanwhile: opening the gate waits for the
 * gate's row, which is locked here. One statement, so a process that freezes holds nothing.
 */
async function whileClosed(
  client: SqlClient,
  ref: MigrationRef,
  statements: readonly string[],
): Promise<void> {
  const body = `BEGIN
    PERFORM FROM sluice.gate WHERE migration = ${quoteLiteral(ref.id)} AND NOT is_open FOR NO KEY UPDATE;
    IF FOUND THEN ${statements.join("\n")} END IF;
  END`;
  await client.query(`DO ${quoteLiteral(body)}`);
}

function changeSql({ reading: { facts, state }, setting }: SequenceChange): string {
  const name = quoteQualified(facts.schema, facts.name);
  const { type, increment, min, max, start, cache, next } = setting;
  const end = setting.increment > 0n ? max : min;
  return `
    IF EXISTS (SELECT FROM ${name} s, pg_sequence q WHERE q.seqrelid = ${facts.oid}
                AND s.last_value = ${state.last} AND s.is_called = ${state.isCalled}
                AND q.seqincrement = ${facts.increment}) THEN
      ALTER SEQUENCE ${name} AS ${type} INCREMENT BY ${increment} MINVALUE ${min} MAXVALUE ${max}
        START WITH ${start} RESTART WITH ${next ?? end} CACHE ${cache} ${setting.cycles ? "" : "NO "}CYCLE;
      ${next === null ? `PERFORM setval(${facts.oid}::regclass, ${end}, true);` : ""}
      INSERT INTO sluice.sequence (relation, schema_name, sequence_name, own_increment, increment)
      VALUES (${facts.oid}, ${quoteLiteral(facts.schema)}, ${quoteLiteral(facts.name)},
              ${setting.ownIncrement}, ${increment})
      ON CONFLICT (relation) DO UPDATE SET schema_name = excluded.schema_name,
        sequence_name = excluded.sequence_name, own_increment = excluded.own_increment,
        increment = excluded.increment, set_at = clock_timestamp();
    END IF;`;
}
