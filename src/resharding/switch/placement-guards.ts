import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../core/identifier.js";
import { PLACEMENT_GUARD } from "../../core/placement-guard.js";
import { placementSql } from "../../topology/placement-guard.js";
import { isMissingControlSchema, upgradeControlSchema } from "../control/control-schema.js";
import type { MigrationRef, TablePlan } from "../model/migration.js";

/** Runs what takes a table's lock, again while the lock is not to be had. */
type WithLock = (table: string, act: () => Promise<void>) => Promise<void>;

interface GuardInput {
  readonly ref: MigrationRef;
  readonly tables: readonly TablePlan[];
  readonly shard: number;
  readonly shardCount: number;
}

/** Of leaf partitions the table above all: a CHECK is inherited, by later partitions too. */
const ROOTS = `WITH RECURSIVE up(oid, leaf, key, type) AS (
    SELECT c.oid, c.oid, t.key, t.type
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS t(schema_name, table_name, key, type)
      JOIN pg_namespace n ON n.nspname = t.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
     UNION SELECT i.inhparent, up.leaf, up.key, up.type
      FROM up JOIN pg_class c ON c.oid = up.oid AND c.relispartition JOIN pg_inherits i ON i.inhrelid = up.oid)
  SELECT DISTINCT n.nspname AS schema, c.relname AS name, up.key, up.type,
         c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS "hasHeirs"
    FROM up JOIN pg_class c ON c.oid = up.oid AND NOT c.relispartition JOIN pg_namespace n ON n.oid = c.relnamespace
   ORDER BY 1, 2`;

interface Root {
  readonly schema: string;
  readonly name: string;
  readonly key: string;
  readonly type: "bigint" | "uuid" | "varchar";
  /** Children by INHERITS, which may have a rule of their own: the guard is for this table alone. */
  readonly hasHeirs: boolean;
}

/**
 * Puts the placement guard on the sharded tables of one destination shard, while they are empty: every row that is
 * copied or applied from then on is looked at by PostgreSQL, and nothing has to be validated later. A guard that
 * is there already (of a dump that was restored by hand) is for another number of shards: it is noted, and goes.
 *
 * One statement per table, so that a run that freezes holds no lock. Second run, or one beside the first: finds the
 * note. After the migration: does nothing. A table with rows and without a note gets none: its migration began with
 * a version that did not know guards.
 */
export async function guardPlacement(
  client: SqlClient,
  input: GuardInput,
  withLock: WithLock,
): Promise<void> {
  const { ref, shard, shardCount } = input;
  if (shardCount === 1) return;
  await upgradeControlSchema(client);
  const sharded = input.tables.filter(({ kind }) => kind === "sharded");
  const { rows } = await client.query<Root>(ROOTS, [
    sharded.map((table) => table.schema),
    sharded.map((table) => table.name),
    sharded.map((table) => table.shardingColumn),
    sharded.map((table) => table.shardingType),
  ]);
  for (const root of rows) {
    const condition = placementSql(
      quoteIdentifier(root.key),
      { dataType: root.type },
      { shard, shardCount },
    );
    const table = quoteQualified(root.schema, root.name);
    await withLock(table, async () => {
      await client.query(guardStatement(ref, root, condition));
    });
  }
}

