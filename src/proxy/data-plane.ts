import { randomInt, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import type { Config } from "../config/model.js";
import { assertNever } from "../core/assert.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { Log } from "../observe/log.js";
import { encodeError, encodeThrown } from "../wire/error-fields.js";
import type { AdminRow, FromDataPlane, MainCalls, ShowWhat, ToDataPlane } from "./channel.js";
import { AdminSession } from "./client/admin-session.js";
import { ClientConnection } from "./client/client-connection.js";
import {
  type Account,
  type CancelKey,
  encodeWelcome,
  makeCancelKey,
  proveIdentity,
  readStartup,
  type StartupResult,
} from "./client/login.js";
import type { Cluster } from "./clusters/cluster.js";
import { Clusters } from "./clusters/clusters.js";
import { HoldGivenUp, SessionEnded, SessionRefused } from "./errors.js";
import { HoldDriver } from "./hold/hold-driver.js";
import { Maintenance } from "./hold/maintenance.js";
import { greetingFor } from "./session/greeting.js";
import { PreparedStatements } from "./session/prepared-statements.js";
import { Session, type SessionHost } from "./session/session.js";
import { SessionSettings, startupSettings } from "./session/session-settings.js";
import { showClients, showPools, showServers, showStats } from "./show.js";

/** Connections that have not proved who they are; more are turned away. */
const MOST_LOGINS = 1_000;
const REFRESH_TIMEOUT_MS = 15_000;
/** Between two questions about the same decision. */
const REFRESH_PAUSE_MS = 100;

type Startup = Extract<StartupResult, { kind: "startup" }>;

/**
 * Serves clients: the part of a node that keeps working while everything else is down. Told by messages what
 * to serve, when to hold and when to go on; decides nothing itself.
 */
export class DataPlane implements SessionHost {
  readonly #send: (message: FromDataPlane) => void;
  readonly #log: Log;
  readonly #clusters: Clusters;
  readonly #sessions = new Map<number, Session>();
  readonly #keys = new Map<number, CancelKey>();
  readonly #registry = new PreparedStatements();
  readonly #holds: HoldDriver;
  readonly #maintenance = new Maintenance();
  readonly #admin: MainCalls["admin"];
  readonly #refreshes = new Map<
    string,
    { readonly done: Promise<void>; readonly resolve: () => void }
  >();
  #config: Config | null = null;
  #logins = 0;
  #isShuttingDown = false;
  #onEmpty: (() => void) | null = null;

  constructor(options: {
    readonly send: (message: FromDataPlane) => void;
    readonly admin: MainCalls["admin"];
    readonly log: Log;
  }) {
    this.#send = options.send;
    this.#log = options.log;
    this.#clusters = new Clusters(options.log);
    this.#holds = new HoldDriver({ ...options, sessions: this.#sessions });
    this.#admin = options.admin;
  }

  handle(message: ToDataPlane): void {
    switch (message.kind) {
      case "topology":
        this.#config = message.config;
        this.#clusters.replace(message);
        this.#reconcileMaintenance();
        return;
      case "hold":
        this.#holds.hold(message, true);
        return;
      case "release":
        this.#holds.release(message.token);
        return;
      case "warm":
        for (const name of message.databases) void this.#clusters.get(name)?.warm();
        return;
      case "refreshed":
        this.#refreshes.get(message.database)?.resolve();
        return;
      case "maintenance":
        this.#maintenance.set(message.isOn, message.database);
        this.#reconcileMaintenance();
        return;
      case "pause":
        this.#clusters.setPaused(message);
        return;
      case "reconnect":
        this.#clusters.reconnect();
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
    const client = new ClientConnection(socket);
    if (this.#logins >= MOST_LOGINS) {
      const message = "too many connections are logging in";
      client.end(
        encodeError({ severity: "FATAL", sqlState: SQLSTATE.tooManyConnections, message }),
      );
      return;
    }
    this.#logins++;
    const timeoutMs = this.#config?.general.clientLoginTimeoutMs ?? 60_000;
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    this.#login(client, timer)
      .catch((error: unknown) => client.end(encodeThrown(error, "FATAL")))
      .finally(() => {
        this.#logins--;
        clearTimeout(timer);
      });
  }

  /** Rows of this data plane, in the column order of the command. */
  show(what: ShowWhat): readonly AdminRow[] {
    switch (what) {
      case "clients":
        return showClients([...this.#sessions.values()]);
      case "pools":
        return showPools(this.#clusters.all);
      case "servers":
        return showServers(this.#clusters.all);
      case "stats":
        return showStats(this.#clusters.all);
    }
  }

  /** Ends idle sessions at once, others with their transaction, and what is left after the time. */
  async shutdown(timeoutMs: number): Promise<void> {
    this.#isShuttingDown = true;
    const isEmpty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    for (const session of this.#sessions.values()) if (session.isIdle) session.end(goingDown());
    const timer = setTimeout(() => {
      for (const session of this.#sessions.values()) session.end(goingDown());
    }, timeoutMs);
    if (this.#sessions.size > 0) await isEmpty;
    clearTimeout(timer);
    this.#holds.stop();
    this.#clusters.destroy();
  }

  cluster(database: string): Cluster | null {
    return this.#clusters.get(database);
  }

  begin(session: Session, bytes: number): Promise<void> | null {
    return this.#holds.begin(session, bytes);
  }

  finish(session: Session): void {
    this.#holds.finish(session);
    if (this.#isShuttingDown && session.isBetweenTransactions) session.end(goingDown());
  }

  async refresh(cluster: Cluster): Promise<void> {
    const { name, epoch } = cluster.database;
    let refresh = this.#refreshes.get(name);
    if (!refresh) {
      let resolve = () => {};
      const done = new Promise<void>((settle) => {
        resolve = settle;
      });
      refresh = { done, resolve };
      this.#refreshes.set(name, refresh);
      this.#send({ kind: "stale", database: name, epoch });
    }
    const { done } = refresh;
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new HoldGivenUp(name, "its tables are closed and nobody says where they are")),
        REFRESH_TIMEOUT_MS,
      );
    });
    try {
      await Promise.race([done, tooLate]);
    } finally {
      clearTimeout(timer);
      this.#refreshes.delete(name);
    }
    // Nothing is held and nothing has moved: the decision is being made. Look again a little later.
    if (!this.#holds.isHeld(name) && this.#clusters.get(name) === cluster)
      await new Promise((resolve) => setTimeout(resolve, REFRESH_PAUSE_MS));
  }

  closed(session: Session): void {
    this.#holds.unpark(session, new HoldGivenUp(session.database, "the client is gone"));
    this.#sessions.delete(session.id);
    this.#keys.delete(session.id);
    if (this.#sessions.size === 0) this.#onEmpty?.();
  }

  async #login(client: ClientConnection, timer: NodeJS.Timeout): Promise<void> {
    const startup = await readStartup(client);
    if (startup.kind === "gone") {
      client.end();
      return;
    }
    if (startup.kind === "cancel") {
      await this.#cancelOrAsk(startup.processId, startup.secret);
      client.end();
      return;
    }
    const config = this.#config;
    if (!config) throw new SessionEnded(SQLSTATE.cannotConnectNow, "the proxy is starting up");
    const isAdmin = startup.database === config.admin.name;
    if (this.#isShuttingDown && !isAdmin) throw goingDown();
    const account = isAdmin ? adminAccount(config, startup.user) : this.#accountOf(config, startup);
    const claim = { ...account, user: startup.user };
    if (!(await proveIdentity(client, config.general.authType, claim))) return;
    // Proved: what follows may wait for a server, or for a hold to end.
    clearTimeout(timer);
    if (isAdmin) this.#startAdmin(client, startup);
    else await this.#startSession(client, startup);
  }

  async #startSession(client: ClientConnection, startup: Startup): Promise<void> {
    const { database, user: userName } = startup;
    const cluster = this.#clusters.get(database);
    const user = cluster?.database.users.get(userName);
    if (!user)
      throw new SessionEnded(SQLSTATE.invalidCatalogName, `database "${database}" does not exist`, {
        hint: "Names are those of [[databases]] in pgdog.toml, with a user of the same database.",
      });
    const id = this.#freeId();
    const session = new Session({
      id,
      database,
      host: this,
      log: this.#log.child({ client: id, database, user: userName }),
      state: {
        client,
        userName,
        settings: new SessionSettings(startupSettings(startup.parameters)),
        statements: new Map(),
        registry: this.#registry,
        transaction: "none",
        beginSql: "",
        tie: null,
        mode: user.poolerMode,
      },
    });
    const key = makeCancelKey(id, startup.minor);
    this.#sessions.set(id, session);
    this.#keys.set(id, key);
    try {
      const parameters = await greetingFor(session, this);
      client.write(encodeWelcome(parameters, key));
    } catch (error) {
      session.end(error);
      return;
    }
    client.use(session);
  }

  #startAdmin(client: ClientConnection, startup: Startup): void {
    const id = this.#freeId();
    client.write(encodeWelcome(AdminSession.parameters, makeCancelKey(id, startup.minor)));
    client.use(new AdminSession(client, startup.user, this.#admin));
  }

  /** Unknown users have an account nobody can prove, and so has a user of another database. */
  #accountOf(config: Config, { database, user }: Startup): Account {
    const own = this.#clusters.get(database)?.database.users.get(user);
    if (own) return { isKnown: true, password: own.password };
    // Whoever proves a password of theirs may learn that the database is not there.
    const elsewhere = config.users.find((each) => each.name === user);
    if (elsewhere && !this.#clusters.get(database))
      return { isKnown: true, password: elsewhere.password };
    return { isKnown: false, password: null };
  }

  async #cancelOrAsk(processId: number, secret: Buffer): Promise<void> {
    if (this.#keys.has(processId)) await this.#cancel(processId, secret);
    else this.#send({ kind: "cancelRequest", processId, secretHex: secret.toString("hex") });
  }

  async #cancel(processId: number, secret: Buffer): Promise<void> {
    const key = this.#keys.get(processId);
    if (!key || key.secret.length !== secret.length || !timingSafeEqual(key.secret, secret)) return;
    const session = this.#sessions.get(processId);
    const canceled = "canceling statement due to user request";
    const error = new SessionRefused(SQLSTATE.queryCanceled, canceled);
    if (!session || this.#holds.unpark(session, error)) return;
    await session.cancel();
  }

  #freeId(): number {
    for (;;) {
      // Random, so that the data planes of a node hardly ever have the same.
      const id = randomInt(1, 0x7fffffff);
      if (!this.#sessions.has(id)) return id;
    }
  }

  #reconcileMaintenance(): void {
    const { hold, release } = this.#maintenance.reconcile(this.#clusters.names);
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

function adminAccount(config: Config, user: string): Account {
  const isKnown = user === config.admin.user;
  return { isKnown, password: isKnown ? config.admin.password : null };
}

function goingDown(): SessionEnded {
  return new SessionEnded(SQLSTATE.adminShutdown, "the proxy is shutting down", {
    hint: "Connect again.",
  });
}
