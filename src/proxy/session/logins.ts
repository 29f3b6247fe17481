import type { Socket } from "node:net";
import { Lender } from "../../backend/lender.js";
import type { Config } from "../../config/model.js";
import { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Log } from "../../observe/log.js";
import { encodeError, encodeThrown } from "../../wire/error-fields.js";
import type { MainCalls } from "../channel.js";
import { AdminSession } from "../client/admin-session.js";
import { ClientConnection } from "../client/client-connection.js";
import {
  type Account,
  encodeWelcome,
  makeCancelKey,
  proveIdentity,
  readStartup,
  type StartupResult,
} from "../client/login.js";
import type { ServedDatabases } from "../databases/served-databases.js";
import { ClientParameters } from "../execution/client-parameters.js";
import { PreparedStatements } from "../execution/prepared-statements.js";
import { SessionSettings, startupSettings } from "../execution/session-settings.js";
import { newCounters } from "../execution/session-state.js";
import { SessionEnded } from "../session-errors.js";
import { greetingFor } from "./greeting.js";
import { PendingLogins } from "./pending-logins.js";
import { Session, type SessionHost } from "./session.js";
import type { Sessions } from "./sessions.js";

/** Connections that have not proved who they are; with more, the oldest go. */
const MOST_LOGINS = 1_000;

const TOO_MANY_LOGINS = encodeError({
  severity: "FATAL",
  sqlState: SQLSTATE.tooManyConnections,
  message: "too many connections are logging in",
});

type Startup = Extract<StartupResult, { kind: "startup" }>;

export interface LoginHost extends SessionHost {
  /** A CancelRequest, of a client of this data plane or not. */
  cancelRequested(processId: number, secret: Buffer): Promise<void>;
}

/** From an accepted socket to a session: start-up packet, proof of identity, greeting. */
export class Logins {
  readonly #host: LoginHost;
  readonly #databases: ServedDatabases;
  readonly #sessions: Sessions;
  readonly #admin: MainCalls["admin"];
  readonly #log: Log;
  readonly #registry = new PreparedStatements();
  #config: Config | null = null;
  readonly #pending = new PendingLogins(MOST_LOGINS);
  #isClosed = false;

  constructor(options: {
    readonly host: LoginHost;
    readonly databases: ServedDatabases;
    readonly sessions: Sessions;
    readonly admin: MainCalls["admin"];
    readonly log: Log;
  }) {
    this.#host = options.host;
    this.#databases = options.databases;
    this.#sessions = options.sessions;
    this.#admin = options.admin;
    this.#log = options.log;
  }

  /** Who may log in, and how; until then nobody. */
  configure(config: Config): void {
    this.#config = config;
  }

  /** From now on only the admin database takes clients. */
  close(): void {
    this.#isClosed = true;
  }

  /** Takes over an accepted socket. */
  attach(socket: Socket): void {
    const client = new ClientConnection(socket);
    const timeoutMs = this.#config?.general.clientLoginTimeoutMs ?? 60_000;
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    const leave = this.#pending.add({
      address: client.address,
      giveUp: () => client.end(TOO_MANY_LOGINS),
    });
    const proved = () => {
      leave();
      clearTimeout(timer);
    };
    this.#login(client, proved)
      .catch((error: unknown) => client.end(encodeThrown(error, "FATAL")))
      .finally(proved);
  }

  async #login(client: ClientConnection, proved: () => void): Promise<void> {
    const startup = await readStartup(client);
    if (startup.kind === "gone") {
      client.end();
      return;
    }
    if (startup.kind === "cancel") {
      await this.#host.cancelRequested(startup.processId, startup.secret);
      client.end();
      return;
    }
    try {
      await this.#admit(client, startup, proved);
    } catch (error) {
      this.#logRefusal(client, startup, error);
      throw error;
    }
  }

  async #admit(client: ClientConnection, startup: Startup, proved: () => void): Promise<void> {
    const config = this.#config;
    if (!config) throw new SessionEnded(SQLSTATE.cannotConnectNow, "the proxy is starting up");
    const isAdmin = startup.database === config.admin.name;
    if (this.#isClosed && !isAdmin) throw goingDown();
    const account = isAdmin ? adminAccount(config, startup.user) : this.#accountOf(config, startup);
    const claim = { ...account, user: startup.user };
    // Trust is for the databases: who may stop the proxy has a password.
    const { authType } = config.general;
    const method = isAdmin && authType === "trust" ? "scram" : authType;
    if (!(await proveIdentity(client, method, claim))) return;
    // Proved: what follows may wait for a server, or for a hold to end.
    proved();
    if (isAdmin) this.#startAdmin(client, startup);
    else await this.#startSession(client, startup);
  }

  /** Who tried, and from where; never what was shown as proof. */
  #logRefusal(client: ClientConnection, startup: Startup, error: unknown): void {
    const { user, database } = startup;
    const cause = error instanceof SluiceError ? error.message : "unexpected error";
    this.#log.warn("login refused", { address: client.address, user, database, error: cause });
  }

  async #startSession(client: ClientConnection, startup: Startup): Promise<void> {
    const { database, user: userName } = startup;
    const user = this.#databases.get(database)?.database.users.get(userName);
    if (!user)
      throw new SessionEnded(SQLSTATE.invalidCatalogName, `database "${database}" does not exist`, {
        hint: "Names are those of [[databases]] in pgdog.toml, with a user of the same database.",
      });
    const id = this.#sessions.freeId();
    const session = new Session({
      id,
      database,
      host: this.#host,
      log: this.#log.child({ client: id, database, user: userName }),
      state: {
        client,
        userName,
        parameters: new ClientParameters(),
        lender: new Lender(),
        settings: new SessionSettings(startupSettings(startup.parameters)),
        statements: new Map(),
        registry: this.#registry,
        counters: newCounters(),
        transaction: "none",
        beginSql: "",
        tie: null,
        mode: user.poolerMode,
      },
    });
    const key = makeCancelKey(id, startup.minor);
    this.#sessions.add(session, key);
    try {
      const parameters = await greetingFor(session, this.#host);
      client.write(encodeWelcome(parameters, key));
    } catch (error) {
      this.#logRefusal(client, startup, error);
      session.end(error);
      return;
    }
    client.use(session);
  }

  #startAdmin(client: ClientConnection, startup: Startup): void {
    const id = this.#sessions.freeId();
    client.write(encodeWelcome(AdminSession.parameters, makeCancelKey(id, startup.minor)));
    client.use(new AdminSession(client, startup.user, this.#admin));
  }

  /** Unknown users have an account nobody can prove, and so has a user of another database. */
  #accountOf(config: Config, { database, user }: Startup): Account {
    const own = this.#databases.get(database)?.database.users.get(user);
    if (own) return { isKnown: true, password: own.password };
    // Whoever proves a password of theirs may learn that the database is not there.
    const elsewhere = config.users.find((each) => each.name === user);
    if (elsewhere && !this.#databases.get(database))
      return { isKnown: true, password: elsewhere.password };
    return { isKnown: false, password: null };
  }
}

function adminAccount(config: Config, user: string): Account {
  const isKnown = user === config.admin.user;
  return { isKnown, password: isKnown ? config.admin.password : null };
}

export function goingDown(): SessionEnded {
  return new SessionEnded(SQLSTATE.adminShutdown, "the proxy is shutting down", {
    hint: "Connect again.",
  });
}
