import { configHash } from "../../config/config-hash.js";
import type { ConfigPaths } from "../../config/read-config.js";
import { saveConfig } from "../../config/save.js";
import type { Log } from "../../observe/log.js";
import type { KnownMigration } from "./effective-config.js";
import type { Publisher } from "./publisher.js";

/** Which epoch of each migration this node's files on disk express, and the writing of them. */
export class SavedFiles {
  readonly #publisher: Publisher;
  /** null: never saved. */
  readonly #paths: ConfigPaths | null;
  readonly #log: Log;
  readonly #epochs = new Map<string, number>();

  constructor(publisher: Publisher, paths: ConfigPaths | null, log: Log) {
    this.#publisher = publisher;
    this.#paths = paths;
    this.#log = log;
  }

  /** The files were read: where they need no exchange of names they express every epoch in force. */
  noteRead(): void {
    const { files, effective } = this.#publisher;
    this.#epochs.clear();
    if (configHash(files) !== configHash(effective.config)) return;
    for (const [migration, epoch] of Object.entries(effective.adopted))
      this.#epochs.set(migration, epoch);
  }

  /** Where saving is off there is nothing that could be late. */
  epochOf(migration: Pick<KnownMigration, "id">): number {
    const { files, effective } = this.#publisher;
    if (!files.general.cutoverSaveConfig) return effective.adopted[migration.id] ?? 0;
    return this.#epochs.get(migration.id) ?? 0;
  }

  /** Writes the files as the names mean now, if the configuration wants it. */
  save(migration: Pick<KnownMigration, "id" | "source" | "destination">): void {
    const { files, effective } = this.#publisher;
    if (!this.#paths || !files.general.cutoverSaveConfig) return;
    try {
      saveConfig({
        ...this.#paths,
        config: effective.config,
        databases: [migration.source, migration.destination],
      });
      this.#epochs.set(migration.id, effective.adopted[migration.id] ?? 0);
    } catch (error) {
      // The decision stands whatever the disk says; finalize names this node until it has saved.
      this.#log.error("cannot save the configuration files", { error: String(error) });
    }
  }
}
