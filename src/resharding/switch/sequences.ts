import type { SqlClient } from "../../backend/sql-client.js";
import { quoteLiteral, quoteQualified } from "../../core/identifier.js";
import type { EngineContext } from "../context.js";
import { openSides, type SessionUse } from "../control/sides.js";
import {
  type MigrationRef,
  type MigrationSpec,
  otherSide,
  type SequencePlan,
  type Side,
} from "../model/migration.js";

/**
 * Ids (R35): a sequence of the side that will serve is ahead of every id that the serving side has given out,
 * and no two shards give out the same one: shard k of n counts in steps of n from its own remainder.
 *
 *     serving side, one shard   ... 997 998 999 | margin |
 *     destination, shard 0 of 2                          1100 1102 1104 ...
 *     destination, shard 1 of 2                          1101 1103 1105 ...
 */

/**
 * Ids left free between what was seen at arm and the first of the other side. What is given out between arm
 * and the closed gate stays below it, or the check in the pause moves the start once more.
 */
const MARGIN = 10_000n;

const SEQUENCES: SessionUse = { purpose: "sequences" };

/**
 * Sets the sequences of the side that will serve, at arm. Nobody uses them: that side's gate is closed.
 * Second run: moves them ahead again, never back.
 */
export async function advanceSequences(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly serving: Side },
): Promise<void> {
  await using sides = await openSides(context, input.ref);
  const from = await sides.sessions(otherSide(input.serving), SEQUENCES);
  const to = await sides.sessions(input.serving, SEQUENCES);
  await moveAhead({ from, to, spec: sides.spec, margin: MARGIN });
}

/**
 * In the pause, under the closed gate: whatever the margin did not cover is moved ahead now. Usually one
 * read per shard and nothing to do.
 */
export async function checkSequences(
  sessions: { readonly from: readonly SqlClient[]; readonly to: readonly SqlClient[] },
  input: { readonly ref: MigrationRef; readonly spec: MigrationSpec; readonly serving: Side },
): Promise<void> {
  await moveAhead({ ...sessions, spec: input.spec, margin: 0n });
}

interface Move {
  readonly from: readonly SqlClient[];
  readonly to: readonly SqlClient[];
  readonly spec: MigrationSpec;
  readonly margin: bigint;
}

async function moveAhead(move: Move): Promise<void> {
  const sequences = move.spec.sequences;
  if (sequences.length === 0) return;
  const given = await Promise.all(move.from.map((client) => readLastValues(client, sequences)));
  const highest = sequences.map((_, index) =>
    given.map((values) => values[index] ?? 0n).reduce(max),
  );
  await Promise.all(
    move.to.map(async (client, shard) => {
      await setAhead(client, {
        sequences,
        highest,
        margin: move.margin,
        shard,
        // An omnisharded table has the same rows on every shard; its ids are not per shard.
        step: (sequence) => (isSharded(move.spec, sequence) ? BigInt(move.to.length) : 1n),
      });
    }),
  );
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function isSharded(spec: MigrationSpec, sequence: SequencePlan): boolean {
  return spec.tables.some(
    (table) =>
      table.kind === "sharded" &&
      ((table.schema === sequence.tableSchema && table.name === sequence.tableName) ||
        table.partitionRoot === sequence.tableName),
  );
}

/** Highest value that can have been given out; 0 for a sequence that was never used or is not there. */
async function readLastValues(
  client: SqlClient,
  sequences: readonly SequencePlan[],
): Promise<bigint[]> {
  const result = await client.query<{ last: string | null }>(
    `SELECT pg_sequence_last_value(c.oid)::text AS last
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS s(schema_name, name, position)
       LEFT JOIN pg_namespace n ON n.nspname = s.schema_name
       LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.name AND c.relkind = 'S'
      ORDER BY s.position`,
    [sequences.map((sequence) => sequence.schema), sequences.map((sequence) => sequence.name)],
  );
  return result.rows.map((row) => BigInt(row.last ?? 0));
}

interface Target {
  readonly sequences: readonly SequencePlan[];
  readonly highest: readonly bigint[];
  readonly margin: bigint;
  readonly shard: number;
  readonly step: (sequence: SequencePlan) => bigint;
}

async function setAhead(client: SqlClient, target: Target): Promise<void> {
  const current = await readLastValues(client, target.sequences);
  const statements: string[] = [];
  for (const [index, sequence] of target.sequences.entries()) {
    const step = target.step(sequence);
    const floor = max(target.highest[index] ?? 0n, current[index] ?? 0n);
    const last = current[index] ?? 0n;
    const isAhead =
      last >= (target.highest[index] ?? 0n) && last % step === BigInt(target.shard) % step;
    if (isAhead && last > 0n && target.margin === 0n) continue;
    const name = quoteQualified(sequence.schema, sequence.name);
    const value = alignUp(floor + target.margin, { step, shard: BigInt(target.shard) });
    // A single shard keeps the increment that its owner gave it.
    if (step > 1n) statements.push(`ALTER SEQUENCE ${name} INCREMENT BY ${step}`);
    statements.push(`SELECT setval(${quoteLiteral(name)}::regclass, ${value})`);
  }
  if (statements.length > 0) await client.query(statements.join(";\n"));
}

/** The smallest value of at least `value` and 1 that shard `shard` of `step` may give out. */
function alignUp(value: bigint, of: { readonly step: bigint; readonly shard: bigint }): bigint {
  const base = max(value, 1n);
  const behind = (of.shard - (base % of.step) + of.step) % of.step;
  return base + (behind % of.step);
}
