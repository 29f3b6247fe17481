import { setTimeout as sleep } from "node:timers/promises";
import { NODE, stateOf } from "../../resharding/model/protocol.js";
import type { DataPlaneGroup } from "./data-plane-group.js";
import { type KnownMigration, namesOf } from "./effective-config.js";
import type { LookLoop } from "./look-loop.js";
import type { NodeEffects } from "./node-effects.js";
import type { Publisher } from "./publisher.js";

/** How long a statement that a gate refused may wait for a reason to go on. */
const WAIT_MS = 30_000;
/** R29: who is refused by a gate without a final decision reads again this often. */
const AGAIN_MS = 100;

/**
 * A server refused a statement by its gate. The data plane is answered when there is a reason to try again: a
 * new epoch, a hold (its release is the reason), or a final decision whose gates are as it says.
 */
export class RefusedStatements {
  readonly #options: {
    readonly planes: DataPlaneGroup;
    readonly loop: LookLoop;
    readonly publisher: Publisher;
    readonly effects: NodeEffects;
    migrations(): readonly KnownMigration[];
  };

  constructor(options: {
    readonly planes: DataPlaneGroup;
    readonly loop: LookLoop;
    readonly publisher: Publisher;
    readonly effects: NodeEffects;
    migrations(): readonly KnownMigration[];
  }) {
    this.#options = options;
  }

  async answer(
    plane: number,
    stale: { readonly database: string; readonly epoch: number },
  ): Promise<void> {
    const { planes, loop } = this.#options;
    const giveUpAtMs = performance.now() + WAIT_MS;
    for (;;) {
      await loop.now();
      if (await this.#hasReason(stale)) break;
      await sleep(AGAIN_MS);
      if (performance.now() >= giveUpAtMs || loop.isClosed) break;
    }
    planes.sendTo(plane, { kind: "refreshed", database: stale.database });
  }

  async #hasReason(stale: { readonly database: string; readonly epoch: number }): Promise<boolean> {
    const { publisher, effects } = this.#options;
    const { epochs, config } = publisher.effective;
    if ((epochs[stale.database] ?? 0) > stale.epoch) return true;
    const migration = this.#options
      .migrations()
      .find((one) => one.state === "active" && namesOf(config, one).includes(stale.database));
    const decision = migration?.decisions.at(-1);
    if (!migration || !decision || effects.holds.has(decision.token)) return true;
    const duty = NODE[stateOf(decision)].stale;
    if (duty === "resolveThenAnswer") await effects.resolve({ migration, decision });
    return duty !== "lookAgain";
  }
}
