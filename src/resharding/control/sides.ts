import type { ServerAddress } from "../../backend/address.js";
import { connectSql, type SqlClient, type SqlClientOptions } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster, EngineContext } from "../context.js";
import type { MigrationRef, MigrationSpec, Side } from "../model/migration.js";
import { isMissingControlSchema } from "./control-schema.js";

/** What a session of a shard is for, and how it is set up. One purpose has one setup. */
export interface SessionUse {
  /**
   * Shown in pg_stat_activity. Who asks for the same shard and purpose gets the same session, so one flow at a
   * time uses it: a transaction of its own belongs to a purpose of its own.
   */
  readonly purpose: string;
  readonly lockTimeoutMs?: number;
  readonly statementTimeoutMs?: number;
  readonly settings?: Readonly<Record<string, string>>;
  /** Ends the session instead of the attempt's signal: for what must be said when the attempt is told to stop. */
  readonly signal?: AbortSignal;
}

/** Questions of one statement each, that may wait for nothing: board, lanes, nodes, readiness. */
export const LOOK: SessionUse = { purpose: "look" };

/**
 * Both clusters by side, and this activity's sessions to their shards: opened when first asked for, kept, and
 * closed with the scope, on every path; also one that is being opened then.
 */
export interface SideSessions extends AsyncDisposable {
  readonly source: Cluster;
  readonly destination: Cluster;
  /**
   * The session of a shard for this purpose. One that has died is replaced, so a second look does not fail for
   * what the first one met. Never to be closed by who asks for it.
   * @throws ServerUnreachable; InvariantBroken when the scope is over: then nothing is opened any more
   */
  session(side: Side, shard: number, use: SessionUse): Promise<SqlClient>;
  /** One per shard, in their order. @throws ServerUnreachable when one cannot be reached */
  sessions(side: Side, use: SessionUse): Promise<readonly SqlClient[]>;
}

/** The sides of a migration that has begun, whatever names the configuration gives them now. */
export interface Sides extends SideSessions {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly state: "active" | "aborted" | "finalized";
}

/** No shard that answers knows the migration. */
export class MigrationUnknown extends SluiceError {
  readonly code = "SLUICE_MIGRATION_UNKNOWN";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "operator";
  constructor(ref: MigrationRef, options: ErrorFields = {}) {
    super(`migration ${ref.id} (${ref.source} -> ${ref.destination}) is on no shard of either`, {
      hint: "Was it aborted, or do the names in pgdog.toml lead to other servers now?",
      ...options,
    });
  }
}

/**
 * The one way to the servers of a migration: `await using sides = await openSides(context, ref)`.
 *
 * Finds the sides by what the servers say of themselves (`sluice.migration.side`): a cutover exchanges the
 * configured names, at a time that differs from process to process, so a name never tells the side.
 * @throws MigrationUnknown, ServerUnreachable (when neither cluster's shard 0 answers), DatabaseUnknown
 */
export async function openSides(context: EngineContext, ref: MigrationRef): Promise<Sides> {
  const clusters = [context.cluster(ref.source), context.cluster(ref.destination)] as const;
  const answers = await Promise.allSettled(
    clusters.map((cluster) => askSide(context, cluster, ref)),
  );
  for (const [index, answer] of answers.entries()) {
    if (answer.status !== "fulfilled" || answer.value === null) continue;
    const here = index === 0 ? clusters[0] : clusters[1];
    const there = index === 0 ? clusters[1] : clusters[0];
    const { spec, state, side } = answer.value;
    const clusterOf =
      side === "source"
        ? { source: here, destination: there }
        : { source: there, destination: here };
    return Object.assign(new KeptSessions(context, clusterOf), { ref, spec, state });
  }
  const failed = answers.find((answer) => answer.status === "rejected");
  if (failed) throw failed.reason;
  throw new MigrationUnknown(ref);
}

/** Before the migration is on the servers (or when it never was), the configured names say the sides. */
export function configuredSides(
  context: EngineContext,
  ref: Pick<MigrationRef, "source" | "destination">,
): SideSessions {
  return new KeptSessions(context, {
    source: context.cluster(ref.source),
    destination: context.cluster(ref.destination),
  });
}

interface Kept {
  readonly use: SessionUse;
  readonly opening: Promise<SqlClient>;
  /** It could not be opened, or has ended since. */
  isOver: boolean;
}

