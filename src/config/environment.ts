import { ConfigInvalid } from "./config-errors.js";
import type { TemporalConfig } from "./model.js";

/** `process.env`, or what a test puts in its place. Only this room reads settings out of it. */
export type Environment = Readonly<Record<string, string | undefined>>;

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

/** SLUICE_LOG_LEVEL unless empty, else `configured`. Unknown levels count as "info": a typing error must not stop a proxy. */
export function logLevel(env: Environment, configured = "info"): string {
  const level = (env.SLUICE_LOG_LEVEL || configured).toLowerCase();
  return LOG_LEVELS.includes(level) ? level : "info";
}

/** The variables that Temporal's own tools read go before sluice.toml. */
export function overrideTemporal(file: TemporalConfig, env: Environment): TemporalConfig {
  const apiKey = env.TEMPORAL_API_KEY;
  const tls = temporalTls(env, apiKey !== undefined);
  return {
    address: env.TEMPORAL_ADDRESS ?? file.address,
    namespace: env.TEMPORAL_NAMESPACE ?? file.namespace,
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(tls === null ? {} : { tls }),
  };
}

function temporalTls(
  env: Environment,
  hasApiKey: boolean,
): NonNullable<TemporalConfig["tls"]> | null {
  const certPath = env.TEMPORAL_TLS_CLIENT_CERT_PATH;
  const keyPath = env.TEMPORAL_TLS_CLIENT_KEY_PATH;
  const caPath = env.TEMPORAL_TLS_SERVER_CA_CERT_PATH;
  if ((certPath === undefined) !== (keyPath === undefined))
    throw new ConfigInvalid(
      { file: "environment", line: null, key: "TEMPORAL_TLS_CLIENT_CERT_PATH" },
      "needs TEMPORAL_TLS_CLIENT_KEY_PATH, and the other way round",
    );
  const isAsked = ["1", "true"].includes(env.TEMPORAL_TLS ?? "");
  if (!isAsked && !hasApiKey && certPath === undefined && caPath === undefined) return null;
  return {
    ...(certPath === undefined ? {} : { certPath }),
    ...(keyPath === undefined ? {} : { keyPath }),
    ...(caPath === undefined ? {} : { caPath }),
    ...(env.TEMPORAL_TLS_SERVER_NAME === undefined
      ? {}
      : { serverName: env.TEMPORAL_TLS_SERVER_NAME }),
  };
}
