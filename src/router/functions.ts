import type { SchemaFacts } from "./schema-facts.js";

/** How a call bears being run on several shards, or on any one. */
export type FunctionNature =
  | "aggregate"
  /** The same everywhere: a function of its arguments and of settings. */
  | "steady"
  /** Of this server, moment or chance: harmless to read, different on every shard when written. */
  | "local"
  /** Of the transaction's one server: advisory locks, notifications. Always asked of shard 0. */
  | "shard0"
  /** The next of a sequence: of no row, so shard 0 gives it, and no two sessions are given the same. */
  | "counter"
  /** Changes the session: on all shards. */
  | "setting"
  /** May write, or is not known. */
  | "unknown";

const AGGREGATES = new Set(
  `array_agg avg bit_and bit_or bit_xor bool_and bool_or any_value corr count covar_pop covar_samp every
  json_agg jsonb_agg json_agg_strict jsonb_agg_strict json_object_agg jsonb_object_agg max min mode
  percentile_cont percentile_disc range_agg range_intersect_agg regr_avgx regr_avgy regr_count
  regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum
  var_pop var_samp variance xmlagg cume_dist dense_rank rank percent_rank row_number lag lead first_value
  last_value nth_value ntile`.split(/\s+/),
);

const SHARD0 = /^pg_(try_)?advisory_|^pg_notify$/;

const COUNTERS = new Set(["nextval"]);

/** PostgreSQL's own that read the clock, chance, a sequence or the server, whatever their volatility. */
const LOCAL = new Set(
  `now clock_timestamp statement_timestamp transaction_timestamp timeofday random random_normal setseed
  gen_random_uuid uuidv4 uuidv7 uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 gen_random_bytes currval lastval
  txid_current txid_current_if_assigned txid_current_snapshot pg_current_xact_id
  pg_current_xact_id_if_assigned pg_current_snapshot pg_backend_pid pg_sleep pg_sleep_for pg_sleep_until
  inet_server_addr inet_server_port inet_client_addr inet_client_port pg_postmaster_start_time
  pg_is_in_recovery pg_current_wal_lsn pg_stat_clear_snapshot version age`.split(/\s+/),
);

/** PostgreSQL's own that change something behind a SELECT. */
const WRITING =
  /^(setval|lo_|pg_terminate_|pg_cancel_|pg_reload_|pg_rotate_|pg_logical_|pg_create_|pg_drop_|pg_replication_|pg_copy_|pg_switch_|pg_promote|pg_wal_|pg_backup_|pg_stat_reset|query_to_xml|database_to|schema_to|table_to|cursor_to|dblink|binary_upgrade)/;

/** Where no facts are there: what applications commonly call. */
const COMMON = new Set(
  `abs acos age array_append array_cat array_length array_position array_remove array_to_string ascii asin
  atan bit_length btrim cardinality cbrt ceil ceiling char_length character_length chr concat concat_ws cos
  date date_part date_trunc decode degrees encode exp extract floor format generate_series greatest hashtext
  initcap json_array_length json_build_array json_build_object json_extract_path json_typeof
  jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
  jsonb_each jsonb_extract_path jsonb_extract_path_text jsonb_object_keys jsonb_pretty jsonb_set jsonb_typeof
  justify_days justify_hours least left length ln log lower lpad ltrim make_date make_interval make_timestamp
  md5 mod nullif num_nonnulls octet_length overlay pg_typeof pi position power quote_ident quote_literal
  regexp_match regexp_matches regexp_replace regexp_split_to_array repeat replace reverse right round
  row_to_json rpad rtrim sha256 sign sin split_part sqrt starts_with string_to_array strpos substr substring
  tan timezone to_char to_date to_hex to_json to_jsonb to_number to_timestamp translate trim trunc unnest
  upper width_bucket current_setting current_schema current_database`.split(/\s+/),
);

/** @param name as called, without its schema */
export function natureOf(
  name: string,
  isQualified: boolean,
  facts: SchemaFacts | undefined,
): FunctionNature {
  if (name === "set_config") return "setting";
  if (SHARD0.test(name)) return "shard0";
  if (COUNTERS.has(name)) return "counter";
  const known = facts?.functions.get(name);
  if (known === undefined) return unknownNature(name, isQualified);
  if (known.isAggregate || AGGREGATES.has(name)) return "aggregate";
  if (WRITING.test(name)) return "unknown";
  if (LOCAL.has(name)) return "local";
  if (known.volatility === "immutable") return "steady";
  // A function of the application may read tables, of which a shard has a part.
  if (!known.isBuiltIn) return "unknown";
  return known.volatility === "stable" ? "steady" : "local";
}

function unknownNature(name: string, isQualified: boolean): FunctionNature {
  if (isQualified) return "unknown";
  if (AGGREGATES.has(name)) return "aggregate";
  if (LOCAL.has(name)) return "local";
  return COMMON.has(name) ? "steady" : "unknown";
}
