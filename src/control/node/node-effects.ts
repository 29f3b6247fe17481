import { tell } from "../../core/tell.js";
import type { Log } from "../../observe/log.js";
import type { EngineContext } from "../../resharding/context.js";
import { otherSide } from "../../resharding/model/migration.js";
import { type Decision, markAborted } from "../../resharding/switch/decision.js";
import { type HoldWait, reportHoldWait } from "../../resharding/switch/hold-wait.js";
import { reportHeld } from "../../resharding/switch/nodes.js";
import { resolve } from "../../resharding/switch/resolve-step.js";
import type { DataPlaneGroup } from "./data-plane-group.js";
import { afterResolve, type NodeEffect, type Subject } from "./decision-follower.js";
import { type KnownMigration, namesOf } from "./effective-config.js";
import { HoldTracker } from "./hold-tracker.js";
import type { Publisher } from "./publisher.js";
import type { NodeReporter, NodeSelf } from "./report.js";
import type { SavedFiles } from "./saved-files.js";
import type { ServerWatch } from "./server-watch.js";
import { WaitReporter } from "./wait-reporter.js";

type KnownSubject = Subject<KnownMigration, Decision>;

export interface NodeEffectsOptions {
  readonly self: NodeSelf;
  readonly planes: DataPlaneGroup;
  readonly watch: ServerWatch;
  readonly publisher: Publisher;
  readonly saved: SavedFiles;
  readonly reporter: NodeReporter;
  readonly log: Log;
  context(): EngineContext;
  /** What the servers said last. */
  migrations(): readonly KnownMigration[];
  /** Something has changed that the next look will show. */
  wake(): void;
}

/** A hold outlives the decision's cap by this before a waiting client gets an error. */
const CLIENT_TIMEOUT_EXTRA_MS = 5_000;

/** Does what `follow` asks for, and nothing of its own. */
export class NodeEffects {
  readonly #options: NodeEffectsOptions;
  readonly #holds = new Map<string, KnownSubject & { readonly tracker: HoldTracker }>();
  readonly #resolving = new Map<string, Promise<void>>();

  constructor(options: NodeEffectsOptions) {
    this.#options = options;
  }

  /** By token: under which decisions clients wait here. */
  get holds(): ReadonlyMap<string, KnownSubject & { readonly tracker: HoldTracker }> {
    return this.#holds;
  }

  async perform(effects: readonly NodeEffect<KnownMigration, Decision>[]): Promise<void> {
    for (const effect of effects) {
      switch (effect.kind) {
        case "adopt":
          this.#adopt(effect);
          break;
        case "hold":
          this.#hold(effect);
          break;
        case "resolve":
          void this.resolve(effect);
          break;
        case "release":
          this.#release(effect.token);
          break;
        case "record":
          await this.#record(effect);
          break;
      }
    }
  }

  /** Drives a decision home beside the looks, one run at a time per decision. Never fails: it is repeated. */
  async resolve(subject: KnownSubject): Promise<void> {
    const { token } = subject.decision;
    const running =
      this.#resolving.get(token) ??
      this.#resolveNow(subject).finally(() => {
        this.#resolving.delete(token);
        this.#options.wake();
      });
    this.#resolving.set(token, running);
    await running;
  }

  async #resolveNow({ migration, decision }: KnownSubject): Promise<void> {
    try {
      const input = { ref: migration, decision, as: "bystander" } as const;
      const { outcome } = await resolve(this.#options.context(), input);
      await this.perform(afterResolve(outcome, decision.token));
    } catch (error) {
      const { epoch } = decision;
      this.#options.log.info("the decision is not final yet", { epoch, error: tell(error) });
    }
  }

  #adopt({ decision }: KnownSubject): void {
    const { publisher, watch, log } = this.#options;
    publisher.publish(publisher.files, this.#options.migrations(), watch.silent());
    log.info("adopted", { epoch: decision.epoch, serving: decision.serving });
  }

  async #record({ migration }: KnownSubject): Promise<void> {
    const { saved, reporter } = this.#options;
    await reporter.report(this.#options.migrations());
    saved.save(migration);
    await reporter.report(this.#options.migrations());
  }

  #hold({ migration, decision }: KnownSubject): void {
    const { publisher, planes, log } = this.#options;
    const { config } = publisher.effective;
    const order = {
      token: decision.token,
      databases: namesOf(config, migration),
      openTransactions: decision.openTransactions,
      clientTimeoutMs: decision.capMs + CLIENT_TIMEOUT_EXTRA_MS,
      maxClients: config.sluice.holdMaxClients,
      maxBytes: config.sluice.holdMaxBytes,
    };
    log.info("holding", { epoch: decision.epoch, databases: order.databases.join(", ") });
    const waits = new WaitReporter((wait) => this.#reportWait({ migration, decision }, wait));
    const tracker = new HoldTracker(planes, order, {
      onHeld: () => void this.#answerHold({ migration, decision }),
      onOverflow: (reason) => void this.#undo({ migration, decision }, reason),
      onWait: (wait) => waits.say(wait),
    });
    this.#holds.set(decision.token, { migration, decision, tracker });
  }

  #release(token: string): void {
    const hold = this.#holds.get(token);
    this.#holds.delete(token);
    hold?.tracker.release();
  }

  /** @throws whatever the server does: nothing depends on it */
  async #reportWait({ migration, decision }: KnownSubject, wait: HoldWait): Promise<void> {
    const { watch, self } = this.#options;
    const { nodeId, incarnation } = self;
    const control = await watch.clientOf(migration, otherSide(decision.serving));
    const { epoch, token } = decision;
    const key = { migration: migration.id, epoch, token, nodeId, incarnation };
    await reportHoldWait(control, key, wait);
  }

  async #answerHold({ migration, decision }: KnownSubject): Promise<void> {
    const { watch, log, self } = this.#options;
    const { nodeId, incarnation } = self;
    try {
      const control = await watch.clientOf(migration, otherSide(decision.serving));
      const { epoch, token } = decision;
      await reportHeld(control, { migration: migration.id, epoch, token, nodeId, incarnation });
    } catch (error) {
      // Unanswered, the switch undoes itself; nothing is lost but the attempt.
      log.warn("cannot answer the hold", { error: tell(error) });
    }
  }

  /** A bound of the hold was passed: the switch is undone at once rather than at the end of its cap. */
  async #undo({ migration, decision }: KnownSubject, reason: string): Promise<void> {
    const { watch, log, wake } = this.#options;
    log.warn("undoing the switch", { reason });
    try {
      const control = await watch.clientOf(migration, otherSide(decision.serving));
      const key = { ref: migration, epoch: decision.epoch };
      await markAborted(control, key, { reason, when: "always" });
    } catch (error) {
      log.warn("cannot undo the switch; it expires", { error: tell(error) });
    }
    wake();
  }
}
