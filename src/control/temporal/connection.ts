import { readFileSync } from "node:fs";
import type { TLSConfig } from "@temporalio/client";
import type { TemporalConfig } from "../../config/model.js";

interface TemporalAddress {
  readonly address: string;
  readonly apiKey?: string;
  readonly tls?: TLSConfig;
}

/** The same for clients and workers. Files are read anew at each connection: certificates get renewed. */
export function connectionOptions(temporal: TemporalConfig): TemporalAddress {
  const { address, apiKey, tls } = temporal;
  return {
    address,
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
  };
}

function tlsOptions(tls: NonNullable<TemporalConfig["tls"]>): TLSConfig {
  const { certPath, keyPath, caPath, serverName } = tls;
  return {
    ...(serverName === undefined ? {} : { serverNameOverride: serverName }),
    ...(caPath === undefined ? {} : { serverRootCACertificate: readFileSync(caPath) }),
    ...(certPath === undefined || keyPath === undefined
      ? {}
      : { clientCertPair: { crt: readFileSync(certPath), key: readFileSync(keyPath) } }),
  };
}
