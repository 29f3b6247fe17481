import { classify } from "../../sql/classify.js";

interface PastStatement {
  readonly sql: string;
  /** Of a SAVEPOINT, as PostgreSQL reads it; null: a setting, or a name that we cannot read. */
  readonly savepoint: string | null;
}

const NAME = String.raw`("(?:[^"]|"")+"|[a-z_\u0080-\uffff][\w$\u0080-\uffff]*)\s*;?\s*$`;
const SAVEPOINT = new RegExp(String.raw`^\s*savepoint\s+${NAME}`, "i");
const RELEASE = new RegExp(String.raw`^\s*release\s+(?:savepoint\s+)?${NAME}`, "i");
const ROLLBACK_TO = new RegExp(
  String.raw`^\s*rollback\s+(?:(?:work|transaction)\s+)?to\s+(?:savepoint\s+)?${NAME}`,
  "i",
);

/**
 * What a server that joins a transaction late must be told, so that it stands where the others do: SET and SAVEPOINT
 * as they came, without what was released or rolled back since. An application that makes a savepoint for each row
 * would otherwise have every shard told of all of them.
 */
export class TransactionPast {
  #past: PastStatement[] = [];

  get statements(): readonly string[] {
    return this.#past.map(({ sql }) => sql);
  }

  /** There may be one to go back to. */
  get hasSavepoint(): boolean {
    return this.#past.some(({ sql }) => classify(sql)[0]?.kind === "savepoint");
  }

  /** A statement that every server of the transaction has done. */
  add(sql: string): void {
    const released = nameIn(RELEASE, sql);
    if (released !== null && this.#release(released)) return;
    const target = nameIn(ROLLBACK_TO, sql);
    if (target !== null && this.#goBack(target)) return;
    this.#past.push({ sql, savepoint: nameIn(SAVEPOINT, sql) });
  }

  /** What was set since stays. */
  #release(name: string): boolean {
    const at = this.#past.findLastIndex(({ savepoint }) => savepoint === name);
    if (at < 0) return false;
    // A name that we could not read may be one of those inside: then all is told as it was.
    if (this.#past.slice(at).some(isUnread)) return false;
    this.#past = this.#past.filter(({ savepoint }, index) => index < at || savepoint === null);
    return true;
  }

  /** The savepoint itself stays. */
  #goBack(name: string): boolean {
    const at = this.#past.findLastIndex(({ savepoint }) => savepoint === name);
    if (at < 0 || this.#past.slice(at).some(isUnread)) return false;
    this.#past = this.#past.slice(0, at + 1);
    return true;
  }
}

function isUnread({ sql, savepoint }: PastStatement): boolean {
  if (savepoint !== null) return false;
  const kind = classify(sql)[0]?.kind;
  return kind === "savepoint" || kind === "releaseSavepoint" || kind === "rollbackTo";
}

function nameIn(pattern: RegExp, sql: string): string | null {
  const name = pattern.exec(sql)?.[1];
  if (name === undefined) return null;
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase();
}
