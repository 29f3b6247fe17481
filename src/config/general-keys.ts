/**
 * Every key of [general] that PgDog's files may hold. The table is the one place that knows them: reader,
 * environment variables (PGDOG_<KEY>), SHOW CONFIG and docs/configuration.md come from it.
 */
export interface GeneralKey {
  readonly type: "integer" | "number" | "boolean" | "booleanOrAuto" | "string" | readonly string[];
  /** null: unset, or PgDog's "off". */
  readonly initial: string | number | boolean | null;
  readonly min?: number;
  readonly max?: number;
  /**
   * What Sluice does with it; null: accepted, and without effect so far. A key with an effect has a field of its
   * own in GeneralConfig, and that field a reader (test/unit/docs/effects.test.ts).
   */
  readonly effect: string | null;
}

type Options = Pick<GeneralKey, "min" | "max"> & { readonly effect?: string };

const integer = (initial: number | null, { effect, ...range }: Options = {}): GeneralKey => ({
  type: "integer",
  initial,
  ...range,
  effect: effect ?? null,
});
const number = (initial: number): GeneralKey => ({ type: "number", initial, effect: null });
const boolean = (initial: boolean, effect?: string): GeneralKey => ({
  type: "boolean",
  initial,
  effect: effect ?? null,
});
/** true, false or "auto", which it is unless set. */
const booleanOrAuto = (effect: string): GeneralKey => ({
  type: "booleanOrAuto",
  initial: "auto",
  effect,
});
const string = (initial: string | null, effect?: string): GeneralKey => ({
  type: "string",
  initial,
  effect: effect ?? null,
});
const choice = (values: readonly string[], effect?: string): GeneralKey => ({
  type: values,
  initial: values[0] ?? null,
  effect: effect ?? null,
});

const PORT = { min: 1, max: 65_535 };
export const POOLER_MODES = ["transaction", "session", "statement"] as const;
export const AUTH_TYPES = ["scram", "md5", "plain", "trust"] as const;
export const COPY_FORMATS = ["binary", "text"] as const;

