import { assert } from "../core/assert.js";
import type { Brand } from "../core/brand.js";

/** Number of a shard within its database, from 0. */
export type ShardId = Brand<number, "ShardId">;

/** @throws InvariantBroken when it is no whole number from 0 */
export function shardId(shard: number): ShardId {
  assert(Number.isInteger(shard) && shard >= 0, "a shard is a whole number from 0");
  return shard as ShardId;
}

export const FIRST_SHARD = shardId(0);

/** One server that holds a shard. */
export interface ShardServer {
  readonly shard: ShardId;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly role: "primary" | "replica";
}

export interface ShardedTable {
  readonly schema: string | null;
  /** null: any table that has the column. */
  readonly name: string | null;
  readonly column: string;
  readonly dataType: "bigint" | "uuid" | "varchar";
}

/** Secret: never logged or shown. */
export interface ServerLogin {
  readonly user: string;
  /** null: none is proved. */
  readonly password: string | null;
}

/** How a client's user reaches this database and its servers. Holds secrets: never logged or shown. */
export interface DatabaseUser {
  readonly name: string;
  /** What clients prove; belongs to the database *name* and stays with it through a cutover. */
  readonly password: string | null;
  /** What we prove to the primary of each shard; belongs to the *cluster* and moves with it. */
  readonly logins: ReadonlyMap<ShardId, ServerLogin>;
  readonly poolSize: number;
  readonly poolerMode: "transaction" | "session" | "statement";
  readonly schemaAdmin: boolean;
}

/** A database by the name that clients use, and where it lives at this epoch. Immutable. */
export interface Database {
  readonly name: string;
  /** Raised by every committed switch; 0 where there was none. */
  readonly epoch: number;
  readonly shardCount: number;
  readonly servers: readonly ShardServer[];
  readonly shardedTables: readonly ShardedTable[];
  readonly omnishardedTables: readonly string[];
  readonly users: ReadonlyMap<string, DatabaseUser>;
  readonly shardKeyUpdates: "error" | "rewrite" | "ignore";
  readonly splitInserts: "error" | "rewrite";
  /** Sharded tables that are made get a CHECK that their rows belong to their shard. Absent: no. */
  readonly placementGuard?: boolean;
  /** "auto": where the servers allow it. */
  readonly twoPhaseCommit: boolean | "auto";
}

/** Replaced as a whole, never changed. */
export interface Topology {
  readonly generation: number;
  readonly databases: ReadonlyMap<string, Database>;
}
