import { randomBytes } from "node:crypto";
import type { AuthType } from "../../config/model.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import {
  AUTHENTICATION_OK,
  encodeBackendKeyData,
  encodeNegotiateProtocolVersion,
  encodeParameterStatus,
  READY,
} from "../../wire/backend.js";
import {
  decodeStartup,
  PROTOCOL_3_0,
  PROTOCOL_3_2,
  type StartupPacket,
} from "../../wire/frontend.js";
import { SessionEnded } from "../session-errors.js";
import { authenticate } from "./client-authentication.js";
import type { ClientConnection } from "./client-connection.js";

const NO_ENCRYPTION = Buffer.from("N");
const NEWEST_MINOR = PROTOCOL_3_2 & 0xffff;

export type StartupResult =
  | Extract<StartupPacket, { kind: "cancel" }>
  | {
      readonly kind: "startup";
      readonly user: string;
      readonly database: string;
      readonly parameters: ReadonlyMap<string, string>;
      /** From 3.2 on the secret may be longer than 4 bytes. */
      readonly minor: number;
    }
  | { readonly kind: "gone" };

/**
 * Up to the start-up packet that counts.
 * @throws ProtocolViolation, SessionEnded
 */
export async function readStartup(client: ClientConnection): Promise<StartupResult> {
  // One question each about TLS and GSS; a client that goes on asking is none.
  for (let questions = 0; questions < 3; questions++) {
    const bytes = await client.nextStartup();
    if (!bytes) return { kind: "gone" };
    const packet = decodeStartup(bytes);
    if (packet.kind === "cancel") return packet;
    if (packet.kind === "startup") return begin(client, packet);
    client.write(NO_ENCRYPTION);
  }
  throw new SessionEnded(SQLSTATE.protocolViolation, "no start-up packet");
}

function begin(
  client: ClientConnection,
  { major, minor, parameters }: Extract<StartupPacket, { kind: "startup" }>,
): StartupResult {
  if (major !== PROTOCOL_3_0 >>> 16)
    throw new SessionEnded(
      SQLSTATE.featureNotSupported,
      `unsupported frontend protocol ${major}.${minor}: server supports 3.0 to 3.2`,
    );
  const user = parameters.get("user");
  if (!user)
    throw new SessionEnded(
      SQLSTATE.invalidAuthorizationSpecification,
      "no PostgreSQL user name specified in startup packet",
    );
  const replication = parameters.get("replication");
  if (replication !== undefined && !/^(false|off|no|0)$/i.test(replication))
    throw new SessionEnded(
      SQLSTATE.featureNotSupported,
      "replication connections do not pass through the proxy",
      { hint: "Connect to the server directly." },
    );
  const unknown = [...parameters.keys()].filter((name) => name.startsWith("_pq_."));
  if (minor > NEWEST_MINOR || unknown.length > 0)
    client.write(
      encodeNegotiateProtocolVersion(PROTOCOL_3_0 + Math.min(minor, NEWEST_MINOR), unknown),
    );
  const database = parameters.get("database") || user;
  return { kind: "startup", user, database, parameters, minor: Math.min(minor, NEWEST_MINOR) };
}

export interface Account {
  readonly isKnown: boolean;
  readonly password: string | null;
}

/**
 * One and the same refusal whether the user is unknown or the password wrong.
 * @returns false when the client went away
 * @throws SessionEnded
 */
export async function proveIdentity(
  client: ClientConnection,
  method: AuthType,
  claim: Account & { readonly user: string },
): Promise<boolean> {
  const isProved = await authenticate(client, method, claim);
  if (client.isClosed) return false;
  if (!isProved)
    throw new SessionEnded(
      SQLSTATE.invalidPassword,
      `password authentication failed for user "${claim.user}"`,
    );
  client.write(AUTHENTICATION_OK);
  return true;
}

/** The key that a CancelRequest must show. */
export interface CancelKey {
  readonly processId: number;
  readonly secret: Buffer;
}

export function makeCancelKey(processId: number, minor: number): CancelKey {
  return { processId, secret: randomBytes(minor >= 2 ? 32 : 4) };
}

/** What ends a login: parameters, key, ready. */
export function encodeWelcome(parameters: ReadonlyMap<string, string>, key: CancelKey): Buffer {
  const frames = [...parameters].map(([name, value]) => encodeParameterStatus(name, value));
  return Buffer.concat([...frames, encodeBackendKeyData(key.processId, key.secret), READY.I]);
}
