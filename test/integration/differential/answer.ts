import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copyStreams from "pg-copy-streams";
import type { Act } from "./story.js";

/** What a client got for one act. */
export interface Answer {
  readonly error: { readonly sqlState: string; readonly message: string } | null;
  readonly results: readonly Result[];
  /** Of the last ReadyForQuery. */
  readonly status: string;
}

interface Result {
  readonly tag: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/** Longer than any statement here takes on a busy machine. */
const HANGS_AFTER_MS = 20_000;

const ASIS: pg.CustomTypesConfig = { getTypeParser: () => (value: unknown) => value };

/** One connection, whose answers are kept as they came: all values are text. */
export class Client {
  readonly #client: pg.Client;
  #status = "I";
  #isReady = true;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  static async connect(options: pg.ClientConfig): Promise<Client> {
    const client = new pg.Client({ host: "127.0.0.1", user: "postgres", ...options });
    client.on("error", () => {});
    const made = new Client(client);
    await client.connect();
    const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
    connection.on("readyForQuery", ({ status }: { status: string }) => {
      made.#status = status;
      made.#isReady = true;
    });
    return made;
  }

  async do(act: Exclude<Act, { kind: "vanish" }>): Promise<Answer> {
    this.#isReady = false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Answer>((resolve) => {
      const error = { sqlState: "hangs", message: `no answer in ${HANGS_AFTER_MS} ms` };
      timer = setTimeout(() => resolve({ error, results: [], status: "?" }), HANGS_AFTER_MS);
    });
    const answer = await Promise.race([this.#answer(act), late]);
    clearTimeout(timer);
    return answer;
  }

  async #answer(act: Exclude<Act, { kind: "vanish" }>): Promise<Answer> {
    try {
      const results = act.kind === "copy" ? await this.#copy(act) : await this.#query(act);
      return { error: null, results, status: this.#status };
    } catch (thrown) {
      // ReadyForQuery comes behind the error.
      if (thrown instanceof pg.DatabaseError) await this.#ready();
      const sqlState = thrown instanceof pg.DatabaseError ? (thrown.code ?? "none") : "lost";
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      return { error: { sqlState, message }, results: [], status: this.#status };
    }
  }

  async #query({ sql, values, name }: Extract<Act, { kind: "statement" }>): Promise<Result[]> {
    const query = {
      text: sql,
      rowMode: "array" as const,
      types: ASIS,
      ...(values && { values: [...values] }),
      ...(name !== undefined && { name }),
    };
    const answer: unknown = await this.#client.query(query);
    const all = (Array.isArray(answer) ? answer : [answer]) as pg.QueryArrayResult<string[]>[];
    return all.map(({ command, rowCount, fields, rows }) => ({
      tag: `${command} ${rowCount}`,
      columns: fields.map((field) => field.name),
      rows,
    }));
  }

  async #copy({ sql, data }: Extract<Act, { kind: "copy" }>): Promise<Result[]> {
    const into = this.#client.query(copyStreams.from(sql));
    await pipeline(Readable.from([data]), into);
    await this.#ready();
    return [{ tag: `COPY ${into.rowCount}`, columns: [], rows: [] }];
  }

  /** pg sends the next query behind ReadyForQuery. */
  async #ready(): Promise<void> {
    if (this.#isReady) return;
    await new Promise<void>((resolve) => {
      const { connection } = this.#client as unknown as { connection: NodeJS.EventEmitter };
      connection.once("readyForQuery", () => resolve());
    });
  }

  vanish(): void {
    const { connection } = this.#client as unknown as {
      connection: { stream: { destroy(): void } };
    };
    connection.stream.destroy();
  }

  async end(): Promise<void> {
    await this.#client.end().catch(() => {});
  }
}

/**
 * What is chance, or drawn on each side for itself, is taken for equal: numbers of sequences (the test begins them at a
 * million), the clock's time (it has fractions of a second; what tests write has none), random uuids.
 */
export function masked(text: string): string {
  return text
    .replaceAll(/\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+([+-]\d\d(:\d\d)?|Z)?/g, "NOW")
    .replaceAll(/\b(?!00000000-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, "UUID")
    .replaceAll(/\b[12]\d{6}\b/g, "DRAWN");
}

/** In a form that is equal where both answers are right. */
export function comparable({ error, results, status }: Answer, sql: string): unknown {
  const isOrdered = /\border by\b|^(fetch|show)\b/i.test(withoutParentheses(sql));
  return {
    error: error?.sqlState ?? null,
    status,
    results: results.map(({ tag, columns, rows }) => {
      const texts = rows.map((row) => masked(JSON.stringify(row)));
      return { tag, columns, rows: isOrdered ? texts : texts.sort() };
    }),
  };
}

function withoutParentheses(sql: string): string {
  const shorter = sql.replaceAll(/\([^()]*\)/g, "");
  return shorter === sql ? sql : withoutParentheses(shorter);
}
