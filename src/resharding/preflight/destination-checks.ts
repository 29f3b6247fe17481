import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { TableFacts } from "./catalog-facts.js";
import { sentColumns } from "./table-plan.js";
import {
  displayName,
  eachShard,
  type Finding,
  failure,
  note,
  type PreflightCheck,
  type ShardView,
  sameTable,
  shardsOf,
  type World,
  warning,
  withGist,
} from "./world.js";

/** The destination must be able to become what the source is, and be nobody else's. */
export const DESTINATION_CHECKS: readonly PreflightCheck[] = [
  {
    id: "destination-empty",
    fine: "the moving tables are absent, empty or ours on the destination",
    run: (world) => eachShard(shardsOf(world, "destination"), (shard) => checkEmpty(world, shard)),
  },
  {
    id: "destination-columns",
    fine: "tables that exist on the destination have the source's columns",
    run: (world) => shardsOf(world, "destination").flatMap((shard) => checkColumns(world, shard)),
  },
  {
    id: "other-migration",
    fine: "no other migration moves these tables",
    run: (world) => eachShard(world.shards, (shard) => checkOtherMigration(world, shard)),
  },
  { id: "extensions", fine: "the destination has all extensions", run: checkExtensions },
  { id: "types", fine: "the destination's types agree with the source's", run: checkTypes },
  {
    id: "roles",
    fine: "the destination has all roles that own tables or hold grants",
    run: checkRoles,
  },
  {
    id: "materialized-views",
    fine: "no materialized view exists",
    run: (world) => eachShard(shardsOf(world, "source"), checkMaterializedViews),
  },
];

async function checkEmpty(world: World, shard: ShardView): Promise<readonly Finding[]> {
  if (shard.isOurs) return [];
  const findings: Finding[] = [];
  for (const { facts } of world.tables) {
    const here = shard.tables.find((table) => sameTable(table, facts));
    if (here?.kind !== "r") continue;
    const table = quoteQualified(facts.schema, facts.name);
    const rows = await shard.client.query(`SELECT FROM ONLY ${table} LIMIT 1`);
    if (rows.rowCount === 0) continue;
    findings.push(
      failure(
        `${shard.scope} ${displayName(facts)}`,
        "the table has rows, and no migration of this id put them there",
        `TRUNCATE ${table}; -- on the destination, if these rows are not needed; after an earlier migration first UNFENCE <database> CONFIRM`,
      ),
    );
  }
  return findings;
}

function checkColumns(world: World, shard: ShardView): readonly Finding[] {
  return world.tables.flatMap(({ facts }) => {
    const here = shard.tables.find((table) => sameTable(table, facts));
    return here ? compareColumns(`${shard.scope} ${displayName(facts)}`, facts, here) : [];
  });
}

function compareColumns(scope: string, source: TableFacts, here: TableFacts): readonly Finding[] {
  const drop = `DROP TABLE ${quoteQualified(here.schema, here.name)}; -- schema sync makes it again`;
  if (source.kind !== here.kind)
    return [failure(scope, `relkind is ${here.kind}, on the source ${source.kind}`, drop)];
  const findings: Finding[] = [];
  for (const column of source.columns) {
    const other = here.columns.find(({ name }) => name === column.name);
    if (!other) findings.push(failure(scope, `column ${column.name} is missing`, drop));
    else if (other.isGenerated !== column.isGenerated)
      findings.push(failure(scope, `column ${column.name} is generated on one side only`, drop));
    else if (other.type !== column.type)
      findings.push(
        warning(
          scope,
          `column ${column.name} is ${other.type}, on the source ${column.type}: it is copied and compared as text`,
          drop,
        ),
      );
  }
  for (const column of sentColumns(here))
    if (!source.columns.some(({ name }) => name === column.name))
      findings.push(failure(scope, `column ${column.name} is not on the source`, drop));
  return findings;
}

async function checkOtherMigration(world: World, shard: ShardView): Promise<readonly Finding[]> {
  const exists = await shard.client.query<{ exists: boolean }>(
    "SELECT to_regclass('sluice.moving_table') IS NOT NULL AS exists",
  );
  if (exists.rows[0]?.exists !== true) return [];
  const result = await shard.client.query<{ migration: string; schema: string; name: string }>(
    `SELECT t.migration, t.schema_name AS schema, t.table_name AS name
     FROM sluice.moving_table t JOIN sluice.migration m ON m.id = t.migration
     JOIN unnest($1::text[], $2::text[]) AS mine(schema_name, table_name) USING (schema_name, table_name)
     WHERE m.state = 'active' AND m.id <> $3 ORDER BY 1, 2, 3`,
    [
      world.tables.map(({ facts }) => facts.schema),
      world.tables.map(({ facts }) => facts.name),
      world.ref.id,
    ],
  );
  return result.rows.map((row) =>
    failure(
      `${shard.scope} ${displayName(row)}`,
      `migration ${row.migration} moves this table already`,
      "SHOW TASKS; -- then STOP_TASK <task_id> to finalize or abort the other one",
    ),
  );
}

