import { configHash } from "../../config/config-hash.js";
import { tell } from "../../core/tell.js";
import type { Log } from "../../observe/log.js";
import { reportNode } from "../../resharding/switch/nodes.js";
import type { KnownMigration } from "./effective-config.js";
import type { Publisher } from "./publisher.js";
import type { SavedFiles } from "./saved-files.js";
import type { ServerWatch } from "./server-watch.js";

/** Who this node is, to the others. */
export interface NodeSelf {
  readonly nodeId: string;
  readonly incarnation: string;
  /** host:port that clients use. */
  readonly address: string;
}

/** `listNodes` takes a node for silent after five of these. */
const REPORT_MS = 1_000;

/** "I live, at this epoch", on shard 0 of both sides of every live migration. */
export class NodeReporter {
  readonly #options: {
    readonly self: NodeSelf;
    readonly publisher: Publisher;
    readonly saved: SavedFiles;
    readonly watch: ServerWatch;
    readonly log: Log;
  };
  #nextAtMs = 0;

  constructor(options: {
    readonly self: NodeSelf;
    readonly publisher: Publisher;
    readonly saved: SavedFiles;
    readonly watch: ServerWatch;
    readonly log: Log;
  }) {
    this.#options = options;
  }

  async reportWhenDue(migrations: readonly KnownMigration[]): Promise<void> {
    if (performance.now() >= this.#nextAtMs) await this.report(migrations);
  }

  async report(migrations: readonly KnownMigration[]): Promise<void> {
    this.#nextAtMs = performance.now() + REPORT_MS;
    const { self, publisher, saved } = this.#options;
    const hash = configHash(publisher.effective.config);
    for (const migration of migrations) {
      if (migration.state !== "active") continue;
      const { nodeId, incarnation, address } = self;
      const epoch = publisher.effective.adopted[migration.id] ?? 0;
      const savedEpoch = saved.epochOf(migration);
      await this.#send(migration, {
        ...{ nodeId, incarnation, address, epoch, configHash: hash, savedEpoch },
      });
    }
  }

  /** To whoever answers: a switch asks the side that serves, whichever that is. */
  async #send(migration: KnownMigration, report: Parameters<typeof reportNode>[2]): Promise<void> {
    const { watch, log } = this.#options;
    for (const side of ["source", "destination"] as const) {
      try {
        await reportNode(await watch.clientOf(migration, side), migration.id, report);
      } catch (error) {
        log.debug("cannot report to a server", { side, error: tell(error) });
      }
    }
  }
}