class KeptSessions implements SideSessions {
  readonly source: Cluster;
  readonly destination: Cluster;
  readonly #signal: AbortSignal;
  readonly #kept = new Map<string, Kept>();
  readonly #open = new Set<Promise<SqlClient>>();
  #isClosed = false;

  constructor(context: Pick<EngineContext, "signal">, clusters: Readonly<Record<Side, Cluster>>) {
    this.source = clusters.source;
    this.destination = clusters.destination;
    this.#signal = context.signal;
  }

  async session(side: Side, shard: number, use: SessionUse): Promise<SqlClient> {
    // A branch that failed beside another one may come here late; it must not open what nobody closes.
    assert(!this.#isClosed, `the activity is over: no session to ${side} ${shard} any more`);
    const key = `${side} ${shard} ${use.purpose}`;
    const known = this.#kept.get(key);
    if (known && !known.isOver) {
      const isAlike = setupOf(known.use) === setupOf(use);
      assert(isAlike, `"${use.purpose}" is two purposes: its sessions are set up differently`);
      return await known.opening;
    }
    const kept: Kept = { use, isOver: false, opening: this.#connect(side, shard, use) };
    this.#kept.set(key, kept);
    this.#open.add(kept.opening);
    try {
      const client = await kept.opening;
      const end = () => {
        kept.isOver = true;
        this.#open.delete(kept.opening);
      };
      client.once("end", end);
      client.once("error", () => {
        kept.isOver = true;
      });
      return client;
    } catch (error) {
      kept.isOver = true;
      this.#open.delete(kept.opening);
      throw error;
    }
  }

  async sessions(side: Side, use: SessionUse): Promise<readonly SqlClient[]> {
    const opened = await Promise.allSettled(
      this[side].shards.map((_, shard) => this.session(side, shard, use)),
    );
    return opened.map((one) => {
      if (one.status === "rejected") throw one.reason;
      return one.value;
    });
  }

  async #connect(side: Side, shard: number, use: SessionUse): Promise<SqlClient> {
    const { purpose, ...setup } = use;
    return await connectEngine(
      { signal: this.#signal },
      shardAddress(this[side], shard),
      purpose,
      setup,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await Promise.all(
      [...this.#open].map(async (opening) => {
        const client = await opening.catch(() => null);
        await client?.[Symbol.asyncDispose]();
      }),
    );
  }
}

function setupOf({ lockTimeoutMs, statementTimeoutMs, settings }: SessionUse): string {
  return JSON.stringify([lockTimeoutMs ?? 0, statementTimeoutMs ?? 0, settings ?? {}]);
}

interface SideAnswer {
  readonly spec: MigrationSpec;
  readonly state: Sides["state"];
  readonly side: Side;
}

async function askSide(
  context: EngineContext,
  cluster: Cluster,
  ref: MigrationRef,
): Promise<SideAnswer | null> {
  const shard0 = shardAddress(cluster, 0);
  // Closed at once: most activities have nothing else to ask on a shard 0, and a stream lives for weeks.
  await using client = await connectEngine(context, shard0, "sides");
  try {
    const result = await client.query<SideAnswer>(
      "SELECT side, spec, state FROM sluice.migration WHERE id = $1",
      [ref.id],
    );
    return result.rows[0] ?? null;
  } catch (error) {
    if (isMissingControlSchema(error)) return null;
    throw error;
  }
}

/** @throws RangeError when the cluster has no such shard */
export function shardAddress(cluster: Cluster, shard: number): ServerAddress {
  const address = cluster.shards[shard];
  if (!address) throw new RangeError(`database "${cluster.name}" has no shard ${shard}`);
  return address;
}

/**
 * Sessions of the engine are told from applications' by this prefix: the end of a switch ends every other
 * session on the old side.
 */
export const ENGINE_APPLICATION_PREFIX = "sluice ";

/**
 * A session of the engine that no migration owns; `what` appears in pg_stat_activity. Where there is a
 * migration, `Sides.session` owns it (held by `test/unit/resharding/sessions.test.ts`).
 * @throws ServerUnreachable
 */
export async function connectEngine(
  context: Pick<EngineContext, "signal">,
  address: ServerAddress,
  what: string,
  options: Omit<SqlClientOptions, "applicationName"> = {},
): Promise<SqlClient> {
  return await connectSql(address, {
    applicationName: `${ENGINE_APPLICATION_PREFIX}${what}`,
    signal: context.signal,
    ...options,
  });
}
