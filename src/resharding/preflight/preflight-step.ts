import { describeAddress, type ServerAddress } from "../../backend/address.js";
import { DatabaseUnknown, ServerUnreachable } from "../../core/errors.js";
import { tell } from "../../core/tell.js";
import type { Cluster, EngineContext } from "../context.js";
import { configuredSides, type SessionUse, type SideSessions } from "../control/sides.js";
import type { PreflightResult } from "../model/activities.js";
import type { Check, MigrationRef, MigrationSpec, Side } from "../model/migration.js";
import {
  findTableOids,
  readAncestorOids,
  readForeignKeys,
  readLeafOids,
  readNamingPublications,
  readPublication,
  readTables,
  type TableFacts,
} from "./catalog-facts.js";
import { DESTINATION_CHECKS } from "./destination-checks.js";
import { IDENTITY_CHECKS } from "./identity-checks.js";
import { PUBLICATION_CHECKS } from "./publication-checks.js";
import { RIGHTS_CHECKS } from "./rights-checks.js";
import { SEQUENCE_CHECKS } from "./sequence-checks.js";
import { COLLATION_CHECK, SERVER_CHECKS } from "./server-checks.js";
import { buildSpec } from "./spec.js";
import { TABLE_CHECKS } from "./table-checks.js";
import { classify } from "./table-class.js";
import { type Finding, failure, type PreflightCheck, type ShardView, type World } from "./world.js";

/** In the order of SHOW and of the documentation. */
const CHECKS: readonly PreflightCheck[] = [
  ...SERVER_CHECKS,
  COLLATION_CHECK,
  ...RIGHTS_CHECKS,
  ...PUBLICATION_CHECKS,
  ...IDENTITY_CHECKS,
  ...TABLE_CHECKS,
  ...SEQUENCE_CHECKS,
  ...DESTINATION_CHECKS,
];

/** The table of docs/checks.md, lines without their ends. @testonly */
export function checksTable(): readonly string[] {
  return [
    "| check | is fine when |",
    "|---|---|",
    ...CHECKS.map(({ id, fine: says }) => `| \`${id}\` | ${says} |`),
  ];
}

/** A check that a lock or a big table holds up is a finding, not a task that hangs. */
const PREFLIGHT: SessionUse = {
  purpose: "preflight",
  statementTimeoutMs: 60_000,
  lockTimeoutMs: 2_000,
};

/**
 * Runs every check and returns every result, and the specification of what would move. It changes nothing:
 * what it tries, it rolls back. `ok` is false when one finding is an error; `spec` is null when the tables
 * could not be read on every shard.
 * Throws for no finding: an unknown database and a server that does not answer are findings too.
 */
export async function preflight(
  context: EngineContext,
  ref: MigrationRef,
): Promise<PreflightResult> {
  const databases = findDatabases(context, ref);
  if (!databases.isThere) return conclude(databases.checks, null);
  await using sides = configuredSides(context, ref);
  const opened = await openWorld(context, ref, sides);
  const checks = [...databases.checks, ...opened.checks];
  for (const check of CHECKS) {
    context.heartbeat({ check: check.id });
    checks.push(...(await runCheck(check, opened.world)));
  }
  const spec = opened.world.isComplete ? await trySpec(opened.world, checks) : null;
  return conclude(checks, spec);
}

function conclude(checks: readonly Check[], spec: MigrationSpec | null): PreflightResult {
  const isFine = checks.every((check) => check.severity !== "error");
  return { ok: isFine && spec !== null, checks, spec };
}

function findDatabases(
  context: EngineContext,
  ref: MigrationRef,
): { checks: readonly Check[]; isThere: boolean } {
  const id = "databases";
  const checks: Check[] = [];
  for (const name of [ref.source, ref.destination]) {
    try {
      context.cluster(name);
    } catch (error) {
      if (!(error instanceof DatabaseUnknown)) throw error;
      checks.push({ id, ...failure(`database ${name}`, error.message, error.hint ?? "") });
    }
  }
  if (checks.length > 0) return { checks, isThere: false };
  return { checks: [fine(id, "both databases are configured")], isThere: true };
}

function fine(id: string, evidence: string): Check {
  return { id, scope: "all", severity: "ok", evidence, remedy: "" };
}

