import type { ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import type { Config } from "../../config/model.js";
import { ServerUnreachable, SluiceError } from "../../core/errors.js";
import type { MigrationRef, Side } from "../../resharding/model/migration.js";
import { furthestDecisions } from "../../resharding/model/protocol.js";
import type { Decision } from "../../resharding/switch/decision.js";
import { clusterOf } from "../cluster-directory.js";
import type { KnownMigration } from "./effective-config.js";
import { type ShardView, ShardWatcher } from "./shard-watcher.js";

/** The servers that a node looks at: all at boot and reload, then shard 0 of each database. */
export class ServerWatch {
  readonly #onHint: () => void;
  #watchers = new Map<string, ShardWatcher>();
  /** What servers said that are not looked at any more: their places still tell the sides. */
  readonly #remembered = new Map<string, ShardView>();

  constructor(onHint: () => void) {
    this.#onHint = onHint;
  }

  follow(config: Config, extent: "everything" | "first shards"): void {
    const wanted = new Map<string, ShardWatcher>();
    for (const name of new Set(config.databases.map((one) => one.name))) {
      const shards = shardsOf(config, name);
      for (const address of extent === "everything" ? shards : shards.slice(0, 1)) {
        const fresh = new ShardWatcher(address, this.#onHint);
        const known = this.#watchers.get(fresh.place);
        const isSame =
          known?.address.user === address.user && known.address.password === address.password;
        wanted.set(fresh.place, known && isSame ? known : fresh);
      }
    }
    for (const [place, watcher] of this.#watchers) {
      if (watcher.lastView) this.#remembered.set(place, watcher.lastView);
      if (wanted.get(place) !== watcher) void watcher.close();
    }
    this.#watchers = wanted;
  }

  /** One look at each; silent ones count with what they said last. */
  async look(): Promise<void> {
    await Promise.all([...this.#watchers.values()].map((watcher) => watcher.look()));
  }

  views(): ReadonlyMap<string, ShardView> {
    const views = new Map(this.#remembered);
    for (const [place, watcher] of this.#watchers) {
      if (watcher.lastView) views.set(place, watcher.lastView);
    }
    return views;
  }

  /** Servers that have never answered. */
  silent(): ReadonlySet<string> {
    const views = this.views();
    return new Set([...this.#watchers.keys()].filter((place) => !views.has(place)));
  }

  /** A session to shard 0 of a side. @throws ServerUnreachable */
  async clientOf(migration: Pick<MigrationRef, "id">, side: Side): Promise<SqlClient> {
    for (const watcher of this.#watchers.values()) {
      const isThere = watcher.lastView?.migrations.some(
        (one) => one.id === migration.id && one.side === side && one.shard === 0,
      );
      if (isThere) return await watcher.client();
    }
    throw new ServerUnreachable(`shard 0 of the ${side} side of migration ${migration.id}`);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#watchers.values()].map((watcher) => watcher.close()));
  }
}

/** Nobody can log in to a database without users, and one without a primary cannot be moved: none to look at. */
function shardsOf(config: Config, name: string): readonly ServerAddress[] {
  try {
    return clusterOf(config, name).shards;
  } catch (error) {
    if (error instanceof SluiceError) return [];
    throw error;
  }
}

/** Puts the servers' views together: of each decision the furthest state that any of them knows. */
export function knownMigrations(views: ReadonlyMap<string, ShardView>): readonly KnownMigration[] {
  const found = new Map<
    string,
    { first: ShardView["migrations"][number]; places: Record<Side, string[]> }
  >();
  const copies = new Map<string, Decision[]>();
  for (const [place, view] of views) {
    for (const migration of view.migrations) {
      const entry = found.get(migration.id) ?? {
        first: migration,
        places: { source: [], destination: [] },
      };
      entry.places[migration.side].push(place);
      found.set(migration.id, entry);
      copies.set(migration.id, [...(copies.get(migration.id) ?? []), ...migration.decisions]);
    }
  }
  return [...found.values()].map(({ first, places }) => ({
    id: first.id,
    source: first.source,
    destination: first.destination,
    publication: first.publication,
    state: first.state,
    createdAtMs: first.createdAtMs,
    places,
    decisions: furthestDecisions(copies.get(first.id) ?? []),
  }));
}
