import { SQLSTATE } from "../core/sqlstate.js";
import { BACKEND, decodeCommandTag } from "../wire/backend.js";
import { decodeErrorFields } from "../wire/error-fields.js";
import { FRONTEND } from "../wire/frontend.js";

/** A message whose answer says what became of a statement. */
interface Asked {
  readonly kind: "parse" | "close";
  /** "" for the unnamed statement and for portals, which are answered alike. */
  readonly name: string;
  readonly bytes: number;
  /** How many ReadyForQuery were asked for before it: an error skips what is left of its own. */
  readonly round: number;
}

interface Known {
  readonly bytes: number;
  /** The server may have lost it without saying so. */
  isDoubtful: boolean;
}

/** Whether a Bind to a name can be sent. Doubtful: the statement is to be closed and made again, which is always right. */
export type StatementPresence = "there" | "doubtful" | "absent";

const HEADER_BYTES = 5;
/** Of SQL text on one server connection; PostgreSQL takes some 10 to 40 times that for trees and plans. */
const MOST_TEXT_BYTES = 1_048_576;

/**
 * The prepared statements of one server's session, by what the server said: ParseComplete and CloseComplete, counted from
 * the bytes that were sent, and the tags of what throws statements away. What nobody was told of (dynamic SQL within a
 * DO, a procedure or a function) makes the list doubtful, as does an error that contradicts it.
 */
export class ServerStatements {
  /** The longest unused first. */
  readonly #known = new Map<string, Known>();
  #asked: Asked[] = [];
  #sentRounds = 0;
  #doneRounds = 0;
  #bytes = 0;
  readonly #limit: number;
  /** How often the server said that all are gone. */
  clears = 0;

  /** @param limit most statements at once; beyond it the longest unused are closed */
  constructor(limit: number) {
    this.#limit = Math.max(1, limit);
  }

  get size(): number {
    return this.#known.size;
  }

  /** As it will be when all that was sent is answered, if none of it fails. Counts as a use. */
  presence(name: string): StatementPresence {
    const known = this.#known.get(name);
    let presence: StatementPresence = "absent";
    if (known) {
      this.#known.delete(name);
      this.#known.set(name, known);
      presence = known.isDoubtful ? "doubtful" : "there";
    }
    for (const asked of this.#asked)
      if (asked.name === name && name !== "")
        presence = asked.kind === "parse" ? "there" : "absent";
    return presence;
  }

  /**
   * What is to be closed so that one more statement fits.
   * @param isUsed names that the request at hand needs
   */
  excess(bytes: number, isUsed: (name: string) => boolean): readonly string[] {
    const names: string[] = [];
    let [count, left] = [this.#known.size + 1, this.#bytes + bytes];
    if (count <= this.#limit && left <= MOST_TEXT_BYTES) return names;
    for (const [name, known] of this.#known) {
      if (isUsed(name)) continue;
      names.push(name);
      count--;
      left -= known.bytes;
      if (count <= this.#limit && left <= MOST_TEXT_BYTES) break;
    }
    return names;
  }

  /** The server may have thrown any of them away. */
  distrust(): void {
    for (const known of this.#known.values()) known.isDoubtful = true;
  }

  /** Whole messages went out. */
  sent(messages: Buffer): void {
    for (let at = 0; at + HEADER_BYTES <= messages.length; at += 1 + messages.readInt32BE(at + 1)) {
      const body = at + HEADER_BYTES;
      switch (messages[at] ?? 0) {
        case FRONTEND.query:
        case FRONTEND.functionCall:
        case FRONTEND.sync:
          this.#sentRounds++;
          break;
        case FRONTEND.parse:
          this.#ask("parse", nameAt(messages, body), messages.readInt32BE(at + 1));
          break;
        case FRONTEND.close: {
          const isStatement = messages[body] === 0x53;
          this.#ask("close", isStatement ? nameAt(messages, body + 1) : "", 0);
        }
      }
    }
  }

  #ask(kind: Asked["kind"], name: string, bytes: number): void {
    this.#asked.push({ kind, name, bytes, round: this.#sentRounds });
  }

  /** @param isClear nothing is owed after it */
  received(type: number, frame: () => Buffer, isClear: boolean): void {
    switch (type) {
      case BACKEND.parseComplete:
        this.#answered("parse");
        return;
      case BACKEND.closeComplete:
        this.#answered("close");
        return;
      case BACKEND.commandComplete:
        this.#completed(frame());
        return;
      case BACKEND.error:
        this.#asked = this.#asked.filter(({ round }) => round > this.#doneRounds);
        this.#failed(frame());
        return;
      case BACKEND.readyForQuery:
        this.#doneRounds++;
        if (isClear) this.#doneRounds = this.#sentRounds;
        if (this.#asked.length > 0)
          this.#asked = this.#asked.filter(({ round }) => round >= this.#doneRounds);
    }
  }

  #answered(kind: Asked["kind"]): void {
    const at = this.#asked.findIndex((asked) => asked.kind === kind);
    const [asked] = at < 0 ? [] : this.#asked.splice(at, 1);
    if (!asked || asked.name === "") return;
    this.#bytes -= this.#known.get(asked.name)?.bytes ?? 0;
    this.#known.delete(asked.name);
    if (kind === "close") return;
    this.#bytes += asked.bytes;
    this.#known.set(asked.name, { bytes: asked.bytes, isDoubtful: false });
  }

  #completed(frame: Buffer): void {
    // D of DEALLOCATE, DISCARD, DO; C of CALL.
    const first = frame[HEADER_BYTES];
    if (first !== 0x44 && first !== 0x43) return;
    switch (decodeCommandTag(frame)) {
      case "DEALLOCATE ALL":
      case "DISCARD ALL":
        this.forget();
        this.clears++;
        return;
      case "DEALLOCATE":
      case "DO":
      case "CALL":
        this.distrust();
    }
  }

  #failed(frame: Buffer): void {
    const fields = decodeErrorFields(frame);
    const code = fields.get("C") ?? "";
    const ranDynamic = fields.get("W")?.includes("inline_code_block") ?? false;
    if (CONTRADICTIONS.has(code) || ranDynamic) this.distrust();
  }

  /** All are gone. What was sent and is not answered yet comes after that. */
  forget(): void {
    this.#known.clear();
    this.#bytes = 0;
  }
}

// One that is there does not exist, one that is not exists.
const CONTRADICTIONS: ReadonlySet<string> = new Set([
  SQLSTATE.invalidSqlStatementName,
  SQLSTATE.duplicatePreparedStatement,
]);

function nameAt(messages: Buffer, at: number): string {
  return messages.toString("utf8", at, messages.indexOf(0, at));
}
