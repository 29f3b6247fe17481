/**
 * The configuration as the rest of Sluice sees it: pgdog.toml and users.toml under PgDog's key names in
 * camel case, defaults filled in (reference: section 3 of PgDog's documentation), and sluice.toml.
 * Plain JSON: it travels to child processes as it is.
 */
export type PoolerMode = "transaction" | "session" | "statement";
export type AuthType = "scram" | "md5" | "plain" | "trust";
export type KeyType = "bigint" | "uuid" | "varchar";

export interface GeneralConfig {
  readonly host: string;
  readonly port: number;
  /** Data-plane processes. */
  readonly workers: number;
  readonly defaultPoolSize: number;
  readonly minPoolSize: number;
  readonly poolerMode: PoolerMode;
  readonly authType: AuthType;
  readonly checkoutTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** 0: for ever. */
  readonly serverLifetimeMs: number;
  readonly serverLifetimeJitterMs: number;
  /** On one server connection. */
  readonly preparedStatementsLimit: number;
  readonly clientLoginTimeoutMs: number;
  readonly shutdownTimeoutMs: number;
  readonly cutoverTrafficStopThresholdBytes: number;
  readonly cutoverSaveConfig: boolean;
  readonly reshardingCopyFormat: "binary" | "text";
  readonly reshardingParallelCopies: number;
  readonly twoPhaseCommit: boolean | "auto";
  /** SLUICE_LOG_LEVEL goes first: `logLevel`. */
  readonly logLevel: string;
  /** Keys of [general] that are read and accepted but mean nothing here yet, shown by SHOW CONFIG. */
  readonly others: Readonly<Record<string, string | number | boolean>>;
}

export interface DatabaseConfig {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly shard: number;
  readonly role: "primary" | "replica" | "auto";
  /** The database inside the server; default: `name`. */
  readonly databaseName: string;
  readonly user: string | null;
  readonly password: string | null;
  readonly poolSize: number | null;
  readonly poolerMode: PoolerMode | null;
}

export interface UserConfig {
  readonly name: string;
  readonly database: string;
  readonly password: string | null;
  readonly serverUser: string | null;
  readonly serverPassword: string | null;
  readonly poolSize: number | null;
  readonly poolerMode: PoolerMode | null;
  /** Used for DDL, COPY and replication of this database. */
  readonly schemaAdmin: boolean;
}

export interface ShardedTableConfig {
  readonly database: string;
  /** null: any table that has the column. */
  readonly name: string | null;
  readonly schema: string | null;
  readonly column: string;
  readonly dataType: KeyType;
}

export interface RewriteConfig {
  readonly shardKey: "error" | "rewrite" | "ignore";
  readonly splitInserts: "error" | "rewrite";
}

export interface TemporalConfig {
  readonly address: string;
  readonly namespace: string;
  /** TEMPORAL_API_KEY. Secret. */
  readonly apiKey?: string;
  /** Files of TEMPORAL_TLS_*; there: the connection is encrypted. */
  readonly tls?: {
    readonly certPath?: string;
    readonly keyPath?: string;
    readonly caPath?: string;
    readonly serverName?: string;
  };
}

/** sluice.toml: what PgDog's files have no place for. Defaults in docs/configuration.md. */
export interface SluiceConfig {
  /** Stable over restarts; default: host name and port. */
  readonly nodeId: string;
  readonly temporal: TemporalConfig;
  /** Mover processes of this node. */
  readonly movers: number;
  /** Longest pause that a switch may make; past it the switch undoes itself. */
  readonly pauseCapMs: number;
  /** A switch begins only when the predicted pause fits this. */
  readonly pauseBudgetMs: number;
  /** Open transactions at the hold: wait within the cap and undo, or end them. */
  readonly openTransactions: "wait" | "end";
  /** Unreachable node at arm: abort the attempt, or leave it to the gate. */
  readonly silentNode: "abort" | "fence";
  readonly holdMaxClients: number;
  readonly holdMaxBytes: number;
  /** Age up to which a clean verification pass counts. */
  readonly verifyMaxAgeMs: number;
  /** Target size of a copied key range, in rows. */
  readonly copyRangeRows: number;
  /** Tables without a usable replica identity get one for the time of the migration, or are refused. */
  readonly replicaIdentity: "auto" | "refuse";
  /** Unique constraints that hold on each shard alone after the switch are told, or refused. */
  readonly uniqueWithoutShardingKey: "warn" | "refuse";
  /** Tables with rows that the publication leaves out, "schema.table", accepted as left behind. */
  readonly leftBehind: readonly string[];
  /** Sharded tables of ours get a CHECK that their rows belong to their shard. */
  readonly placementGuard: boolean;
  readonly adminApiTimeoutMs: number;
}

export interface Config {
  readonly general: GeneralConfig;
  readonly databases: readonly DatabaseConfig[];
  readonly users: readonly UserConfig[];
  readonly shardedTables: readonly ShardedTableConfig[];
  /** Tables named in [[omnisharded_tables]], by database; every unmatched table is omnisharded too. */
  readonly omnishardedTables: Readonly<Record<string, readonly string[]>>;
  readonly admin: { readonly name: string; readonly user: string; readonly password: string };
  readonly rewrite: RewriteConfig;
  readonly pgDumpPath: string;
  readonly sluice: SluiceConfig;
  /** What was read and has no effect here, one sentence each, for the log. */
  readonly warnings: readonly string[];
}
