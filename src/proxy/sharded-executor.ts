import type { DatabaseUser } from "../topology/topology.js";
import type { Cluster } from "./cluster.js";
import type { CopyInput } from "./copy-input.js";
import type { Handled, SessionState } from "./session-state.js";
import type { SendRequest } from "./single-executor.js";
import type { StatementEffects } from "./statement-effects.js";
export class ShardedExecutor {
  constructor(_state: SessionState, _copy: CopyInput) {}
  get isOpen(): boolean {
    return false;
  }
  async handle(
    _r: SendRequest,
    _c: { cluster: Cluster; user: DatabaseUser; effects: readonly StatementEffects[] },
  ): Promise<Handled> {
    throw new Error("not yet");
  }
  fail(): void {}
  clientDrained(): void {}
  async cancel(): Promise<void> {}
  async abandon(): Promise<void> {}
}
