import { configHash } from "../../config/hash.js";
import type { Config } from "../../config/model.js";
import type { ConfigPaths } from "../../config/read-config.js";
import { saveConfig } from "../../config/save.js";
import type { Log } from "../../observe/log.js";
import type { EngineContext } from "../../resharding/context.js";
import { unfence } from "../../resharding/ends/migration-ends.js";
import { type MigrationRef, otherSide } from "../../resharding/model/migration.js";
import { type Decision, markAborted } from "../../resharding/switch/decision.js";
import { reportHeld, reportNode } from "../../resharding/switch/nodes.js";
import { resolve } from "../../resharding/switch/resolve-step.js";
import { clusterOf, enginePolicyOf } from "../cluster-directory.js";
import { type CutoverRow, cutoverRow } from "./cutover-row.js";
import type { DataPlaneGroup } from "./data-plane-group.js";
import {
  type EffectiveConfig,
  effectiveConfig,
  type KnownMigration,
  namesOf,
} from "./effective-config.js";
import { HoldTracker } from "./hold-tracker.js";
import { knownMigrations, ServerWatch } from "./server-watch.js";

export interface NodeAgentOptions {
  /** As the files say. */
  readonly files: Config;
  readonly planes: DataPlaneGroup;
  readonly log: Log;
  readonly nodeId: string;
  readonly incarnation: string;
  /** host:port that clients use. */
  readonly address: string;
  /** For `cutover_save_config`; null: never saved. */
  readonly paths: ConfigPaths | null;
}

export interface ArmOrder {
  readonly ref: MigrationRef;
  readonly epoch: number;
  readonly token: string;
  readonly forMs: number;
}

/** Between two looks without a switch in sight: how late a node can learn of a migration. */
const IDLE_LOOK_MS = 1_000;
/** While armed or holding. A hint (NOTIFY) is only a reason to look sooner (design, section 7). */
const ARMED_LOOK_MS = 50;
/** A hold outlives the decision's cap by this before a waiting client gets an error. */
const CLIENT_TIMEOUT_EXTRA_MS = 5_000;
/** A committed decision whose gates do not open for this long has lost its coordinator. */
const OPENING_MS = 500;
/** How long a statement that a gate refused may wait for a reason to go on. */
const STALE_WAIT_MS = 30_000;

/**
 * The node's own reader of decisions, in the main process, without Temporal. It tells the data planes what the
 * names mean, when to hold and when to go on; it never decides alone: what it does to a decision are the
 * same compare-and-sets that anybody may do (`resolve`).
 */
export class NodeAgent {
  readonly #options: NodeAgentOptions;
  readonly #log: Log;
  readonly #watch: ServerWatch;
  readonly #listeners = new Set<(effective: EffectiveConfig) => void>();
  readonly #holds = new Map<string, HoldTracker>();
  readonly #resolving = new Map<string, Promise<void>>();
  readonly #committedSeenAtMs = new Map<string, number>();
  #files: Config;
  #effective: EffectiveConfig;
  #migrations: readonly KnownMigration[] = [];
  #generation = 0;
  /** By migration: the epoch that the files on disk express. */
  readonly #saved = new Map<string, number>();
  #armedUntilMs = 0;
  #nextReportAtMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #isClosed = false;
  readonly #unsubscribe: () => void;

