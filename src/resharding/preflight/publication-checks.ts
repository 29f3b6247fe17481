import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { PublicationFacts } from "./catalog-facts.js";
import {
  displayName,
  eachShard,
  type Finding,
  failure,
  type PreflightCheck,
  type ShardView,
  sameTable,
  shardsOf,
  type World,
  warning,
} from "./world.js";

/** R10: the user's publication names the tables, and must mean all of their rows and changes. */
export const PUBLICATION_CHECKS: readonly PreflightCheck[] = [
  {
    id: "publication",
    fine: "the publication exists on every source shard and names the same tables",
    run: checkPublication,
  },
  {
    id: "publication-operations",
    fine: "the publication publishes all operations",
    run: (world) => eachPublication(world, checkOperations),
  },
  {
    id: "publication-filters",
    fine: "the publication has no row filter and no column list",
    run: (world) => eachPublication(world, checkFilters),
  },
  {
    id: "tables-left-behind",
    fine: "every table with rows is in the publication",
    run: (world) => eachShard(shardsOf(world, "source"), (shard) => checkLeftBehind(world, shard)),
  },
  {
    id: "inheritance",
    fine: "no moving table has inheritance children outside the publication",
    run: (world) => eachShard(shardsOf(world, "source"), checkChildren),
  },
  {
    id: "large-objects",
    fine: "no large object exists",
    run: (world) => eachShard(shardsOf(world, "source"), checkLargeObjects),
  },
  {
    id: "settings",
    fine: "no setting is bound to the database",
    run: (world) => eachShard(shardsOf(world, "source"), checkSettings),
  },
];

function checkPublication(world: World): readonly Finding[] {
  const name = quoteIdentifier(world.ref.publication);
  const [first] = shardsOf(world, "source");
  return shardsOf(world, "source").flatMap((shard) => {
    if (!shard.publication)
      return [
        failure(
          shard.scope,
          `publication ${name} does not exist`,
          `CREATE PUBLICATION ${name} FOR TABLE ...; -- or FOR ALL TABLES`,
        ),
      ];
    const { tables } = shard.publication;
    if (tables.length === 0)
      return [
        failure(
          shard.scope,
          `publication ${name} has no tables`,
          `ALTER PUBLICATION ${name} ADD TABLE ...;`,
        ),
      ];
    const expected = first?.publication?.tables ?? [];
    return [
      ...expected
        .filter((table) => !tables.some((other) => sameTable(table, other)))
        .map((table) =>
          failure(
            shard.scope,
            `table ${displayName(table)} is in the publication on ${first?.scope} but not here`,
            `ALTER PUBLICATION ${name} ADD TABLE ${quoteQualified(table.schema, table.name)};`,
          ),
        ),
      ...tables
        .filter((table) => !expected.some((other) => sameTable(table, other)))
        .map((table) =>
          failure(
            shard.scope,
            `table ${displayName(table)} is in the publication here but not on ${first?.scope}`,
            `ALTER PUBLICATION ${name} DROP TABLE ${quoteQualified(table.schema, table.name)};`,
          ),
        ),
    ];
  });
}

function eachPublication(
  world: World,
  look: (world: World, shard: ShardView, publication: PublicationFacts) => readonly Finding[],
): readonly Finding[] {
  return shardsOf(world, "source").flatMap((shard) =>
    shard.publication ? look(world, shard, shard.publication) : [],
  );
}

function checkOperations(
  world: World,
  shard: ShardView,
  publication: PublicationFacts,
): readonly Finding[] {
  const operations = ["insert", "update", "delete", "truncate"] as const;
  const missing = operations.filter((operation) => !publication[operation]);
  if (missing.length === 0) return [];
  const name = quoteIdentifier(world.ref.publication);
  return [
    failure(
      shard.scope,
      `publication ${name} leaves out ${missing.join(", ")}`,
      `ALTER PUBLICATION ${name} SET (publish = 'insert, update, delete, truncate');`,
    ),
  ];
}

