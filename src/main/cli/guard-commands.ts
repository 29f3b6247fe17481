import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import type { ConfigPaths } from "../../config/read-config.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster } from "../../resharding/context.js";
import {
  addPlacement,
  dropPlacement,
  listPlacement,
  type TableGuard,
} from "../../resharding/switch/live-placement.js";
import { dropRowGuards, guardRows, listRowGuards } from "../../resharding/switch/row-guards.js";
import { listOmnisharded } from "../../resharding/verify/omnisharded-shards.js";
import { withShards } from "./shards.js";

export type GuardAction = "add" | "list" | "drop";

/**
 * `sluice guard add|list|drop`: the guards of a database, on every shard: placement guards of sharded tables, row
 * guards of omnisharded tables with triggers. A second `add` finds what is missing, a second `drop` nothing.
 * @returns the exit code: 1 where, after `add` or by `list`, a sharded table is not guarded wholly
 */
export async function guardDatabase(
  paths: ConfigPaths,
  database: string,
  action: GuardAction,
): Promise<number> {
  const shards = { paths, database, lockTimeoutMs: LOCK_TIMEOUT_MS };
  return await withShards(shards, async (cluster, clients) => {
    let isWhole = true;
    for (const [shard, client] of clients.entries()) {
      const lines = await ACTIONS[action](client, cluster, shard);
      for (const { text } of lines) print(`shard ${shard}: ${text}`);
      if (lines.length === 0) print(`shard ${shard}: nothing to guard`);
      isWhole &&= lines.every((line) => line.isWhole);
    }
    return isWhole ? 0 : 1;
  });
}

interface Line {
  readonly text: string;
  readonly isWhole: boolean;
}

type Act = (client: SqlClient, cluster: Cluster, shard: number) => Promise<readonly Line[]>;

const ACTIONS: Readonly<Record<GuardAction, Act>> = { add, list, drop };

async function add(client: SqlClient, cluster: Cluster, shard: number): Promise<readonly Line[]> {
  const lines: Line[] = [];
  for (const guard of await listPlacement(client, cluster, shard)) {
    if (guard.state === "valid") continue;
    const isValid = guard.condition !== null && (await addPlacement(client, guard, untilLocked));
    lines.push(lineOf({ ...guard, state: settled(guard, isValid) }));
  }
  const tables = await listOmnisharded(client, cluster);
  const guarded = await guardRows(client, tables, untilLocked);
  return [...lines, ...guarded.map(rowLine)];
}

function settled(guard: TableGuard, isValid: boolean): TableGuard["state"] {
  if (guard.condition === null) return "stray";
  return isValid ? "valid" : "unvalidated";
}

async function list(client: SqlClient, cluster: Cluster, shard: number): Promise<readonly Line[]> {
  const placement = await listPlacement(client, cluster, shard);
  return [...placement.map(lineOf), ...(await listRowGuards(client)).map(rowLine)];
}

async function drop(client: SqlClient, cluster: Cluster, shard: number): Promise<readonly Line[]> {
  const guards = await listPlacement(client, cluster, shard);
  const there = guards.filter(({ state }) => state !== "missing");
  for (const guard of there) await dropPlacement(client, guard, untilLocked);
  const rows = await dropRowGuards(client, untilLocked);
  return [...there, ...rows].map(({ schema, name }) => ({
    text: `${schema}.${name}: dropped`,
    isWhole: true,
  }));
}

const SAYS: Readonly<Record<TableGuard["state"], string>> = {
  valid: "placement guard",
  unvalidated:
    "placement guard, NOT VALID: rows are there that belong to other shards or have no key, or nobody has looked; move them, then add again",
  other: "placement guard of another number of shards or another key: add replaces it",
  missing: "no placement guard",
  stray: "placement guard, and no rule shards the table: drop takes it away",
};

function lineOf({ schema, name, state }: TableGuard): Line {
  return { text: `${schema}.${name}: ${SAYS[state]}`, isWhole: state === "valid" };
}

function rowLine({ schema, name }: { readonly schema: string; readonly name: string }): Line {
  return { text: `${schema}.${name}: row guards`, isWhole: true };
}

const LOCK_TIMEOUT_MS = 500;
const LOCK_ATTEMPTS = 20;

/** Short and often, as everybody who comes after us in the lock queue waits with us. */
async function untilLocked(_table: string, act: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      const isLocked = sqlStateOf(error) === SQLSTATE.lockNotAvailable;
      if (!isLocked || attempt === LOCK_ATTEMPTS) throw error;
    }
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
