import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { AuthType } from "../../config/model.js";
import {
  AUTHENTICATION_CLEARTEXT,
  encodeAuthenticationMd5,
  encodeAuthenticationSasl,
  encodeSaslContinue,
  encodeSaslFinal,
} from "../../wire/backend.js";
import { FRONTEND } from "../../wire/frontend.js";
import { MessageReader } from "../../wire/message-reader.js";
import { ProtocolViolation } from "../../wire/protocol-violation.js";
import {
  makeVerifier,
  md5Password,
  SCRAM_SHA_256,
  ScramServer,
  type ScramVerifier,
} from "../../wire/scram.js";
import type { ClientConnection } from "./client-connection.js";

const processSecret = randomBytes(32);
const verifiers = new Map<string, Promise<ScramVerifier>>();
const KEPT_VERIFIERS = 1_000;

export interface Claim {
  readonly user: string;
  readonly isKnown: boolean;
  readonly password: string | null;
}

/**
 * Asks the client to prove a password.
 * @param password what it must be; null: nobody's, so that an unknown user takes the same steps and the
 *   same time as a wrong password
 * @returns whether it did; false also when it went away
 * @throws ProtocolViolation
 */
export async function authenticate(
  client: ClientConnection,
  method: AuthType,
  claim: Claim,
): Promise<boolean> {
  switch (method) {
    case "trust":
      return claim.isKnown;
    case "plain": {
      client.write(AUTHENTICATION_CLEARTEXT);
      return await provesText(client, claim.password ?? randomBytes(16).toString("hex"), claim);
    }
    case "md5": {
      const salt = randomBytes(4);
      client.write(encodeAuthenticationMd5(salt));
      const password = claim.password ?? randomBytes(16).toString("hex");
      return await provesText(client, md5Password(claim.user, password, salt), claim);
    }
    case "scram":
      return await scram(client, claim);
  }
}

async function provesText(
  client: ClientConnection,
  expected: string,
  claim: { readonly password: string | null },
): Promise<boolean> {
  const frame = await passwordMessage(client);
  if (!frame) return false;
  const given = MessageReader.ofFrame(frame).cstring();
  return isSame(given, expected) && claim.password !== null;
}

async function scram(
  client: ClientConnection,
  claim: { readonly user: string; readonly password: string | null },
): Promise<boolean> {
  client.write(encodeAuthenticationSasl([SCRAM_SHA_256]));
  const server = new ScramServer(await verifierOf(claim));
  const initial = await passwordMessage(client);
  if (!initial) return false;
  const reader = MessageReader.ofFrame(initial);
  if (reader.cstring() !== SCRAM_SHA_256) throw new ProtocolViolation("unknown SASL mechanism");
  const clientFirst = reader.bytes(reader.int32()).toString("utf8");
  client.write(encodeSaslContinue(server.challenge(clientFirst)));
  const final = await passwordMessage(client);
  if (!final) return false;
  const signature = server.verify(MessageReader.ofFrame(final).rest().toString("utf8"));
  if (signature === null || claim.password === null) return false;
  client.write(encodeSaslFinal(signature));
  return true;
}

/** Key derivation is slow on purpose, so it is done once for each password. */
async function verifierOf(claim: {
  readonly user: string;
  readonly password: string | null;
}): Promise<ScramVerifier> {
  // The salt is a function of the name: an unknown user shows the same one each time, as a known one does.
  const salt = createHmac("sha256", processSecret).update(claim.user).digest().subarray(0, 16);
  const password = claim.password ?? processSecret.toString("hex");
  const key = createHmac("sha256", processSecret)
    .update(`${claim.user}\0${password}`)
    .digest("hex");
  let verifier = verifiers.get(key);
  if (!verifier) {
    if (verifiers.size >= KEPT_VERIFIERS) verifiers.clear();
    verifier = makeVerifier(password, salt);
    verifiers.set(key, verifier);
  }
  return await verifier;
}

async function passwordMessage(client: ClientConnection): Promise<Buffer | null> {
  const message = await client.nextMessage();
  if (!message) return null;
  if (message.type !== FRONTEND.password)
    throw new ProtocolViolation("expected a password message");
  return message.frame;
}

/** In constant time; of different lengths too. */
function isSame(given: string, expected: string): boolean {
  const digest = (text: string) => createHmac("sha256", processSecret).update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