function checkFilters(
  world: World,
  shard: ShardView,
  publication: PublicationFacts,
): readonly Finding[] {
  const name = quoteIdentifier(world.ref.publication);
  return publication.tables
    .filter((table) => table.hasRowFilter || table.hasColumnList)
    .map((table) => {
      const qualified = quoteQualified(table.schema, table.name);
      return failure(
        `${shard.scope} ${displayName(table)}`,
        `the publication has a ${table.hasRowFilter ? "row filter" : "column list"} for this table; the rest would stay behind`,
        `ALTER PUBLICATION ${name} DROP TABLE ${qualified}; ALTER PUBLICATION ${name} ADD TABLE ${qualified};`,
      );
    });
}

interface OtherTable {
  readonly schema: string;
  readonly name: string;
  readonly persistence: string;
}

/** Tables of the application outside the publication; what an extension owns comes with the extension. */
async function checkLeftBehind(world: World, shard: ShardView): Promise<readonly Finding[]> {
  if (!shard.publication) return [];
  const others = await shard.client.query<OtherTable>(
    `SELECT n.nspname AS schema, c.relname AS name, c.relpersistence AS persistence
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT c.oid = ANY ($1::oid[])
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'sluice')
       AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
         AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY 1, 2`,
    [shard.tables.map((table) => table.oid)],
  );
  const findings: Finding[] = [];
  for (const table of others.rows) {
    if (world.policy.leftBehind.includes(displayName(table))) continue;
    const qualified = quoteQualified(table.schema, table.name);
    const rows = await shard.client.query(`SELECT FROM ONLY ${qualified} LIMIT 1`);
    if (rows.rowCount === 0) continue;
    const accept = `or list "${displayName(table)}" in [copy] left_behind of sluice.toml`;
    const isUnlogged = table.persistence === "u";
    findings.push(
      failure(
        `${shard.scope} ${displayName(table)}`,
        isUnlogged
          ? "the table is unlogged and has rows: no publication carries it"
          : "the table has rows and is not in the publication: they would stay behind",
        isUnlogged
          ? `ALTER TABLE ${qualified} SET LOGGED; -- ${accept}`
          : `ALTER PUBLICATION ${quoteIdentifier(world.ref.publication)} ADD TABLE ${qualified}; -- ${accept}`,
      ),
    );
  }
  return findings;
}

async function checkChildren(shard: ShardView): Promise<readonly Finding[]> {
  const moving = new Set(shard.tables.map((table) => table.oid));
  const findings: Finding[] = [];
  for (const table of shard.tables) {
    const outside = table.childOids.filter((oid) => !moving.has(oid));
    if (outside.length === 0) continue;
    const children = await shard.client.query<{ name: string }>(
      "SELECT oid::regclass::text AS name FROM unnest($1::oid[]) AS oid",
      [outside],
    );
    const list = children.rows.map((row) => row.name).join(", ");
    findings.push(
      failure(
        `${shard.scope} ${displayName(table)}`,
        `its inheritance children ${list} are not in the publication`,
        `ALTER PUBLICATION ... ADD TABLE ${list};`,
      ),
    );
  }
  return findings;
}

/** R21: large objects do not travel in the stream. */
async function checkLargeObjects(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ count: number }>(
    "SELECT count(*)::int AS count FROM (SELECT FROM pg_largeobject_metadata LIMIT 1000) AS counted",
  );
  const count = result.rows[0]?.count ?? 0;
  if (count === 0) return [];
  return [
    warning(
      shard.scope,
      `${count === 1000 ? "1000 or more" : count} large objects exist; they are not moved`,
      "Move them into bytea columns, or copy them yourself before the switch.",
    ),
  ];
}

/** R21: settings of a database, or of a role in it, are no part of a schema dump. */
async function checkSettings(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ role: string | null; settings: string }>(
    `SELECT r.rolname AS role, array_to_string(s.setconfig, ', ') AS settings
     FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
     WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY 1`,
  );
  return result.rows.map(({ role, settings }) =>
    warning(
      shard.scope,
      `settings are bound to ${role === null ? "this database" : `role ${quoteIdentifier(role)} in this database`} and are not moved: ${settings}`,
      `ALTER ${role === null ? "" : `ROLE ${quoteIdentifier(role)} IN `}DATABASE ... SET ...; -- on the destination`,
    ),
  );
}