export const GENERAL_KEYS = {
  host: string("0.0.0.0", "address to listen on"),
  port: integer(6432, { ...PORT, effect: "port to listen on" }),
  workers: integer(2, { max: 256, effect: "data-plane processes; 0 counts as 1" }),

  default_pool_size: integer(10, {
    min: 1,
    effect: "server connections per user, database and shard of one data plane",
  }),
  min_pool_size: integer(1, { effect: "connections kept open" }),
  pooler_mode: choice(POOLER_MODES, "when a server connection goes back"),
  checkout_timeout: integer(5_000, { effect: "ms that a client waits for a server connection" }),
  connect_timeout: integer(5_000, { effect: "ms for a new server connection" }),
  connect_attempts: integer(1),
  connect_attempt_delay: integer(0),
  idle_timeout: integer(60_000, { effect: "ms until an idle server connection is closed" }),
  server_lifetime: integer(86_400_000, {
    effect: "ms after which a server connection is closed, when it is at rest; 0: never",
  }),
  server_lifetime_jitter: integer(0, {
    effect: "ms by which that differs from connection to connection, at most, up and down",
  }),
  rollback_timeout: integer(5_000),
  connection_recovery: string("recover"),
  client_connection_recovery: string("drop"),

  auth_type: choice(
    AUTH_TYPES,
    "what clients prove themselves with, to the admin database always a password",
  ),
  passthrough_auth: string("disabled"),
  client_login_timeout: integer(60_000, { effect: "ms that a client has to authenticate" }),

  cross_shard_disabled: boolean(false),
  query_parser: string("auto"),
  query_parser_engine: string("pg_query_protobuf"),
  query_parser_enabled: boolean(false),
  query_cache_limit: integer(1_000),
  regex_parser_limit: integer(1_000),
  query_size_limit: integer(null),
  query_size_limit_action: string("warn"),
  omnisharded_sticky: boolean(false),
  system_catalogs: string("omnisharded_sticky"),
  load_schema: choice(["auto", "on", "off"]),
  reload_schema_on_ddl: boolean(true),
  canonicalize_type_information: boolean(false),
  expanded_explain: boolean(false),
  dry_run: boolean(false),
  sharding_lookup_cache_size: integer(67_108_864),
  sharding_lookup_timeout: integer(5_000),

  two_phase_commit: booleanOrAuto(
    "transactions that have written on several shards commit on all or none, in two phases; `auto`: where the servers allow it",
  ),
  two_phase_commit_auto: boolean(false),
  two_phase_commit_wal_dir: string(null),
  two_phase_commit_wal_fsync_interval: integer(0),
  two_phase_commit_wal_checkpoint_interval: integer(15_000),
  two_phase_commit_wal_segment_size: integer(16_777_216),

  prepared_statements: string("extended"),
  prepared_statements_limit: integer(1_000, {
    min: 1,
    effect:
      "prepared statements on one server connection; beyond it, and beyond 1 MB of text, the longest unused are closed",
  }),
  prepared_statements_ttl: integer(null),
  prepared_statements_ttl_jitter: integer(30_000),

  cutover_timeout: integer(30_000),
  cutover_timeout_action: choice(["abort", "cutover"]),
  cutover_traffic_stop_threshold: integer(1_000_000, {
    effect: "bytes: the hold begins at or below this lag",
  }),
  cutover_replication_lag_threshold: integer(0),
  cutover_last_transaction_delay: integer(1_000),
  cutover_save_config: boolean(false, "every node writes the swapped files after a switch"),
  resharding_copy_format: choice(COPY_FORMATS, "format of COPY; text where types differ"),
  resharding_parallel_copies: integer(1, { min: 1, effect: "ranges copied side by side" }),
  resharding_copy_retry_max_attempts: integer(5),
  resharding_copy_retry_min_delay: integer(1_000),
  resharding_replication_retry_max_attempts: integer(5),
  resharding_replication_retry_min_delay: integer(1_000),

  query_timeout: integer(null),
  client_idle_timeout: integer(null),
  client_idle_in_transaction_timeout: integer(null),
  shutdown_timeout: integer(60_000, { effect: "ms that clients have to finish after SIGTERM" }),
  shutdown_termination_timeout: integer(null),

  load_balancing_strategy: string("random"),
  read_write_strategy: string("conservative"),
  read_write_split: string("include_primary"),

  healthcheck_interval: integer(30_000),
  healthcheck_timeout: integer(5_000),
  idle_healthcheck_interval: integer(30_000),
  idle_healthcheck_delay: integer(5_000),
  healthcheck_port: integer(null, PORT),
  require_healthcheck_on_discovery: boolean(false),
  ban_timeout: integer(300_000),
  ban_replica_lag: integer(null),
  ban_replica_lag_bytes: integer(null),
  lsn_check_delay: integer(null),
  lsn_check_interval: integer(5_000),
  lsn_check_timeout: integer(5_000),
  dns_ttl: integer(null),

  tls_certificate: string(null),
  tls_private_key: string(null),
  tls_client_ca_certificate: string(null),
  tls_server_ca_certificate: string(null),
  tls_server_certificate: string(null),
  tls_server_private_key: string(null),
  tls_client_required: boolean(false),
  tls_verify: string("prefer"),

  pub_sub_channel_size: integer(0),
  mirror_queue: integer(128),
  mirror_exposure: number(1),
  unique_id_function: string("standard"),
  unique_id_min: integer(0),

  openmetrics_port: integer(null, PORT),
  openmetrics_host: string("0.0.0.0"),
  openmetrics_namespace: string(null),
  stats_period: integer(15_000),

  log_format: string("text"),
  log_level: string("info", "level of the log; SLUICE_LOG_LEVEL goes first"),
  log_connections: boolean(true),
  log_disconnections: boolean(true),
  log_min_duration_parse: integer(null),
  log_query_sample_length: integer(1_000),
  log_dedup_threshold: integer(0),
  log_dedup_window: integer(0),
  query_log: string(null),
  query_log_stdout: boolean(false),

  broadcast_address: string(null),
  broadcast_port: integer(6433, PORT),
} as const satisfies Readonly<Record<string, GeneralKey>>;

export type GeneralKeyName = keyof typeof GENERAL_KEYS;
