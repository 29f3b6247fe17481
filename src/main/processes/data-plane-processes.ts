import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { MaintenanceFlag } from "../../admin/host.js";
import type { DataPlaneGroup } from "../../control/node/data-plane-group.js";
import type { Backoff } from "../../core/backoff.js";
import type { Log } from "../../observe/log.js";
import type {
  AdminRow,
  DataPlaneCalls,
  FromDataPlane,
  MainCalls,
  ShowWhat,
  ToDataPlane,
} from "../../proxy/channel.js";
import { type CallMessage, type Calls, openCalls } from "./calls.js";
import { type ProcessEnd, RestartingProcess, send } from "./restarting.js";
import { StandingOrders } from "./standing-orders.js";

/** Goes with a client's socket. */
export interface SocketMessage {
  readonly kind: "socket";
}

interface Plane {
  /** Never used again: whatever a plane said is not taken for the word of the one that replaces it. */
  readonly number: number;
  readonly process: ChildProcess;
  readonly calls: Calls<DataPlaneCalls>;
  isReady: boolean;
}

type Listener = Parameters<DataPlaneGroup["subscribe"]>[0];

const ENTRY = fileURLToPath(new URL("../data-plane-process.js", import.meta.url));
const BACKOFF: Backoff = { firstMs: 50, longestMs: 5_000, stableMs: 10_000 };
/** Clients that wait while no data plane is up; past it new ones are closed, as a full backlog would. */
const MAX_PENDING_SOCKETS = 1_024;
const SHOW_TIMEOUT_MS = 2_000;
const LAST_WORDS_MS = 500;
/** A plane that was frozen for longer asks the servers anyway: what it knows is too old then. */
const TOLD_TIMEOUT_MS = 1_000;

/**
 * The data-plane processes of this node. The main process listens and hands accepted sockets round: unlike
 * with `node:cluster`, nothing of the listening socket lives in a data plane, so no client is accepted before
 * the boot has read the decisions (R32), a restarted data plane gets its orders before its first client,
 * and a shutdown stops at one place. A connection costs one message; bytes never pass the main process.
 * Both ways accept as many: 3,700 to 4,900 connections a second against 3,600 to 5,800 (two cores, 16 clients that
 * connect and leave, two runs each, 2026-11-22).
 */
export class DataPlaneProcesses implements DataPlaneGroup {
  readonly #log: Log;
  readonly #admin: MainCalls["admin"];
  readonly #processes: readonly RestartingProcess[];
  readonly #planes = new Map<number, Plane>();
  readonly #listeners = new Set<Listener>();
  readonly #orders = new StandingOrders();
  readonly #pending: Socket[] = [];
  /** Until all have come up for the first time. */
  #starting: { readonly resolve: () => void; readonly reject: (error: Error) => void } | null =
    null;
  #nextPlane = 0;
  #turn = 0;
  #isStopping = false;

  constructor(options: {
    readonly count: number;
    readonly log: Log;
    /** Runs a statement of a client of the admin database. */
    readonly admin: MainCalls["admin"];
  }) {
    this.#log = options.log;
    this.#admin = options.admin;
    this.#processes = Array.from({ length: options.count }, () => this.#dataPlane());
  }

