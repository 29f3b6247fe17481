import type { Config } from "../../config/model.js";
import type { ConfigPaths } from "../../config/read-config.js";
import type { Log } from "../../observe/log.js";
import type { EngineContext } from "../../resharding/context.js";
import type { ArmOrder } from "../../resharding/model/activities.js";
import { clusterOf } from "../cluster-directory.js";
import { enginePolicyOf } from "../policies.js";
import {
  type CutoverRow,
  cutoverRows,
  resolveOpen,
  unfenceDatabase,
  type WaitingSwitch,
  waitingSwitches,
} from "./answers.js";
import type { DataPlaneGroup } from "./data-plane-group.js";
import { follow } from "./decision-follower.js";
import { type EffectiveConfig, type KnownMigration, namesOf } from "./effective-config.js";
import { LookLoop } from "./look-loop.js";
import { NodeEffects } from "./node-effects.js";
import { Publisher } from "./publisher.js";
import { RefusedStatements } from "./refused-statements.js";
import { NodeReporter, type NodeSelf } from "./report.js";
import { SavedFiles } from "./saved-files.js";
import { knownMigrations, ServerWatch } from "./server-watch.js";

export interface NodeAgentOptions extends NodeSelf {
  /** As the files say. */
  readonly files: Config;
  readonly planes: DataPlaneGroup;
  readonly log: Log;
  /** For `cutover_save_config`; null: never saved. */
  readonly paths: ConfigPaths | null;
}

/**
 * The node's own reader of decisions, in the main process, without Temporal. It tells the data planes what the
 * names mean, when to hold and when to go on; it never decides alone: what it does to a decision are the
 * same compare-and-sets that anybody may do (`resolve`).
 *
 *     look (ServerWatch) -> follow (pure) -> effects (NodeEffects), again and again (LookLoop)
 */
export class NodeAgent {
  readonly #options: NodeAgentOptions;
  readonly #watch: ServerWatch;
  readonly #loop: LookLoop;
  readonly #publisher: Publisher;
  readonly #saved: SavedFiles;
  readonly #reporter: NodeReporter;
  readonly #effects: NodeEffects;
  readonly #refused: RefusedStatements;
  readonly #unsubscribe: () => void;
  #migrations: readonly KnownMigration[] = [];
  #shutSinceMs: ReadonlyMap<string, number> = new Map();
  #armedUntilMs = 0;

  constructor(options: NodeAgentOptions) {
    const { files, planes, log, paths } = options;
    this.#options = options;
    this.#watch = new ServerWatch(() => this.#loop.wake());
    this.#loop = new LookLoop({
      look: async () => await this.#look(),
      isNear: () => performance.now() < this.#armedUntilMs || this.#effects.holds.size > 0,
      log,
    });
    this.#publisher = new Publisher(planes, files);
    this.#saved = new SavedFiles(this.#publisher, paths, log);
    const parts = { self: options, planes, log, watch: this.#watch, publisher: this.#publisher };
    this.#reporter = new NodeReporter({ ...parts, saved: this.#saved });
    const migrations = () => this.#migrations;
    this.#effects = new NodeEffects({
      ...parts,
      saved: this.#saved,
      reporter: this.#reporter,
      context: () => this.#context(),
      migrations,
      wake: () => this.#loop.wake(),
    });
    const { loop, effects } = { loop: this.#loop, effects: this.#effects };
    this.#refused = new RefusedStatements({ ...parts, loop, effects, migrations });
    this.#unsubscribe = planes.subscribe({
      message: (plane, message) => {
        if (message.kind === "stale") void this.#refused.answer(plane, message);
      },
      left: () => {},
    });
  }

  get effectiveConfig(): EffectiveConfig {
    return this.#publisher.effective;
  }

  /** Called after each change of what the names mean. */
  onEffectiveConfig(listener: (effective: EffectiveConfig) => void): void {
    this.#publisher.onChange(listener);
  }

  /**
   * Asks every shard of every database that can be reached, and exchanges names in memory before the first
   * client (R32). A decision that is `prepared`, or committed and not opened, starts the node in the hold
   * (R29). Servers that are silent are asked again later; their gates refuse what an old epoch would send.
   * @throws ConfigContradictsDecision
   */
  async boot(): Promise<EffectiveConfig> {
    await this.#express(this.#options.files);
    await this.#follow();
    this.#loop.schedule();
    return this.#publisher.effective;
  }

  /**
   * New files; the epoch stays (W-01 of the reference: a reload must not undo a cutover).
   * @throws ConfigContradictsDecision: the running configuration stays in place
   */
  async reload(files: Config): Promise<void> {
    await this.#express(files);
  }

  /** A switch is near: look every 50 ms, and open server connections on the other side now. */
  async arm(order: ArmOrder): Promise<void> {
    this.#armedUntilMs = Math.max(this.#armedUntilMs, performance.now() + order.forMs);
    await this.#loop.now();
    const known = this.#migrations.find((migration) => migration.id === order.ref.id);
    if (!known) throw new Error(`node ${this.#options.nodeId} sees no migration ${order.ref.id}`);
    this.#options.planes.broadcast({
      kind: "warm",
      databases: namesOf(this.#publisher.effective.config, known),
    });
  }

  /** One row per decision, newest first, for SHOW CUTOVER. */
  async showCutover(): Promise<readonly CutoverRow[]> {
    await this.#loop.now();
    return cutoverRows(this.#migrations, await this.waitingSwitches());
  }

  /** Switches that wait for nodes now, by the last look; for SHOW TASKS. */
  async waitingSwitches(): Promise<readonly WaitingSwitch[]> {
    return await waitingSwitches(this.#migrations, this.#watch);
  }

  /** Makes the open decisions of a database final, without Temporal. @returns a sentence for each */
  async resolveCutover(database: string): Promise<readonly string[]> {
    await this.#loop.now();
    const { effective } = this.#publisher;
    const seen = { effective, migrations: this.#migrations, database };
    const said = await resolveOpen(this.#context(), seen);
    await this.#loop.now();
    return said;
  }

  async unfence(database: string): Promise<readonly string[]> {
    return await unfenceDatabase(this.#context(), database);
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    await this.#loop.close();
    await this.#watch.close();
  }

  #context(): EngineContext {
    const { config } = this.#publisher.effective;
    return {
      cluster: (name) => clusterOf(config, name),
      policy: enginePolicyOf(config),
      log: this.#options.log,
      signal: AbortSignal.timeout(30_000),
      heartbeat: () => {},
      announce: async () => {},
      incarnation: this.#options.incarnation,
    };
  }

  /** Files and the decisions of every shard, as the names mean from now on. */
  async #express(files: Config): Promise<void> {
    this.#watch.follow(files, "everything");
    await this.#watch.look();
    const migrations = knownMigrations(this.#watch.views());
    this.#publisher.publish(files, migrations, this.#watch.silent());
    this.#migrations = migrations;
    this.#saved.noteRead();
    this.#watch.follow(files, "first shards");
  }

  async #look(): Promise<void> {
    await this.#watch.look();
    this.#migrations = knownMigrations(this.#watch.views());
    await this.#follow();
  }

  async #follow(): Promise<void> {
    const { adopted } = this.#publisher.effective;
    const memory = { holds: this.#effects.holds, adopted, shutSinceMs: this.#shutSinceMs };
    const { effects, shutSinceMs } = follow(this.#migrations, memory, performance.now());
    this.#shutSinceMs = shutSinceMs;
    await this.#effects.perform(effects);
    await this.#reporter.reportWhenDue(this.#migrations);
  }
}
