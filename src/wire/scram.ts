import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { ProtocolViolation } from "./protocol-violation.js";

/** SCRAM-SHA-256 (RFC 7677, RFC 5802), both ends, without channel binding and without I/O. */
export const SCRAM_SHA_256 = "SCRAM-SHA-256";

const derive = promisify(pbkdf2);
const KEY_BYTES = 32;
const ITERATIONS = 4096; // As PostgreSQL's default scram_iterations.
// A server asks for the work that we do: more than this is an attack or a mistake.
const MOST_ITERATIONS = 1_000_000;

/** What a server keeps of a password. */
export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export async function makeVerifier(
  password: string,
  salt: Buffer = randomBytes(16),
): Promise<ScramVerifier> {
  const salted = await derive(prepare(password), salt, ITERATIONS, KEY_BYTES, "sha256");
  return {
    iterations: ITERATIONS,
    salt,
    storedKey: sha256(hmac(salted, "Client Key")),
    serverKey: hmac(salted, "Server Key"),
  };
}

/** The server's end of one login: first message in, challenge out; proof in, signature or null out. */
export class ScramServer {
  readonly #verifier: ScramVerifier;
  #nonce = "";
  #clientFirstBare = "";
  #serverFirst = "";
  #gs2Header = "";

  constructor(verifier: ScramVerifier) {
    this.#verifier = verifier;
  }

  /** @throws ProtocolViolation when malformed or asking for channel binding */
  challenge(clientFirst: string): string {
    const match = /^((?:n|y),[^,]*,)((?:[^,]*,)*?r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/.exec(
      clientFirst,
    );
    if (!match) throw new ProtocolViolation("malformed SCRAM first message");
    this.#gs2Header = match[1] ?? "";
    this.#clientFirstBare = match[2] ?? "";
    this.#nonce = `${match[3]}${randomBytes(18).toString("base64")}`;
    const { salt, iterations } = this.#verifier;
    this.#serverFirst = `r=${this.#nonce},s=${salt.toString("base64")},i=${iterations}`;
    return this.#serverFirst;
  }

  /** @returns the server's last message, or null when the proof is wrong */
  verify(clientFinal: string): string | null {
    const match = /^(c=([^,]*),r=([^,]*)(?:,.*)?),p=([^,]*)$/.exec(clientFinal);
    if (!match) throw new ProtocolViolation("malformed SCRAM final message");
    const [, withoutProof = "", binding = "", nonce = "", proofText = ""] = match;
    const expectedBinding = Buffer.from(this.#gs2Header).toString("base64");
    if (binding !== expectedBinding || nonce !== this.#nonce) return null;
    const proof = Buffer.from(proofText, "base64");
    if (proof.length !== KEY_BYTES) return null;
    const message = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`;
    const { storedKey, serverKey } = this.#verifier;
    const clientKey = xor(proof, hmac(storedKey, message));
    if (!timingSafeEqual(sha256(clientKey), storedKey)) return null;
    return `v=${hmac(serverKey, message).toString("base64")}`;
  }
}

/** The client's end of one login. */
export class ScramClient {
  readonly #password: string;
  readonly #nonce = randomBytes(18).toString("base64");
  #serverSignature = "";

  constructor(password: string) {
    this.#password = password;
  }

  first(): string {
    return `n,,n=,r=${this.#nonce}`;
  }

  /** @throws ProtocolViolation when the challenge is malformed or not an answer to ours */
  async respond(challenge: string): Promise<string> {
    const match = /^r=([^,]+),s=([^,]+),i=(\d+)/.exec(challenge);
    const [, nonce = "", salt = "", count = "0"] = match ?? [];
    const iterations = Number(count);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length)
      throw new ProtocolViolation("SCRAM challenge does not continue our nonce");
    if (iterations < 1 || iterations > MOST_ITERATIONS)
      throw new ProtocolViolation(`SCRAM challenge asks for ${iterations} iterations`);
    const salted = await derive(
      prepare(this.#password),
      Buffer.from(salt, "base64"),
      iterations,
      KEY_BYTES,
      "sha256",
    );
    const withoutProof = `c=biws,r=${nonce}`;
    const message = `n=,r=${this.#nonce},${challenge},${withoutProof}`;
    const clientKey = hmac(salted, "Client Key");
    const proof = xor(clientKey, hmac(sha256(clientKey), message));
    this.#serverSignature = hmac(hmac(salted, "Server Key"), message).toString("base64");
    return `${withoutProof},p=${proof.toString("base64")}`;
  }

  /** @throws ProtocolViolation when the server does not know the password either */
  finish(serverFinal: string): void {
    const signature = Buffer.from(/^v=([^,]*)/.exec(serverFinal)?.[1] ?? "");
    const expected = Buffer.from(this.#serverSignature);
    if (signature.length !== expected.length || !timingSafeEqual(signature, expected))
      throw new ProtocolViolation("SCRAM server signature does not match");
  }
}

/** What PasswordMessage carries for AuthenticationMD5Password. */
export function md5Password(user: string, password: string, salt: Buffer): string {
  const inner = createHash("md5").update(password).update(user).digest("hex");
  return `md5${createHash("md5").update(inner).update(salt).digest("hex")}`;
}

/** SASLprep as far as it changes bytes (RFC 4013: mappings and NFKC), as PostgreSQL and libpq do it. */
function prepare(password: string): string {
  return password
    .replace(/[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g, " ")
    .replace(
      /\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/g,
      "",
    )
    .normalize("NFKC");
}

function hmac(key: Buffer, message: string): Buffer {
  return createHmac("sha256", key).update(message).digest();
}

function sha256(data: Buffer): Buffer {
  return createHash("sha256").update(data).digest();
}

function xor(left: Buffer, right: Buffer): Buffer {
  const result = Buffer.alloc(left.length);
  for (let index = 0; index < left.length; index++)
    result[index] = (left[index] ?? 0) ^ (right[index] ?? 0);
  return result;
}