  constructor(options: NodeAgentOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#files = options.files;
    this.#effective = { config: options.files, epochs: {}, adopted: {} };
    this.#watch = new ServerWatch(() => this.#wake());
    this.#unsubscribe = options.planes.subscribe({
      message: (plane, message) => {
        if (message.kind === "stale") void this.#refresh(plane, message);
      },
      left: () => {},
    });
  }

  get effectiveConfig(): EffectiveConfig {
    return this.#effective;
  }

  /** Called after each change of what the names mean. */
  onEffectiveConfig(listener: (effective: EffectiveConfig) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * Asks every shard of every database that can be reached, and exchanges names in memory before the first
   * client (R32). A decision that is `prepared` starts the node in the hold (R29). Servers that are silent
   * are asked again later; their gates refuse what an old epoch would send them.
   * @throws ConfigContradictsDecision
   */
  async boot(): Promise<EffectiveConfig> {
    this.#watch.follow(this.#files, "everything");
    await this.#watch.look();
    this.#migrations = knownMigrations(this.#watch.views());
    this.#publish(effectiveConfig(this.#files, this.#migrations, this.#watch.silent()));
    this.#noteSavedFiles();
    this.#watch.follow(this.#files, "first shards");
    await this.#act();
    this.#schedule();
    return this.#effective;
  }

  /**
   * New files; the epoch stays (W-01 of the reference: a reload must not undo a cutover).
   * @throws ConfigContradictsDecision: the running configuration stays in place
   */
  async reload(files: Config): Promise<void> {
    this.#watch.follow(files, "everything");
    await this.#watch.look();
    const migrations = knownMigrations(this.#watch.views());
    const next = effectiveConfig(files, migrations, this.#watch.silent());
    this.#migrations = migrations;
    this.#files = files;
    this.#noteSavedFiles();
    this.#watch.follow(files, "first shards");
    this.#publish(next);
  }

  /** A switch is near: look every 50 ms, and open server connections on the other side now. */
  async arm(order: ArmOrder): Promise<void> {
    this.#armedUntilMs = Math.max(this.#armedUntilMs, performance.now() + order.forMs);
    await this.#lookNow();
    const known = this.#migrations.find((migration) => migration.id === order.ref.id);
    if (!known) throw new Error(`node ${this.#options.nodeId} sees no migration ${order.ref.id}`);
    this.#options.planes.broadcast({
      kind: "warm",
      databases: namesOf(this.#effective.config, known),
    });
  }

  /** One row per decision, newest first, for SHOW CUTOVER. */
  async showCutover(): Promise<readonly CutoverRow[]> {
    await this.#lookNow();
    return this.#migrations.flatMap((migration) =>
      [...migration.decisions].reverse().map((decision) => cutoverRow(migration, decision)),
    );
  }

  /** Makes the open decisions of a database final, without Temporal. @returns a sentence for each */
  async resolveCutover(database: string): Promise<readonly string[]> {
    await this.#lookNow();
    const said: string[] = [];
    for (const migration of this.#migrations) {
      if (migration.state !== "active") continue;
      if (!namesOf(this.#effective.config, migration).includes(database)) continue;
      const decision = migration.decisions.at(-1);
      if (!decision) continue;
      const result = await resolve(this.#context(), { ref: migration, decision, as: "bystander" });
      said.push(`epoch ${decision.epoch}: ${result.outcome}, the ${result.serving} side serves`);
    }
    await this.#lookNow();
    return said;
  }

  async unfence(database: string): Promise<readonly string[]> {
    const count = await unfence(this.#context(), database);
    return [`${count} gates removed from "${database}"`];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unsubscribe();
    if (this.#timer) clearTimeout(this.#timer);
    await this.#looking;
    await this.#watch.close();
  }

  #context(): EngineContext {
    return {
      cluster: (name) => clusterOf(this.#effective.config, name),
      policy: enginePolicyOf(this.#effective.config),
      log: this.#log,
      signal: AbortSignal.timeout(30_000),
      heartbeat: () => {},
      announce: async () => {},
      incarnation: this.#options.incarnation,
    };
  }

  #schedule(): void {
    if (this.#isClosed) return;
    const isArmed = performance.now() < this.#armedUntilMs || this.#holds.size > 0;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#lookNow(), isArmed ? ARMED_LOOK_MS : IDLE_LOOK_MS);
  }

  /** A hint came: look now, or once more when a look is under way (it may have read too early). */
  #wake(): void {
    if (this.#looking) this.#lookAgain = true;
    else void this.#lookNow();
  }

  async #lookNow(): Promise<void> {
    if (this.#isClosed) return;
    this.#looking ??= this.#lookUntilQuiet().finally(() => {
      this.#looking = null;
      this.#schedule();
    });
    await this.#looking;
  }

  async #lookUntilQuiet(): Promise<void> {
    do {
      this.#lookAgain = false;
      await this.#watch.look();
      this.#migrations = knownMigrations(this.#watch.views());
      try {
        await this.#act();
      } catch (error) {
        this.#log.warn("acting on decisions failed; trying again", { error: String(error) });
      }
    } while (this.#mustLookAgain());
  }

  /** Hints set it while a look is under way. */
  #mustLookAgain(): boolean {
    return this.#lookAgain && !this.#isClosed;
  }

  async #act(): Promise<void> {
    for (const migration of this.#migrations) {
      // An attempt after it may have been aborted: the committed one still is what serves.
      const committed = migration.decisions.findLast((one) => one.state === "committed");
      if (committed?.isOpened) await this.#adopt(migration, committed);
      const latest = migration.decisions.at(-1);
      if (latest && migration.state === "active") this.#follow(migration, latest);
    }
    if (performance.now() >= this.#nextReportAtMs) await this.#report();
  }

  /** What the latest decision of a migration asks of this node. */
  #follow(migration: KnownMigration, decision: Decision): void {
    switch (decision.state) {
      case "planned":
        return;
      case "prepared":
        this.#hold(migration, decision);
        if ((decision.expiresInMs ?? 0) <= 0) this.#resolveBeside(migration, decision);
        return;
      case "committed":
        if (!decision.isOpened) this.#expectOpening(migration, decision);
        return;
      case "aborted":
        // The source's gates are opened before the clients go on, or each would be refused once more.
        if (this.#holds.has(decision.token)) this.#resolveBeside(migration, decision);
        return;
    }
  }

  #hold(migration: KnownMigration, decision: Decision): void {
    if (this.#holds.has(decision.token)) return;
    const { sluice } = this.#effective.config;
    const order = {
      token: decision.token,
      databases: namesOf(this.#effective.config, migration),
      openTransactions: decision.openTransactions,
      clientTimeoutMs: decision.capMs + CLIENT_TIMEOUT_EXTRA_MS,
      maxClients: sluice.holdMaxClients,
      maxBytes: sluice.holdMaxBytes,
    };
    this.#log.info("holding", { epoch: decision.epoch, databases: order.databases.join(", ") });
    const tracker = new HoldTracker(this.#options.planes, order, {
      onHeld: () => void this.#answerHold(migration, decision),
      onOverflow: (reason) => void this.#undo(migration, { decision, reason }),
    });
    this.#holds.set(decision.token, tracker);
  }

  async #answerHold(migration: KnownMigration, decision: Decision): Promise<void> {
    const { nodeId, incarnation } = this.#options;
    try {
      const control = await this.#watch.clientOf(migration, otherSide(decision.serving));
      const { epoch, token } = decision;
      await reportHeld(control, { migration: migration.id, epoch, token, nodeId, incarnation });
    } catch (error) {
      // Unanswered, the switch undoes itself; nothing is lost but the attempt.
      this.#log.warn("cannot answer the hold", { error: String(error) });
    }
  }

  /** A bound of the hold was passed: the switch is undone at once rather than at the end of its cap. */
  async #undo(
    migration: KnownMigration,
    input: { readonly decision: Decision; readonly reason: string },
  ): Promise<void> {
    this.#log.warn("undoing the switch", { reason: input.reason });
    try {
      const control = await this.#watch.clientOf(migration, otherSide(input.decision.serving));
      const key = { ref: migration, epoch: input.decision.epoch };
      await markAborted(control, key, { reason: input.reason, when: "always" });
    } catch (error) {
      this.#log.warn("cannot undo the switch; it expires", { error: String(error) });
    }
    this.#wake();
  }

  /** The new epoch: names, then clients. */
  async #adopt(migration: KnownMigration, decision: Decision): Promise<void> {
    const isNew = (this.#effective.adopted[migration.id] ?? 0) < decision.epoch;
    if (isNew) this.#publish(effectiveConfig(this.#files, this.#migrations, this.#watch.silent()));
    this.#release(decision.token);
    if (!isNew) return;
    this.#log.info("adopted", { epoch: decision.epoch, serving: decision.serving });
    await this.#report();
    this.#save(migration);
    await this.#report();
  }

  #release(token: string): void {
    const hold = this.#holds.get(token);
    this.#holds.delete(token);
    hold?.release();
  }

  #expectOpening(migration: KnownMigration, decision: Decision): void {
    const seenAtMs = this.#committedSeenAtMs.get(decision.token) ?? performance.now();
    this.#committedSeenAtMs.set(decision.token, seenAtMs);
    if (performance.now() - seenAtMs > OPENING_MS) this.#resolveBeside(migration, decision);
  }

  /**
   * Drives a decision home beside the looks, one run at a time per decision. For an aborted one the clients
   * go on when it is done.
   */
  #resolveBeside(migration: KnownMigration, decision: Decision): void {
    if (this.#resolving.has(decision.token)) return;
    const run = (async () => {
      try {
        const result = await resolve(this.#context(), {
          ref: migration,
          decision,
          as: "bystander",
        });
        if (result.outcome === "aborted") this.#release(decision.token);
      } catch (error) {
        this.#log.info("the decision is not final yet", {
          epoch: decision.epoch,
          error: String(error),
        });
      } finally {
        this.#resolving.delete(decision.token);
      }
      this.#wake();
    })();
    this.#resolving.set(decision.token, run);
  }

  /**
   * A server refused a statement by its gate. Answered when there is a reason to try again: a new epoch, a
   * hold (its release is the reason), or an aborted switch whose gates are open again.
   */
  async #refresh(
    plane: number,
    stale: { readonly database: string; readonly epoch: number },
  ): Promise<void> {
    const giveUpAtMs = performance.now() + STALE_WAIT_MS;
    do {
      await this.#lookNow();
      if ((this.#effective.epochs[stale.database] ?? 0) > stale.epoch) break;
      const migration = this.#migrations.find(
        (one) =>
          one.state === "active" && namesOf(this.#effective.config, one).includes(stale.database),
      );
      const decision = migration?.decisions.at(-1);
      if (!migration || !decision || this.#holds.has(decision.token)) break;
      if (decision.state === "aborted" || decision.state === "committed") {
        this.#resolveBeside(migration, decision);
        await this.#resolving.get(decision.token);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    } while (performance.now() < giveUpAtMs && !this.#isClosed);
    this.#options.planes.sendTo(plane, { kind: "refreshed", database: stale.database });
  }

  #publish(next: EffectiveConfig): void {
    this.#effective = next;
    this.#generation++;
    const { config, epochs } = next;
    this.#options.planes.broadcast({
      kind: "topology",
      generation: this.#generation,
      config,
      epochs,
    });
    for (const listener of this.#listeners) listener(next);
  }

  /** "I live, at this epoch", on shard 0 of both sides of every live migration. */
  async #report(): Promise<void> {
    this.#nextReportAtMs = performance.now() + IDLE_LOOK_MS;
    const { nodeId, incarnation, address } = this.#options;
    const hash = configHash(this.#effective.config);
    for (const migration of this.#migrations) {
      if (migration.state !== "active") continue;
      const epoch = this.#effective.adopted[migration.id] ?? 0;
      const report = {
        nodeId,
        incarnation,
        address,
        epoch,
        configHash: hash,
        savedEpoch: this.#savedFor(migration, epoch),
      };
      for (const side of ["source", "destination"] as const) {
        try {
          await reportNode(await this.#watch.clientOf(migration, side), migration.id, report);
        } catch (error) {
          this.#log.debug("cannot report to a server", { side, error: String(error) });
        }
      }
    }
  }

  /** Where saving is off there is nothing that could be late. */
  #savedFor(migration: KnownMigration, epoch: number): number {
    if (!this.#files.general.cutoverSaveConfig) return epoch;
    return this.#saved.get(migration.id) ?? 0;
  }

  /** Files that need no exchange of names express every epoch that is in force. */
  #noteSavedFiles(): void {
    this.#saved.clear();
    if (configHash(this.#files) !== configHash(this.#effective.config)) return;
    for (const [migration, epoch] of Object.entries(this.#effective.adopted)) {
      this.#saved.set(migration, epoch);
    }
  }

  #save(migration: KnownMigration): void {
    const { paths } = this.#options;
    if (!paths || !this.#files.general.cutoverSaveConfig) return;
    try {
      saveConfig({
        ...paths,
        config: this.#effective.config,
        databases: [migration.source, migration.destination],
      });
      this.#saved.set(migration.id, this.#effective.adopted[migration.id] ?? 0);
    } catch (error) {
      // The decision stands whatever the disk says; finalize names this node until it has saved.
      this.#log.error("cannot save the configuration files", { error: String(error) });
    }
  }
}