function guardStatement(ref: MigrationRef, root: Root, condition: string): string {
  const table = quoteQualified(root.schema, root.name);
  const migration = quoteLiteral(ref.id);
  const inherits = root.hasHeirs ? " NO INHERIT" : "";
  return block(`
  PERFORM FROM sluice.migration WHERE id = ${migration} AND state = 'active' FOR SHARE;
  IF NOT FOUND THEN RETURN; END IF;
  PERFORM FROM sluice.placement_guard WHERE migration = ${migration}
    AND schema_name = ${quoteLiteral(root.schema)} AND table_name = ${quoteLiteral(root.name)};
  IF FOUND THEN RETURN; END IF;
  LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM ${table}) THEN RETURN; END IF;
  INSERT INTO sluice.placement_guard (migration, schema_name, table_name)
    VALUES (${migration}, ${quoteLiteral(root.schema)}, ${quoteLiteral(root.name)});
  FOR here IN
    WITH RECURSIVE tree(oid, level) AS (
      SELECT ${quoteLiteral(table)}::regclass::oid, 0
       UNION ALL SELECT i.inhrelid, tree.level + 1 FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
       WHERE ${!root.hasHeirs})
    SELECT n.nspname, c.relname, pg_get_constraintdef(k.oid) AS definition
      FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_constraint k ON k.conrelid = c.oid AND k.conname = '${PLACEMENT_GUARD}' AND k.conislocal
     ORDER BY tree.level
  LOOP
    INSERT INTO sluice.placement_guard (migration, schema_name, table_name, was)
      VALUES (${migration}, here.nspname, here.relname, here.definition)
      ON CONFLICT (migration, schema_name, table_name) DO UPDATE SET was = excluded.was;
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT IF EXISTS ${PLACEMENT_GUARD}', here.nspname, here.relname);
  END LOOP;
  ALTER TABLE ${table} ADD CONSTRAINT ${PLACEMENT_GUARD} CHECK (${condition})${inherits};`);
}

/** One statement, so one transaction that needs no second word from us. */
function block(body: string): string {
  return `DO ${quoteLiteral(`DECLARE
  here record;
BEGIN${body}
END`)}`;
}

interface Note {
  readonly schema_name: string;
  readonly table_name: string;
}

/**
 * Takes the guards of a migration from one destination shard that will not serve, and puts back what was there. What
 * was there is for tables that were empty; where they have rows now, it is put back as NOT VALID.
 * Second run: finds the notes that are left.
 */
export async function putBackPlacement(
  client: SqlClient,
  ref: MigrationRef,
  withLock: WithLock,
): Promise<void> {
  for (const note of await readNotes(client, ref))
    await withLock(quoteQualified(note.schema_name, note.table_name), async () => {
      await client.query(putBackStatement(ref, note));
    });
}

/** The tables above others first: what they had is inherited. None where the migration is older than guards. */
async function readNotes(client: SqlClient, ref: MigrationRef): Promise<readonly Note[]> {
  try {
    const { rows } = await client.query<Note>(
      `SELECT schema_name, table_name FROM sluice.placement_guard WHERE migration = $1
        ORDER BY was IS NOT NULL, schema_name, table_name`,
      [ref.id],
    );
    return rows;
  } catch (error) {
    if (isMissingControlSchema(error)) return [];
    throw error;
  }
}

function putBackStatement(ref: MigrationRef, note: Note): string {
  const table = quoteQualified(note.schema_name, note.table_name);
  return block(`
  DELETE FROM sluice.placement_guard WHERE migration = ${quoteLiteral(ref.id)}
    AND schema_name = ${quoteLiteral(note.schema_name)} AND table_name = ${quoteLiteral(note.table_name)}
    RETURNING was INTO here;
  IF NOT FOUND OR to_regclass(${quoteLiteral(table)}) IS NULL THEN RETURN; END IF;
  LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = ${quoteLiteral(table)}::regclass
              AND conname = '${PLACEMENT_GUARD}' AND conislocal) THEN
    ALTER TABLE ${table} DROP CONSTRAINT ${PLACEMENT_GUARD};
  END IF;
  IF here.was IS NOT NULL THEN
    IF here.was !~ ' NOT VALID$' THEN
      IF EXISTS (SELECT FROM ${table}) THEN here.was := here.was || ' NOT VALID'; END IF;
    END IF;
    EXECUTE format('ALTER TABLE ${escaped(table)} ADD CONSTRAINT ${PLACEMENT_GUARD} %s', here.was);
  END IF;`);
}

/** As a part of a constant that `format` reads. */
function escaped(text: string): string {
  return text.replaceAll("'", "''").replaceAll("%", "%%");
}

/** The guards stay, as the side serves: nothing is put back any more. */
export async function keepPlacement(client: SqlClient, ref: MigrationRef): Promise<void> {
  if ((await readNotes(client, ref)).length > 0)
    await client.query("DELETE FROM sluice.placement_guard WHERE migration = $1", [ref.id]);
}
