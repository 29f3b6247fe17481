import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../src/config/read-config.js";
import { clusterOf } from "../../../src/control/cluster-directory.js";
import { topologyFromConfig } from "../../../src/proxy/databases/topology-from-config.js";

interface Given {
  /** Of the two shards' entries, beside name, host and shard. */
  readonly servers?: readonly [string, string];
  /** Of the user, beside name, database and schema_admin. */
  readonly user?: string;
}

function configOf({ servers = ["", ""], user = 'password = "client"' }: Given) {
  const entries = servers.map(
    (more, shard) =>
      `[[databases]]\nname = "shop"\nhost = "h${shard}"\nshard = ${shard}\n${more}\n`,
  );
  return parseConfig({
    pgdog: `${entries.join("")}[[sharded_tables]]\ndatabase = "shop"\ncolumn = "id"\n`,
    users: `[[users]]\nname = "app"\ndatabase = "shop"\nschema_admin = true\n${user}\n`,
  });
}

/** What clients' statements and our own work prove to the two shards. */
function logins(given: Given) {
  const config = configOf(given);
  const user = topologyFromConfig(config, 1, {}).databases.get("shop")?.users.get("app");
  const clients = [...(user?.logins.values() ?? [])].map((login) => [login.user, login.password]);
  const own = clusterOf(config, "shop").shards.map((shard) => [shard.user, shard.password]);
  return { clients, own };
}

describe("what is proved to servers is the same for clients' statements and for our own", () => {
  const both = (login: readonly [string, string | null]) => [login, login];
  it.each([
    ["the user's own", {}, both(["app", "client"])],
    [
      "the user's for servers",
      { user: 'password = "client"\nserver_user = "s"\nserver_password = "sp"' },
      both(["s", "sp"]),
    ],
    [
      "an empty server_password says: none",
      { user: 'password = "client"\nserver_password = ""' },
      both(["app", null]),
    ],
    [
      "those of the server go before the user's",
      { servers: ['user = "d"\npassword = "dp"', 'user = "d"\npassword = "dp"'] },
      both(["d", "dp"]),
    ],
    [
      "each shard has its own",
      { servers: ['user = "d0"\npassword = "p0"', 'user = "d1"\npassword = "p1"'] },
      [
        ["d0", "p0"],
        ["d1", "p1"],
      ],
    ],
  ] as const)("%s", (_, given, expected) => {
    expect(logins(given)).toEqual({ clients: expected, own: expected });
  });
});
