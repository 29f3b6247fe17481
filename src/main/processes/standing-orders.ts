import type { MaintenanceFlag } from "../../admin/host.js";
import type { ToDataPlane } from "../../proxy/channel.js";
import { MaintenanceFlags } from "../../proxy/hold/maintenance.js";

/**
 * What a data plane that starts now must be told before its first client: the last topology, and every
 * maintenance, pause and hold in force. A hold belongs to a switch, maintenance to the operator: neither ends
 * the other.
 */
export class StandingOrders {
  #topology: ToDataPlane | null = null;
  readonly #maintenance = new MaintenanceFlags();
  readonly #pauses = new Map<string, Extract<ToDataPlane, { kind: "pause" }>>();
  readonly #holds = new Map<string, Extract<ToDataPlane, { kind: "hold" }>>();

  note(message: ToDataPlane): void {
    switch (message.kind) {
      case "topology":
        this.#topology = message;
        return;
      case "hold":
        this.#holds.set(message.token, message);
        return;
      case "release":
        this.#holds.delete(message.token);
        return;
      case "maintenance":
        this.#maintenance.set(message.isOn, message.database);
        return;
      case "pause":
        if (!message.isPaused && message.database === null) this.#pauses.clear();
        else {
          const key = JSON.stringify([message.user, message.database]);
          keep(this.#pauses, key, message, message.isPaused);
        }
        return;
      default:
        // Done when it is said: warm, refreshed, reconnect, cancelRequest.
        return;
    }
  }

  /** In the order in which they must be told. */
  get inForce(): readonly ToDataPlane[] {
    return [
      ...(this.#topology === null ? [] : [this.#topology]),
      ...[...this.#maintenance.up].map(
        (database): ToDataPlane => ({ kind: "maintenance", isOn: true, database }),
      ),
      ...this.#pauses.values(),
      ...this.#holds.values(),
    ];
  }

  get maintenanceFlags(): readonly MaintenanceFlag[] {
    const held = [...this.#holds.values()].flatMap((hold) => hold.databases);
    return [
      ...[...this.#maintenance.up].map(
        (database): MaintenanceFlag => ({ database, owner: "operator" }),
      ),
      ...held.map((database): MaintenanceFlag => ({ database, owner: "cutover" })),
    ];
  }
}

function keep<T>(map: Map<string, T>, key: string, value: T, isInForce: boolean): void {
  if (isInForce) map.set(key, value);
  else map.delete(key);
}
