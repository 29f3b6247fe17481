import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { MaintenanceFlag } from "../../admin/host.js";
import type { DataPlaneGroup } from "../../control/node/data-plane-group.js";
import type { Log } from "../../observe/log.js";
import type { AdminRow, FromDataPlane, ToDataPlane } from "../../proxy/channel.js";
import { StandingOrders } from "./standing-orders.js";

/** Goes with a client's socket. */
export interface SocketMessage {
  readonly kind: "socket";
}

interface Plane {
  readonly number: number;
  readonly process: ChildProcess;
  readonly startedAtMs: number;
  isReady: boolean;
}

type Listener = Parameters<DataPlaneGroup["subscribe"]>[0];

const ENTRY = fileURLToPath(new URL("../data-plane-process.js", import.meta.url));
/** A data plane that lived this long failed by accident, not at its start. */
const STABLE_MS = 10_000;
const MIN_RESTART_DELAY_MS = 50;
const MAX_RESTART_DELAY_MS = 5_000;
/** Clients that wait while no data plane is up; past it new ones are closed, as a full backlog would. */
const MAX_PENDING_SOCKETS = 1_024;
const SHOW_TIMEOUT_MS = 2_000;
const LAST_WORDS_MS = 500;

/**
 * The data-plane processes of this node. The main process listens and hands accepted sockets round: unlike
 * with `node:cluster`, nothing of the listening socket lives in a data plane, so no client is accepted before
 * the boot has read the decisions (R32), a restarted data plane gets its orders before its first client,
 * and a shutdown stops at one place. A connection costs one message; bytes never pass the main process.
 * Both ways accept as many: 3,700 to 4,900 connections a second against 3,600 to 5,800 (two cores, 16 clients that
 * connect and leave, two runs each, 2026-11-22).
 */
export class DataPlaneProcesses implements DataPlaneGroup {
  readonly #count: number;
  readonly #log: Log;
  readonly #planes = new Map<number, Plane>();
  readonly #listeners = new Set<Listener>();
  readonly #orders = new StandingOrders();
  readonly #pending: Socket[] = [];
  #nextPlane = 0;
  #nextShow = 0;
  #turn = 0;
  #restartDelayMs = MIN_RESTART_DELAY_MS;
  #isStopping = false;

  constructor(options: { readonly count: number; readonly log: Log }) {
    this.#count = options.count;
    this.#log = options.log;
  }

  get planes(): readonly number[] {
    return [...this.#planes.keys()];
  }

  /** Operator's flags and the holds of switches in force. */
  get maintenanceFlags(): readonly MaintenanceFlag[] {
    return this.#orders.maintenanceFlags;
  }

  /** Forks all of them; resolves when each can take clients. */
  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const unsubscribe = this.subscribe({
        message: () => {
          const ready = [...this.#planes.values()].filter((plane) => plane.isReady).length;
          if (ready < this.#count) return;
          unsubscribe();
          resolve();
        },
        left: (plane) => {
          unsubscribe();
          reject(new Error(`data plane ${plane} ended at its start`));
        },
      });
      for (let index = 0; index < this.#count; index += 1) this.#fork();
    });
  }

  broadcast(message: ToDataPlane): void {
    this.#orders.note(message);
    for (const plane of this.#planes.values()) this.#send(plane, message);
  }

  sendTo(number: number, message: ToDataPlane): void {
    const plane = this.#planes.get(number);
    if (plane) this.#send(plane, message);
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
    if (plane) this.#hand(plane, socket);
    else if (this.#isStopping || this.#pending.length >= MAX_PENDING_SOCKETS) socket.destroy();
    else this.#pending.push(socket);
  }

  /** Rows of all data planes; one that does not answer in time, or ends, has none. */
  async gather(what: Extract<ToDataPlane, { kind: "show" }>["what"]): Promise<readonly AdminRow[]> {
    const waiting = new Set(this.planes);
    const rows: AdminRow[] = [];
    if (waiting.size === 0) return rows;
    this.#nextShow += 1;
    const id = this.#nextShow;
    return await new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        unsubscribe();
        resolve(rows);
      };
      const settle = (plane: number) => {
        waiting.delete(plane);
        if (waiting.size === 0) finish();
      };
      const timer = setTimeout(finish, SHOW_TIMEOUT_MS);
      const unsubscribe = this.subscribe({
        message: (plane, message) => {
          if (message.kind !== "shown" || message.id !== id) return;
          rows.push(...message.rows);
          settle(plane);
        },
        left: settle,
      });
      for (const plane of waiting) this.sendTo(plane, { kind: "show", id, what });
    });
  }

