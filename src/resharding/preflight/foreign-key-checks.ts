import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { NOT_A_KEY, shardOfText } from "../../topology/hash.js";
import type { ForeignKeyFacts } from "./catalog-facts.js";
import type { TableClass } from "./table-class.js";
import {
  displayName,
  type Finding,
  failure,
  type PreflightCheck,
  sameTable,
  shardsOf,
  shortName,
  type World,
  warning,
  withGist,
} from "./world.js";

export const FOREIGN_KEY_CHECKS: readonly PreflightCheck[] = [
  {
    id: "foreign-keys",
    fine: "foreign keys stay within a shard",
    run: checkForeignKeys,
  },
];

/** For all foreign keys together: joins of whole tables, on servers that have other work. */
const LOOK_MS = 20_000;

async function checkForeignKeys(world: World): Promise<readonly Finding[]> {
  const deadlineAtMs = performance.now() + LOOK_MS;
  const findings: Finding[] = [];
  for (const key of world.foreignKeys) {
    const judged = judgeForeignKey(world, key);
    if (judged.kind === "found") findings.push(...judged.findings);
    else findings.push(await judgeLooseKey(world, { ...judged, key, deadlineAtMs }));
  }
  return findings;
}

type ShardedClass = Extract<TableClass, { readonly kind: "sharded" }>;

interface LooseKey {
  readonly kind: "loose";
  readonly referencing: ShardedClass;
  readonly referenced: ShardedClass;
}

function judgeForeignKey(
  world: World,
  key: ForeignKeyFacts,
): { readonly kind: "found"; readonly findings: readonly Finding[] } | LooseKey {
  const scope = displayName({ schema: key.schema, name: key.table });
  const referencedName = nameOfReferenced(key);
  const referenced = findClass(world, referencedName);
  const found = (...findings: readonly Finding[]) => ({ kind: "found", findings }) as const;
  if (!referenced)
    return found(
      failure(
        scope,
        `foreign key ${key.name} refers to ${displayName(referencedName)}, which does not move`,
        `ALTER PUBLICATION ${quoteIdentifier(world.ref.publication)} ADD TABLE ${quoteQualified(key.referencedSchema, key.referencedTable)}; -- or ${dropOf(key)}`,
      ),
    );
  const referencing = findClass(world, { schema: key.schema, name: key.table });
  if (world.destination.shards.length < 2 || referenced.kind === "omnisharded" || !referencing)
    return found();
  if (referencing.kind === "omnisharded")
    return found(
      failure(
        scope,
        `foreign key ${key.name} of an omnisharded table refers to sharded ${displayName(referencedName)}: most of its rows are on another shard`,
        dropOf(key),
      ),
    );
  const position = key.columns.indexOf(referencing.column);
  if (position >= 0 && key.referencedColumns[position] === referenced.column) return found();
  return { kind: "loose", referencing, referenced };
}

function nameOfReferenced(key: ForeignKeyFacts) {
  return { schema: key.referencedSchema, name: key.referencedTable };
}

function dropOf(key: ForeignKeyFacts): string {
  return `ALTER TABLE ${quoteQualified(key.schema, key.table)} DROP CONSTRAINT ${quoteIdentifier(key.name)};`;
}

interface LooseKeyInput extends LooseKey {
  readonly key: ForeignKeyFacts;
  readonly deadlineAtMs: number;
}

/** Between rows of one shard it holds as ever. Rows that are apart there would make the last phase of the schema fail. */
async function judgeLooseKey(world: World, input: LooseKeyInput): Promise<Finding> {
  const { key, referencing, referenced } = input;
  const scope = displayName({ schema: key.schema, name: key.table });
  const target = displayName(nameOfReferenced(key));
  const what = `foreign key ${key.name} to ${target} does not contain the sharding keys (${referencing.column}, ${referenced.column})`;
  const item = `${shortName({ schema: key.schema, name: key.table, rootSchema: null, rootName: null })}.${key.columns.join("+")}`;
  const apart = await findApart(world, input);
  if (apart === "yes" && key.isValidated)
    return failure(
      scope,
      `${what}, and rows refer to rows of another sharding key that go to another shard`,
      `SELECT * FROM ${joined(input)}; -- correct these rows, or: ${dropOf(key)}`,
    );
  const evidence = `${what}: it holds only while both rows are on one shard, as those of the same sharding key are${SEEN[apart]}`;
  return withGist(
    warning(
      scope,
      evidence,
      `Add the sharding key to both sides of the constraint, or: ${dropOf(key)}`,
    ),
    {
      text: `no sharding key in the reference: after the switch a row may refer to rows of its own shard only, so to those of the same sharding key${SEEN[apart]}`,
      item,
    },
  );
}

const SEEN = {
  no: "; all rows do so now",
  yes: "; rows do otherwise now",
  unknown: "; whether all rows do so now was not seen in time",
} as const;

function joined({ key, referencing, referenced }: LooseKeyInput): string {
  const pairs = key.columns.map(
    (column, index) =>
      `c.${quoteIdentifier(column)} = p.${quoteIdentifier(key.referencedColumns[index] ?? "")}`,
  );
  return `${quoteQualified(key.schema, key.table)} c JOIN ${quoteQualified(key.referencedSchema, key.referencedTable)} p ON ${pairs.join(" AND ")} WHERE c.${quoteIdentifier(referencing.column)} <> p.${quoteIdentifier(referenced.column)}`;
}

/** Pairs of sharding keys, which are looked at here: other keys may be of the same shard. */
const MANY_PAIRS = 1_000;

async function findApart(world: World, input: LooseKeyInput): Promise<keyof typeof SEEN> {
  const { referencing, referenced } = input;
  const query = `SELECT DISTINCT c.${quoteIdentifier(referencing.column)}::text AS one, p.${quoteIdentifier(referenced.column)}::text AS other FROM ${joined(input)} LIMIT ${MANY_PAIRS}`;
  const count = world.destination.shards.length;
  for (const { client } of shardsOf(world, "source")) {
    const pairs = await askWithin(client, query, input.deadlineAtMs - performance.now());
    if (pairs === null) return "unknown";
    const isApart = pairs.some(({ one, other }) => {
      const shard = shardOfText(one, referencing.type, count);
      return shard === NOT_A_KEY || shard !== shardOfText(other, referenced.type, count);
    });
    if (isApart) return "yes";
  }
  return "no";
}

/** @returns null when the time was over */
async function askWithin(
  client: SqlClient,
  query: string,
  ms: number,
): Promise<readonly { readonly one: string; readonly other: string }[] | null> {
  if (ms < 1) return null;
  await client.query("BEGIN READ ONLY");
  try {
    await client.query(`SET LOCAL statement_timeout = ${Math.ceil(ms)}`);
    return (await client.query<{ one: string; other: string }>(query)).rows;
  } catch (error) {
    if (sqlStateOf(error) === SQLSTATE.queryCanceled) return null;
    throw error;
  } finally {
    await client.query("ROLLBACK");
  }
}

/** A foreign key names the root of a partitioned table; its leaves share its class. */
function findClass(
  world: World,
  name: { readonly schema: string; readonly name: string },
): TableClass | undefined {
  return world.tables.find(
    ({ facts }) =>
      sameTable(facts, name) || (facts.rootSchema === name.schema && facts.rootName === name.name),
  )?.tableClass;
}
