import type { Config, DatabaseConfig, UserConfig } from "./model.js";

/** What we prove to a server. Secret: never logged, shown or put in a payload. */
export interface Credentials {
  readonly user: string;
  readonly password: string | null;
}

/**
 * A user's own credentials towards servers: those of server_user, else those that clients prove. An empty
 * server_password says "none", so that "none" too can move with a cluster.
 */
export function userCredentials(user: UserConfig): Credentials {
  const password = user.serverPassword ?? user.password;
  return { user: user.serverUser ?? user.name, password: password === "" ? null : password };
}

/** What `user` proves to this server: `[[databases]] user` and `password` go before the user's own. */
export function serverCredentials(database: DatabaseConfig, user: UserConfig): Credentials {
  const own = userCredentials(user);
  return { user: database.user ?? own.user, password: database.password ?? own.password };
}

/**
 * Whose connections do DDL, COPY and replication: the first with `schema_admin`, else the first user of
 * the database; null where it has no user.
 */
export function schemaAdminOf(config: Config, database: string): UserConfig | null {
  const users = config.users.filter((user) => user.database === database);
  return users.find((user) => user.schemaAdmin) ?? users[0] ?? null;
}

/**
 * What we prove to this server in our own work: the schema admin's, else the server's own where the database
 * has no user; null where there is nobody.
 */
export function ownerCredentials(config: Config, database: DatabaseConfig): Credentials | null {
  const admin = schemaAdminOf(config, database.name);
  if (admin) return serverCredentials(database, admin);
  return database.user === null ? null : { user: database.user, password: database.password };
}
