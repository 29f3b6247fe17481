import { SQLSTATE } from "../../core/sqlstate.js";
import type { ShardId } from "../../topology/topology.js";
import type { Cluster } from "../clusters/cluster.js";
import { SessionEnded } from "../errors.js";
import type { Session, SessionHost } from "./session.js";
import { applySettings, type Settings } from "./session-settings.js";

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
  const known = host.cluster(session.database)?.greeting;
  if (known && !mustAsk) return withGiven(known, settings);
  // A statement on a server like any other: not while its database is held.
  await host.begin(session, 0);
  try {
    const cluster = host.cluster(session.database);
    if (!cluster) throw new SessionEnded(SQLSTATE.invalidCatalogName, "database is gone");
    return await ask(session, cluster);
  } finally {
    host.finish(session);
  }
}

async function ask(session: Session, cluster: Cluster): Promise<ReadonlyMap<string, string>> {
  const user = cluster.database.users.get(session.state.userName);
  if (!user) throw new SessionEnded(SQLSTATE.invalidAuthorizationSpecification, "user is gone");
  const pool = cluster.pool(user, 0 as ShardId);
  const server = await pool.acquire();
  const settings = session.state.settings.current;
  try {
    cluster.greeting ??= server.appliedSettings.size === 0 ? new Map(server.parameters) : null;
    const refused = await applySettings(server, settings);
    if (refused)
      throw new SessionEnded(
        (refused.get("C") ?? SQLSTATE.invalidParameterValue) as SessionEnded["sqlState"],
        refused.get("M") ?? "start-up settings refused",
      );
    return withGiven(server.parameters, settings);
  } finally {
    pool.release(server);
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