interface Extension {
  readonly name: string;
  readonly version: string;
}

async function checkExtensions(world: World): Promise<readonly Finding[]> {
  const [source] = shardsOf(world, "source");
  if (!source) return [];
  const wanted = await source.client.query<Extension>(
    "SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY 1",
  );
  return eachShard(shardsOf(world, "destination"), async ({ client, scope }) => {
    const found = await client.query<{ name: string; installed: string | null }>(
      "SELECT name, installed_version AS installed FROM pg_available_extensions",
    );
    return wanted.rows.flatMap(({ name, version }) => {
      const here = found.rows.find((row) => row.name === name);
      const create = `CREATE EXTENSION ${quoteIdentifier(name)};`;
      if (!here)
        return [
          failure(
            scope,
            `extension ${name} ${version} is not available on this server`,
            `Install the package of ${name} on the server; schema sync then runs ${create}`,
          ),
        ];
      if (here.installed === null)
        return [
          withGist(note(scope, `extension ${name} is missing; schema sync brings it`), {
            text: "extensions that schema sync brings",
            item: name,
          }),
        ];
      if (here.installed === version) return [];
      return [
        warning(
          scope,
          `extension ${name} is ${here.installed}, on the source ${version}`,
          `ALTER EXTENSION ${quoteIdentifier(name)} UPDATE;`,
        ),
      ];
    });
  });
}

interface TypeDefinition {
  readonly name: string;
  readonly definition: string;
}

/** Enums with their labels in order (R39), domains with their base, composites with their fields. */
const USER_TYPES = `SELECT format_type(t.oid, NULL) AS name,
    t.typtype::text || ':' || CASE t.typtype
      WHEN 'e' THEN (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid)
      WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
      WHEN 'c' THEN (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
      ELSE '' END AS definition
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'sluice') AND n.nspname !~ '^pg_toast|^pg_temp'
    AND t.typtype IN ('e', 'd', 'c', 'r') AND (c.oid IS NULL OR c.relkind = 'c')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
  ORDER BY 1`;

async function checkTypes(world: World): Promise<readonly Finding[]> {
  const [source] = shardsOf(world, "source");
  if (!source) return [];
  const wanted = await source.client.query<TypeDefinition>(USER_TYPES);
  return eachShard(shardsOf(world, "destination"), async ({ client, scope }) => {
    const found = await client.query<TypeDefinition>(USER_TYPES);
    const here = new Map(found.rows.map((row) => [row.name, row.definition]));
    return wanted.rows.flatMap(({ name, definition }) => {
      const other = here.get(name);
      if (other === definition) return [];
      if (other === undefined)
        return [
          withGist(note(scope, `type ${name} is missing; schema sync brings it`), {
            text: "types that schema sync brings",
            item: name,
          }),
        ];
      return [
        failure(
          scope,
          `type ${name} is ${other}, on the source ${definition}`,
          `DROP TYPE ${name}; -- on the destination; schema sync makes it again`,
        ),
      ];
    });
  });
}

async function checkRoles(world: World): Promise<readonly Finding[]> {
  const [source] = shardsOf(world, "source");
  if (!source) return [];
  const wanted = await source.client.query<{ name: string }>(
    `SELECT DISTINCT r.rolname AS name FROM pg_class c
     JOIN pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (SELECT c.relowner AS role UNION SELECT a.grantee FROM aclexplode(c.relacl) a) AS named
     JOIN pg_roles r ON r.oid = named.role
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'sluice') AND n.nspname !~ '^pg_toast' ORDER BY 1`,
  );
  return eachShard(shardsOf(world, "destination"), async ({ client, scope }) => {
    const found = await client.query<{ name: string }>("SELECT rolname AS name FROM pg_roles");
    const here = new Set(found.rows.map((row) => row.name));
    return wanted.rows
      .filter(({ name }) => !here.has(name))
      .map(({ name }) =>
        withGist(
          warning(
            scope,
            `role ${quoteIdentifier(name)} owns or may use objects of the source and does not exist here: its ownership and grants are left out`,
            `CREATE ROLE ${quoteIdentifier(name)};`,
          ),
          {
            text: "roles that do not exist on the destination: ownership and grants are left out there",
            item: name,
          },
        ),
      );
  });
}

async function checkMaterializedViews({ client, scope }: ShardView): Promise<readonly Finding[]> {
  const result = await client.query<{ schema: string; name: string }>(
    "SELECT schemaname AS schema, matviewname AS name FROM pg_matviews WHERE ispopulated ORDER BY 1, 2",
  );
  return result.rows.map((view) =>
    withGist(
      warning(
        `${scope} ${displayName(view)}`,
        "materialized views hold each shard's own rows after the switch",
        `REFRESH MATERIALIZED VIEW ${quoteQualified(view.schema, view.name)}; -- on each shard, after the switch`,
      ),
      {
        text: "after the switch they hold each shard's own rows, and are to be refreshed there",
        item: displayName(view),
      },
    ),
  );
}
