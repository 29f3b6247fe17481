import { parseSqlState, SQLSTATE } from "../../core/sqlstate.js";
import { FIRST_SHARD } from "../../topology/topology.js";
import type { ServedDatabase } from "../databases/served-database.js";
import { Loan } from "../execution/loan.js";
import { applySettings } from "../execution/session-settings.js";
import { SessionEnded } from "../session-errors.js";
import type { Session, SessionHost } from "./session.js";

/**
 * ParameterStatus values for a client's login: those of its own user under its own start-up settings. Where they are
 * known from a login like it, none of the servers is needed; else the settings are tried on one.
 * @throws SessionEnded when a setting is refused; SluiceError when no server can be asked
 */
export async function greetingFor(
  session: Session,
  host: SessionHost,
): Promise<ReadonlyMap<string, string>> {
  const { userName, settings, parameters } = session.state;
  const known = host.served(session.database)?.greetings.of(userName, settings.current);
  const greeting = new Map(known ?? (await askHeld(session, host)));
  // Reported as the client gave it; a server need not be asked what it makes of it.
  greeting.set("application_name", shownName(settings.current.get("application_name") ?? ""));
  settings.greeted(greeting);
  parameters.greeted(greeting);
  return greeting;
}

/** A statement on a server like any other: not while its database is held. */
async function askHeld(session: Session, host: SessionHost): Promise<ReadonlyMap<string, string>> {
  await host.begin(session, 0);
  try {
    const served = host.served(session.database);
    if (!served) throw new SessionEnded(SQLSTATE.invalidCatalogName, "database is gone");
    return await ask(session, served);
  } finally {
    host.finish(session);
  }
}

async function ask(session: Session, served: ServedDatabase): Promise<ReadonlyMap<string, string>> {
  const { userName } = session.state;
  const user = served.database.users.get(userName);
  if (!user) throw new SessionEnded(SQLSTATE.invalidAuthorizationSpecification, "user is gone");
  const loan = await Loan.takeAside(session.state, served, { user, shard: FIRST_SHARD });
  const { server } = loan;
  const settings = session.state.settings.current;
  try {
    const refused = await applySettings(server, settings);
    if (refused)
      throw new SessionEnded(
        parseSqlState(refused.get("C")) ?? SQLSTATE.invalidParameterValue,
        refused.get("M") ?? "start-up settings refused",
      );
    served.greetings.learn(userName, settings, server.parameters);
    return server.parameters;
  } finally {
    loan.giveBack();
  }
}

/** As PostgreSQL: an application's name is shown in printable ASCII, at most 63 bytes. */
function shownName(name: string): string {
  const bytes = Buffer.from(name).subarray(0, 63);
  return [...bytes]
    .map((byte) => (byte < 32 || byte > 126 ? "?" : String.fromCharCode(byte)))
    .join("");
}
