import { parseSqlState, SQLSTATE } from "../../core/sqlstate.js";
import { FIRST_SHARD } from "../../topology/topology.js";
import type { ServedDatabase } from "../databases/served-database.js";
import { Loan } from "../execution/loan.js";
import { applySettings, type Settings } from "../execution/session-settings.js";
import { SessionEnded } from "../session-errors.js";
import type { Session, SessionHost } from "./session.js";

// Reported as the client gave them; a server need not be asked what it makes of them.
const TAKEN_AS_GIVEN: ReadonlyMap<string, string> = new Map([
  ["application_name", "application_name"],
]);

/**
 * ParameterStatus values for a client's login. Those of the servers are known after the first login, so
 * that later ones work without a server; start-up settings beyond the usual are tried on one.
 * @throws SessionEnded when a setting is refused; SluiceError when no server can be asked
 */
export async function greetingFor(
  session: Session,
  host: SessionHost,
): Promise<ReadonlyMap<string, string>> {
  const settings = session.state.settings.current;
  const mustAsk = [...settings.keys()].some((name) => !TAKEN_AS_GIVEN.has(name));
  const known = host.served(session.database)?.greeting;
  if (known && !mustAsk) return withGiven(known, settings);
  // A statement on a server like any other: not while its database is held.
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
  const user = served.database.users.get(session.state.userName);
  if (!user) throw new SessionEnded(SQLSTATE.invalidAuthorizationSpecification, "user is gone");
  const loan = await Loan.takeAside(session.state, served, { user, shard: FIRST_SHARD });
  const { server } = loan;
  const settings = session.state.settings.current;
  try {
    served.greeting ??= server.appliedSettings.size === 0 ? new Map(server.parameters) : null;
    const refused = await applySettings(server, settings);
    if (refused)
      throw new SessionEnded(
        parseSqlState(refused.get("C")) ?? SQLSTATE.invalidParameterValue,
        refused.get("M") ?? "start-up settings refused",
      );
    return withGiven(server.parameters, settings);
  } finally {
    loan.giveBack();
  }
}

function withGiven(
  reported: ReadonlyMap<string, string>,
  settings: Settings,
): ReadonlyMap<string, string> {
  const parameters = new Map(reported);
  for (const [setting, parameter] of TAKEN_AS_GIVEN)
    parameters.set(parameter, settings.get(setting) ?? "");
  return parameters;
}
