import { SQLSTATE } from "../core/sqlstate.js";
import {
  AUTHENTICATION,
  BACKEND,
  decodeAuthentication,
  decodeBackendKeyData,
  decodeParameterStatus,
} from "../wire/backend.js";
import { decodeErrorFields } from "../wire/error-fields.js";
import { encodePassword, encodeSaslInitial, encodeSaslResponse } from "../wire/frontend.js";
import { ProtocolViolation } from "../wire/protocol-violation.js";
import { md5Password, SCRAM_SHA_256, ScramClient } from "../wire/scram.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { ServerRefused } from "./server-errors.js";

/** What a server says of itself before it is ready. */
export interface ServerGreeting {
  processId: number;
  secret: Buffer;
  readonly parameters: Map<string, string>;
}

/** Answers one server's questions from the start-up packet to ReadyForQuery. */
export class ServerLogin {
  readonly greeting: ServerGreeting = {
    processId: 0,
    secret: Buffer.alloc(0),
    parameters: new Map(),
  };
  readonly #address: ServerAddress;
  readonly #send: (bytes: Buffer) => void;
  #scram: ScramClient | null = null;

  constructor(address: ServerAddress, send: (bytes: Buffer) => void) {
    this.#address = address;
    this.#send = send;
  }

  /**
   * @returns true when the server is ready
   * @throws ServerRefused, ProtocolViolation
   */
  async take(type: number, frame: Buffer): Promise<boolean> {
    switch (type) {
      case BACKEND.authentication:
        await this.#authenticate(frame);
        return false;
      case BACKEND.parameterStatus: {
        const [name, value] = decodeParameterStatus(frame);
        this.greeting.parameters.set(name, value);
        return false;
      }
      case BACKEND.backendKeyData:
        Object.assign(this.greeting, decodeBackendKeyData(frame));
        return false;
      case BACKEND.error:
        throw new ServerRefused(describeAddress(this.#address), decodeErrorFields(frame));
      case BACKEND.notice:
      case BACKEND.negotiateProtocolVersion:
        return false;
      case BACKEND.readyForQuery:
        return true;
      default:
        throw new ProtocolViolation(`message ${type} from a server at login`);
    }
  }

  async #authenticate(frame: Buffer): Promise<void> {
    const { code, data } = decodeAuthentication(frame);
    switch (code) {
      case AUTHENTICATION.ok:
        return;
      case AUTHENTICATION.cleartext:
        return this.#send(encodePassword(this.#password()));
      case AUTHENTICATION.md5: {
        const answer = md5Password(this.#address.user, this.#password(), data);
        return this.#send(encodePassword(answer));
      }
      case AUTHENTICATION.sasl: {
        if (!data.toString("latin1").split("\0").includes(SCRAM_SHA_256))
          throw new ProtocolViolation("server offers no SASL mechanism that we speak");
        this.#scram = new ScramClient(this.#password());
        return this.#send(encodeSaslInitial(SCRAM_SHA_256, this.#scram.first()));
      }
      case AUTHENTICATION.saslContinue: {
        if (!this.#scram) throw new ProtocolViolation("SASL continues what was not begun");
        return this.#send(encodeSaslResponse(await this.#scram.respond(data.toString("utf8"))));
      }
      case AUTHENTICATION.saslFinal:
        if (!this.#scram) throw new ProtocolViolation("SASL ends what was not begun");
        return this.#scram.finish(data.toString("utf8"));
      default:
        throw new ProtocolViolation(`server asks for authentication method ${code}`);
    }
  }

  #password(): string {
    const { password } = this.#address;
    if (password !== null) return password;
    const message = "a password is asked for and none is configured";
    throw new ServerRefused(
      describeAddress(this.#address),
      new Map([
        ["C", SQLSTATE.invalidPassword],
        ["M", message],
      ]),
    );
  }
}