async function runCheck(check: PreflightCheck, world: World): Promise<readonly Check[]> {
  let findings: readonly Finding[];
  try {
    findings = await check.run(world);
  } catch (error) {
    findings = [failure("all", `the check could not be made: ${tell(error)}`, "")];
  }
  if (findings.length === 0) return [fine(check.id, check.fine)];
  return findings.map((finding) => ({ id: check.id, ...finding }));
}

async function trySpec(world: World, checks: Check[]): Promise<MigrationSpec | null> {
  try {
    return await buildSpec(world);
  } catch (error) {
    checks.push({ id: "specification", ...failure("all", tell(error), "") });
    return null;
  }
}

async function openWorld(
  context: EngineContext,
  ref: MigrationRef,
  sides: SideSessions,
): Promise<{ world: World; checks: readonly Check[] }> {
  const checks: Check[] = [];
  const { source, destination } = sides;
  const open = async (side: Side, shard: number, address: ServerAddress, names: Names) => {
    const scope = `${side}/${shard} (${describeAddress(address)})`;
    try {
      return await openShard(sides, { ref, side, shard, scope, address, names });
    } catch (error) {
      context.signal.throwIfAborted();
      const evidence = error instanceof ServerUnreachable ? withDetail(error) : tell(error);
      const remedy =
        "Correct host, port, user or password in pgdog.toml and users.toml, or start the server.";
      checks.push({ id: "servers", ...failure(scope, evidence, remedy) });
      return null;
    }
  };
  const openAll = async (side: Side, cluster: Cluster, names: Names) => {
    const views = await Promise.all(
      cluster.shards.map((address, shard) => open(side, shard, address, names)),
    );
    return views.filter((view) => view !== null);
  };
  const sources = await openAll("source", source, null);
  const first = sources.find((view) => view.shard === 0);
  const moving = first?.tables ?? [];
  const destinations = await openAll("destination", destination, moving);
  const shards = [...sources, ...destinations];
  const isComplete = checks.length === 0 && first !== undefined;
  if (checks.length === 0) checks.push(fine("servers", "every shard of both sides answers"));
  const foreignKeys = first
    ? await readForeignKeys(
        first.client,
        moving.map((table) => table.oid),
      )
    : [];
  const tables = moving
    .filter((table) => table.kind !== "p")
    .map((facts) => ({ facts, tableClass: classify(destination, facts) }));
  return {
    world: {
      ref,
      policy: context.policy,
      source,
      destination,
      shards,
      isComplete,
      tables,
      foreignKeys,
    },
    checks,
  };
}

function withDetail(error: ServerUnreachable): string {
  return error.detail === undefined ? error.message : `${error.message}: ${error.detail}`;
}

/** Tables to look for, or null: those of the publication. */
type Names = readonly TableFacts[] | null;

interface OpenShardInput {
  readonly ref: MigrationRef;
  readonly side: Side;
  readonly shard: number;
  readonly scope: string;
  readonly address: ServerAddress;
  readonly names: Names;
}

async function openShard(
  sides: SideSessions,
  { ref, side, shard, scope, names }: OpenShardInput,
): Promise<ShardView> {
  const client = await sides.session(side, shard, PREFLIGHT);
  const version = await client.query<{ version: number }>(
    "SELECT current_setting('server_version_num')::int AS version",
  );
  const publication = names === null ? await readPublication(client, ref.publication) : null;
  const named =
    names === null
      ? (publication?.tables ?? []).map((table) => table.oid)
      : await findTableOids(client, names);
  const leaves = names === null ? await readLeafOids(client, named) : named;
  const ancestors = await readAncestorOids(client, leaves);
  const tables = await readTables(client, [...new Set([...leaves, ...ancestors])]);
  return {
    side,
    shard,
    scope,
    client,
    serverVersion: version.rows[0]?.version ?? 0,
    publication,
    otherPublications: names === null ? await readNamingPublications(client, leaves) : [],
    tables,
    isOurs: await knowsMigration(client, ref),
  };
}

async function knowsMigration(client: ShardView["client"], ref: MigrationRef): Promise<boolean> {
  const exists = await client.query<{ exists: boolean }>(
    "SELECT to_regclass('sluice.migration') IS NOT NULL AS exists",
  );
  if (exists.rows[0]?.exists !== true) return false;
  const found = await client.query("SELECT FROM sluice.migration WHERE id = $1", [ref.id]);
  return found.rowCount === 1;
}
