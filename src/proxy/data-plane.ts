import type { Socket } from "node:net";
import { assertNever } from "../core/assert.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { Log } from "../observe/log.js";
import type { AdminRow, FromDataPlane, MainCalls, ShowWhat, ToDataPlane } from "./channel.js";
import type { Announce, ServedDatabase } from "./databases/served-database.js";
import { ServedDatabases } from "./databases/served-databases.js";
import { HoldDriver } from "./hold/hold-driver.js";
import { Maintenance } from "./hold/maintenance.js";
import { Refreshes } from "./hold/refreshes.js";
import { showClients, showPools, showServers, showStats } from "./plane-rows.js";
import { goingDown, type LoginHost, Logins } from "./session/logins.js";
import type { Session } from "./session/session.js";
import { Sessions } from "./session/sessions.js";
import { HoldGivenUp, StatementRefused } from "./session-errors.js";

/** Between two questions about the same decision. */
const REFRESH_PAUSE_MS = 100;

/**
 * Serves clients: the part of a node that keeps working while everything else is down. Told by messages what
 * to serve, when to hold and when to go on; decides nothing itself.
 */
export class DataPlane implements LoginHost {
  readonly #send: (message: FromDataPlane) => void;
  readonly #databases: ServedDatabases;
  readonly #sessions = new Sessions();
  readonly #logins: Logins;
  readonly #holds: HoldDriver;
  readonly #maintenance = new Maintenance();
  readonly #refreshes: Refreshes;
  #isShuttingDown = false;
  #onEmpty: (() => void) | null = null;

  constructor(options: {
    readonly send: (message: FromDataPlane) => void;
    readonly admin: MainCalls["admin"];
    /** Tells the other planes of this node; resolves when they know. */
    readonly tablesChanged: MainCalls["tablesChanged"];
    readonly log: Log;
    readonly announce?: Announce;
  }) {
    this.#send = options.send;
    this.#databases = new ServedDatabases({
      log: options.log,
      announce: options.announce ?? (async () => {}),
      tellPlanes: options.tablesChanged,
    });
    this.#holds = new HoldDriver({ ...options, sessions: this.#sessions.byId });
    this.#refreshes = new Refreshes(options.send);
    this.#logins = new Logins({
      host: this,
      databases: this.#databases,
      sessions: this.#sessions,
      admin: options.admin,
      log: options.log,
    });
  }

  handle(message: ToDataPlane): void {
    switch (message.kind) {
      case "topology":
        this.#logins.configure(message.config);
        this.#databases.replace(message);
        this.#reconcileMaintenance();
        return;
      case "hold":
        this.#holds.hold(message, true);
        return;
      case "release":
        this.#holds.release(message.token);
        return;
      case "warm":
        for (const name of message.databases) void this.#databases.get(name)?.warm();
        return;
      case "refreshed":
        this.#refreshes.answered(message.database);
        return;
      case "maintenance":
        this.#maintenance.set(message.isOn, message.database);
        this.#reconcileMaintenance();
        return;
      case "pause":
        this.#databases.setPaused(message);
        return;
      case "reconnect":
        this.#databases.reconnect();
        return;
      case "cancelRequest":
        void this.#cancel(message.processId, Buffer.from(message.secretHex, "hex"));
        return;
      default:
        assertNever(message, "message to the data plane");
    }
  }

  /** Takes over an accepted socket. */
  attach(socket: Socket): void {
    this.#logins.attach(socket);
  }

  /** Another plane has changed tables of a database: no statement is routed by what they were. */
  tablesChanged(database: string): void {
    this.#databases.get(database)?.tablesChanged();
  }

  /** Rows of this data plane, in the column order of the command. */
  show(what: ShowWhat): readonly AdminRow[] {
    switch (what) {
      case "clients":
        return showClients(this.#sessions.all);
      case "pools":
        return showPools(this.#databases.all);
      case "servers":
        return showServers(this.#databases.all);
      case "stats":
        return showStats(this.#databases.all);
    }
  }

  /** Ends idle sessions at once, others with their transaction, and what is left after the time. */
  async shutdown(timeoutMs: number): Promise<void> {
    this.#isShuttingDown = true;
    this.#logins.close();
    const isEmpty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    for (const session of this.#sessions.all) if (session.isIdle) session.end(goingDown());
    const timer = setTimeout(() => {
      for (const session of this.#sessions.all) session.end(goingDown());
    }, timeoutMs);
    if (this.#sessions.count > 0) await isEmpty;
    clearTimeout(timer);
    this.#holds.stop();
    this.#databases.destroy();
  }

  served(database: string): ServedDatabase | null {
    return this.#databases.get(database);
  }

  begin(session: Session, bytes: number): Promise<void> | null {
    return this.#holds.begin(session, bytes);
  }

  finish(session: Session): void {
    this.#holds.finish(session);
    if (this.#isShuttingDown && session.isBetweenTransactions) session.end(goingDown());
  }

  async refresh(served: ServedDatabase): Promise<void> {
    const { name } = served.database;
    await this.#refreshes.ask(served.database);
    // Nothing is held and nothing has moved: the decision is being made. Look again a little later.
    if (!this.#holds.isHeld(name) && this.#databases.get(name) === served)
      await new Promise((resolve) => setTimeout(resolve, REFRESH_PAUSE_MS));
  }

  closed(session: Session): void {
    this.#holds.unpark(session, new HoldGivenUp(session.database, "the client is gone"));
    this.#sessions.remove(session);
    if (this.#sessions.count === 0) this.#onEmpty?.();
  }

  async cancelRequested(processId: number, secret: Buffer): Promise<void> {
    if (this.#sessions.has(processId)) await this.#cancel(processId, secret);
    else this.#send({ kind: "cancelRequest", processId, secretHex: secret.toString("hex") });
  }

  async #cancel(processId: number, secret: Buffer): Promise<void> {
    const session = this.#sessions.withKey(processId, secret);
    if (!session) return;
    const canceled = "canceling statement due to user request";
    const error = new StatementRefused(SQLSTATE.queryCanceled, canceled);
    if (!this.#holds.unpark(session, error)) await session.cancel();
  }

  #reconcileMaintenance(): void {
    const { hold, release } = this.#maintenance.reconcile(this.#databases.names);
    for (const name of hold)
      this.#holds.hold(
        {
          token: maintenanceToken(name),
          databases: [name],
          openTransactions: "wait",
          clientTimeoutMs: null,
          maxClients: Number.POSITIVE_INFINITY,
          maxBytes: Number.POSITIVE_INFINITY,
        },
        false,
      );
    for (const name of release) this.#holds.release(maintenanceToken(name));
  }
}

function maintenanceToken(database: string): string {
  return `maintenance ${database}`;
}
