import { sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { tell } from "../../core/tell.js";
import type { MigrationRef } from "../model/migration.js";
import {
  displayName,
  eachShard,
  type Finding,
  failure,
  type PreflightCheck,
  type ShardView,
  warning,
  withGist,
} from "./world.js";

/** R37: every right that can be used without leaving a trace is used, in a transaction that is rolled back. */
export const RIGHTS_CHECKS: readonly PreflightCheck[] = [
  {
    id: "rights",
    fine: "our roles may replicate, set origins, and create what we need",
    run: (world) => eachShard(world.shards, (shard) => checkRights(world.ref, shard)),
  },
  {
    id: "table-rights",
    fine: "our roles own the moving tables",
    run: (world) => eachShard(world.shards, checkOwnership),
  },
  {
    id: "control-schema",
    fine: "schema sluice is free or ours",
    run: (world) => eachShard(world.shards, checkControlSchema),
  },
  {
    id: "table-owner",
    fine: "no moving table belongs to a role that logs in",
    run: ({ shards }) => shards.flatMap(checkOwners),
  },
];

interface Right {
  readonly statement: string;
  readonly what: string;
  readonly remedy: (role: string) => string;
}

function rightsToProve(ref: MigrationRef): readonly Right[] {
  const probe = `sluice_preflight_${ref.id}`;
  const mayCreate = (role: string) => `GRANT CREATE ON DATABASE current_database_name TO ${role};`;
  return [
    {
      statement: `SELECT pg_replication_origin_create('${probe}')`,
      what: "create a replication origin",
      remedy: (role) =>
        ["create(text)", "drop(text)", "oid(text)", "session_setup(text)", "session_reset()"]
          .map((call) => `GRANT EXECUTE ON FUNCTION pg_replication_origin_${call} TO ${role};`)
          .concat(
            `GRANT EXECUTE ON FUNCTION pg_replication_origin_xact_setup(pg_lsn, timestamptz), pg_replication_origin_progress(text, boolean) TO ${role};`,
          )
          .join(" "),
    },
    {
      statement: "SET LOCAL session_replication_role = replica",
      what: "set session_replication_role",
      remedy: (role) =>
        `GRANT SET ON PARAMETER session_replication_role TO ${role}; -- before 15: ALTER ROLE ${role} SUPERUSER;`,
    },
    {
      statement: `CREATE SCHEMA ${probe}`,
      what: "create a schema in this database",
      remedy: mayCreate,
    },
    { statement: `CREATE PUBLICATION ${probe}`, what: "create a publication", remedy: mayCreate },
  ];
}

async function checkRights(ref: MigrationRef, shard: ShardView): Promise<readonly Finding[]> {
  const { client, scope } = shard;
  const who = await client.query<{ role: string; database: string; replicates: boolean }>(
    `SELECT current_user AS role, current_database() AS database, rolsuper OR rolreplication
       OR EXISTS (SELECT 1 FROM pg_roles g WHERE g.rolname IN ('rds_replication', 'rds_superuser', 'azure_pg_admin')
         AND pg_has_role(current_user, g.oid, 'member')) AS replicates
     FROM pg_roles WHERE rolname = current_user`,
  );
  const { role, database, replicates } = who.rows[0] ?? {
    role: "",
    database: "",
    replicates: false,
  };
  const quotedRole = quoteIdentifier(role);
  const findings: Finding[] = [];
  if (!replicates)
    findings.push(
      failure(
        scope,
        `role ${quotedRole} may not replicate`,
        `ALTER ROLE ${quotedRole} REPLICATION;`,
      ),
    );
  for (const right of rightsToProve(ref)) {
    const refusal = await tryAndRollBack(shard, right.statement);
    if (refusal === null) continue;
    const remedy = right
      .remedy(quotedRole)
      .replace("current_database_name", quoteIdentifier(database));
    findings.push(failure(scope, `role ${quotedRole} cannot ${right.what}: ${refusal}`, remedy));
  }
  return findings;
}

/** @returns the server's refusal, or null when the statement ran; its effect is gone either way */
async function tryAndRollBack({ client }: ShardView, statement: string): Promise<string | null> {
  await client.query("BEGIN");
  try {
    await client.query(statement);
    return null;
  } catch (error) {
    if (sqlStateOf(error) === null) throw error;
    return tell(error);
  } finally {
    await client.query("ROLLBACK");
  }
}

/** A publication, triggers and their removal need the owner; the way back writes to the source's tables. */
async function checkOwnership({ client, scope, tables }: ShardView): Promise<readonly Finding[]> {
  const result = await client.query<{ schema: string; name: string; owner: string; role: string }>(
    `SELECT n.nspname AS schema, c.relname AS name, pg_get_userbyid(c.relowner) AS owner, current_user AS role
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1::oid[]) AND NOT pg_has_role(current_user, c.relowner, 'usage')
     ORDER BY 1, 2`,
    [tables.map((table) => table.oid)],
  );
  return result.rows.map((row) =>
    failure(
      `${scope} ${displayName(row)}`,
      `role ${quoteIdentifier(row.role)} is not a member of the owner ${quoteIdentifier(row.owner)}`,
      `GRANT ${quoteIdentifier(row.owner)} TO ${quoteIdentifier(row.role)};`,
    ),
  );
}

async function checkControlSchema({ client, scope }: ShardView): Promise<readonly Finding[]> {
  const result = await client.query<{ taken: boolean }>(
    `SELECT to_regclass('sluice.migration') IS NULL AND to_regclass('sluice.schema_statement') IS NULL
       AND EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid) AS taken
     FROM pg_namespace n WHERE n.nspname = 'sluice'`,
  );
  if (result.rows[0]?.taken !== true) return [];
  return [
    failure(
      scope,
      "schema sluice exists and holds tables that are not ours",
      `ALTER SCHEMA ${quoteIdentifier("sluice")} RENAME TO sluice_of_application;`,
    ),
  ];
}

/** R25: an owner can disable the gate's trigger. */
function checkOwners({ tables, scope, client }: ShardView): readonly Finding[] {
  return tables
    .filter((table) => table.ownerLogsIn && table.owner !== client.user)
    .map((table) =>
      withGist(
        warning(
          `${scope} ${displayName(table)}`,
          `the owner ${quoteIdentifier(table.owner)} may log in, and an owner can disable the gate's trigger`,
          `ALTER TABLE ${quoteQualified(table.schema, table.name)} OWNER TO ${quoteIdentifier(client.user ?? "postgres")};`,
        ),
        {
          text: "owners of moving tables that may log in: an owner can disable the gate's trigger",
          item: table.owner,
        },
      ),
    );
}
