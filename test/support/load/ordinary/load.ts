import { type Load, startWorkers } from "../load.js";
import type { LoadAddress } from "../session.js";
import { ScriptClient } from "./client.js";
import type { Known } from "./ledger.js";
import type { Script } from "./script.js";
import { busyTenants, type OrdinaryState } from "./state.js";
import { TeamClient } from "./team-client.js";

export interface OrdinaryLoadOptions {
  /** Clients take them in turn. */
  readonly addresses: readonly LoadAddress[];
  /** One in four has a team; the others do what load.sql does, in all protocols. */
  readonly clients: number;
  readonly script: Script;
  /** Before the first of these loads. */
  readonly before: OrdinaryState;
  /** Which load this is on the same tables, from 0: their rows do not meet. */
  readonly round: number;
  /** Pause between two steps of a client, ms; default 15. */
  readonly thinkMs?: number;
}

/** Connects all clients and keeps them busy with the ordinary schema until `stop`. */
export async function startOrdinaryLoad(options: OrdinaryLoadOptions): Promise<Load<Known>> {
  const { addresses, round, script, before, thinkMs = 15 } = options;
  const teams = Math.ceil(options.clients / 4);
  const clients = options.clients - teams;
  const seed = 1 + round;
  const busy = busyTenants(before);
  return await startWorkers<Known>([
    ...Array.from(
      { length: clients },
      (_, client) =>
        new ScriptClient(client, {
          ...{ addresses, clients, seed, round, script, thinkMs },
          busyTenants: busy,
        }),
    ),
    ...Array.from(
      { length: teams },
      (_, team) => new TeamClient(clients + team, { addresses, seed, script, thinkMs }),
    ),
  ]);
}