  /**
   * Tells all to let their clients finish; resolves when no client is left, or past the time. The processes
   * stay, to refuse new clients, until `kill`.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const socket of this.#pending.splice(0)) socket.destroy();
    const waiting = new Set(this.planes);
    const drained = new Promise<void>((resolve) => {
      const settle = (plane: number) => {
        waiting.delete(plane);
        if (waiting.size === 0) resolve();
      };
      this.subscribe({
        message: (plane, message) => {
          if (message.kind === "drained") settle(plane);
        },
        left: settle,
      });
      if (waiting.size === 0) resolve();
    });
    this.broadcast({ kind: "shutdown", timeoutMs });
    // The data planes end their clients at the time; the grace is for their last words.
    await Promise.race([drained, sleep(timeoutMs + LAST_WORDS_MS, undefined, { ref: false })]);
  }

  /** Ends all processes now, clients or not; resolves when they are gone. */
  async kill(): Promise<void> {
    this.#isStopping = true;
    const processes = [...this.#planes.values()].map((plane) => plane.process);
    const gone = Promise.all(processes.map((child) => once(child, "exit")));
    for (const child of processes) child.kill("SIGKILL");
    await gone;
  }

  #fork(): void {
    const number = this.#nextPlane;
    this.#nextPlane += 1;
    const child = fork(ENTRY, [String(number)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    const plane: Plane = {
      number,
      process: child,
      startedAtMs: performance.now(),
      isReady: false,
    };
    this.#planes.set(number, plane);
    child.on("message", (message) => this.#receive(plane, message as FromDataPlane));
    // Failing to send to a process that is ending is its end's business, told by "exit".
    child.on("error", (error) =>
      this.#log.warn("data plane cannot be reached", { plane: number, error: error.message }),
    );
    child.once("exit", (code, signal) => this.#left(plane, signal ?? String(code)));
    for (const order of this.#orders.inForce) this.#send(plane, order);
  }

  #receive(plane: Plane, message: FromDataPlane): void {
    if (message.kind === "listening" && !plane.isReady) {
      plane.isReady = true;
      for (const socket of this.#pending.splice(0)) this.#hand(plane, socket);
    }
    if (message.kind === "cancelRequest")
      for (const other of this.#planes.values()) if (other !== plane) this.#send(other, message);
    for (const listener of [...this.#listeners]) listener.message(plane.number, message);
  }

  #left(plane: Plane, reason: string): void {
    this.#planes.delete(plane.number);
    for (const listener of [...this.#listeners]) listener.left(plane.number);
    if (this.#isStopping) return;
    const wasStable = performance.now() - plane.startedAtMs > STABLE_MS;
    this.#restartDelayMs = wasStable
      ? MIN_RESTART_DELAY_MS
      : Math.min(MAX_RESTART_DELAY_MS, this.#restartDelayMs * 2);
    const delayMs = this.#restartDelayMs;
    this.#log.error("data plane ended, its clients are disconnected", {
      plane: plane.number,
      reason,
      restartInMs: delayMs,
    });
    setTimeout(() => {
      if (!this.#isStopping) this.#fork();
    }, delayMs);
  }

  #hand(plane: Plane, socket: Socket): void {
    const message: SocketMessage = { kind: "socket" };
    plane.process.send(message, socket, { keepOpen: false }, (error) => {
      if (error) socket.destroy();
    });
  }

  #send(plane: Plane, message: ToDataPlane): void {
    // Without a callback a failed send would be an "error" event; the exit tells the same.
    if (plane.process.connected) plane.process.send(message, () => {});
  }
}