  get planes(): readonly number[] {
    return [...this.#planes.keys()];
  }

  /** Operator's flags and the holds of switches in force. */
  get maintenanceFlags(): readonly MaintenanceFlag[] {
    return this.#orders.maintenanceFlags;
  }

  /** Starts all of them; resolves when each can take clients. */
  async start(): Promise<void> {
    const started = new Promise<void>((resolve, reject) => {
      this.#starting = { resolve, reject };
    });
    for (const each of this.#processes) each.start();
    await started;
    this.#starting = null;
  }

  broadcast(message: ToDataPlane): void {
    this.#orders.note(message);
    for (const plane of this.#planes.values()) send(plane.process, message);
  }

  sendTo(number: number, message: ToDataPlane): void {
    const plane = this.#planes.get(number);
    if (plane) send(plane.process, message);
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hands a client over. The socket must have been accepted with `pauseOnConnect`. */
  attach(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    const ready = [...this.#planes.values()].filter((plane) => plane.isReady);
    this.#turn += 1;
    const plane = ready[this.#turn % Math.max(1, ready.length)];
    if (plane) hand(plane, socket);
    else if (this.#isStopping || this.#pending.length >= MAX_PENDING_SOCKETS) socket.destroy();
    else this.#pending.push(socket);
  }

  /** Rows of all data planes; one that does not answer in time, or ends, has none. */
  async gather(what: ShowWhat): Promise<readonly AdminRow[]> {
    const late = new AbortController();
    try {
      const rows = [...this.#planes.values()].map(async ({ calls }) => {
        const none = sleep<readonly AdminRow[]>(SHOW_TIMEOUT_MS, [], { signal: late.signal });
        // Rejected only where the data plane has ended: its clients are gone with it.
        return await Promise.race([calls.ask.show(what), none]).catch(() => []);
      });
      return (await Promise.all(rows)).flat();
    } finally {
      late.abort();
    }
  }

  /**
   * Tells all to let their clients finish; resolves when no client is left, or past the time. The processes
   * stay, to refuse new clients, until `kill`.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const each of this.#processes) void each.ended();
    for (const socket of this.#pending.splice(0)) socket.destroy();
    const drained = Promise.allSettled(
      [...this.#planes.values()].map(({ calls }) => calls.ask.shutDown(timeoutMs)),
    );
    // The data planes end their clients at the time; the grace is for their last words.
    await Promise.race([drained, sleep(timeoutMs + LAST_WORDS_MS, undefined, { ref: false })]);
  }

  /** Ends all processes now, clients or not; resolves when they are gone. */
  async kill(): Promise<void> {
    this.#isStopping = true;
    for (const each of this.#processes) each.kill();
    await Promise.all(this.#processes.map((each) => each.ended()));
  }

  /** DDL was committed through one plane. One that does not answer in time asks the servers when it goes on. */
  async #tell(from: number, database: string): Promise<void> {
    const late = new AbortController();
    try {
      const others = [...this.#planes.values()].filter(({ number }) => number !== from);
      const told = others.map(async ({ calls }) => {
        const none = sleep(TOLD_TIMEOUT_MS, undefined, { signal: late.signal });
        await Promise.race([calls.ask.tablesChanged(database), none]).catch(() => {});
      });
      await Promise.all(told);
    } finally {
      late.abort();
    }
  }

  #dataPlane(): RestartingProcess {
    return new RestartingProcess({
      entry: ENTRY,
      backoff: BACKOFF,
      argument: () => String(this.#nextPlane),
      onStart: (child) => this.#join(child),
      onEnd: (end) => this.#left(end),
    });
  }

  #join(child: ChildProcess): void {
    const number = this.#nextPlane;
    const tablesChanged = async (database: string) => await this.#tell(number, database);
    const calls = openCalls<DataPlaneCalls, MainCalls>(
      { admin: this.#admin, tablesChanged },
      (message) => send(child, message),
    );
    const plane: Plane = { number, process: child, calls, isReady: false };
    this.#nextPlane += 1;
    this.#planes.set(plane.number, plane);
    child.on("message", (message) => {
      const said = message as FromDataPlane | CallMessage;
      if (said.kind === "call") calls.take(said);
      else this.#receive(plane, said);
    });
    for (const order of this.#orders.inForce) send(child, order);
  }

  #ready(plane: Plane): void {
    plane.isReady = true;
    for (const socket of this.#pending.splice(0)) hand(plane, socket);
    const ready = [...this.#planes.values()].filter((one) => one.isReady);
    if (ready.length >= this.#processes.length) this.#starting?.resolve();
  }

  #receive(plane: Plane, message: FromDataPlane): void {
    if (message.kind === "ready") this.#ready(plane);
    if (message.kind === "cancelRequest")
      for (const other of this.#planes.values()) if (other !== plane) send(other.process, message);
    for (const listener of [...this.#listeners]) listener.message(plane.number, message);
  }

  #left({ child, reason, restartInMs }: ProcessEnd): void {
    const plane = [...this.#planes.values()].find((one) => one.process === child);
    if (!plane) return;
    const { number } = plane;
    this.#planes.delete(number);
    plane.calls.close();
    this.#starting?.reject(new Error(`data plane ${number} ended at its start`));
    for (const listener of [...this.#listeners]) listener.left(number);
    if (restartInMs === null) return;
    this.#log.error("data plane ended, its clients are disconnected", {
      plane: number,
      reason,
      restartInMs,
    });
  }
}

function hand({ process }: Plane, socket: Socket): void {
  const message: SocketMessage = { kind: "socket" };
  process.send(message, socket, { keepOpen: false }, (error) => {
    if (error) socket.destroy();
  });
}
