import { AdminSyntaxError, type Token, tokenize } from "./tokens.js";

/** What a migration command names, as it was written. */
export interface MigrationArguments {
  readonly source: string;
  readonly destination: string;
  readonly publication: string;
  readonly slot: string | null;
}

export type SchemaPhase = "pre" | "post" | "cutover";

export const SHOW_NAMES = [
  "tasks",
  "table_copies",
  "replication_slots",
  "schema_sync",
  "cutover",
  "nodes",
  "config",
  "version",
  "clients",
  "pools",
  "servers",
  "stats",
  "lists",
  "maintenance",
  "bans",
  "instance_id",
  "evidence",
] as const;

export type ShowName = (typeof SHOW_NAMES)[number];

/** Exists in PgDog's language, not yet in ours: refused by name, not taken for a driver's probe. */
const UNSUPPORTED_SHOWS = new Set([
  "prepared",
  "query_cache",
  "listeners",
  "mirrors",
  "peers",
  "transactions",
  "replication",
  "server",
  "client",
]);

const UNSUPPORTED_COMMANDS = new Set(["BAN", "UNBAN", "HEALTHCHECK", "PROBE", "RESET", "SETUP"]);

export type Command =
  | ({
      readonly kind: "startTask";
      readonly task: "copy_data" | "replicate" | "reshard";
    } & MigrationArguments)
  | ({ readonly kind: "schemaSync"; readonly phase: SchemaPhase } & MigrationArguments)
  /** null: the one task that waits for it. */
  | { readonly kind: "cutover"; readonly taskId: number | null }
  | { readonly kind: "stopTask"; readonly taskId: number }
  /** `columns` empty: all of them. `taskId`: of one task, where there is a choice. */
  | {
      readonly kind: "show";
      readonly what: ShowName;
      readonly columns: readonly string[];
      readonly taskId?: number;
    }
  /** A driver's probe of a setting: one row with one empty column of that name. */
  | { readonly kind: "showSetting"; readonly name: string }
  | { readonly kind: "maintenance"; readonly isOn: boolean; readonly database: string | null }
  | {
      readonly kind: "pause";
      readonly isPaused: boolean;
      readonly user: string | null;
      readonly database: string | null;
    }
  | { readonly kind: "reload" | "reconnect" | "shutdown" }
  | { readonly kind: "set"; readonly name: string; readonly value: string }
  | { readonly kind: "resolveCutover"; readonly database: string }
  | { readonly kind: "unfence"; readonly database: string; readonly isConfirmed: boolean }
  | { readonly kind: "unsupported"; readonly name: string }
  | { readonly kind: "empty" };

/**
 * Reads one admin command. Keywords are in any case; names keep theirs, quoted or not.
 * @throws AdminSyntaxError with the usage of the command that was meant
 */
export function parseCommand(sql: string): Command {
  const [first, ...rest] = tokenize(sql);
  if (first === undefined) return { kind: "empty" };
  const keyword = first.isQuoted ? "" : first.text.toUpperCase();
  const parser = PARSERS[keyword];
  if (parser) return parser(rest);
  if (UNSUPPORTED_COMMANDS.has(keyword)) return { kind: "unsupported", name: keyword };
  throw new AdminSyntaxError(
    `unknown command: ${first.text}`,
    "This is the admin database; its commands are in docs/admin-commands.md. Connect to another database for SQL.",
  );
}

type Parser = (rest: readonly Token[]) => Command;

const PARSERS: Readonly<Record<string, Parser>> = {
  COPY_DATA: (rest) => ({ kind: "startTask", task: "copy_data", ...migration(rest, "COPY_DATA") }),
  REPLICATE: (rest) => ({ kind: "startTask", task: "replicate", ...migration(rest, "REPLICATE") }),
  RESHARD: (rest) => ({ kind: "startTask", task: "reshard", ...migration(rest, "RESHARD") }),
  SCHEMA_SYNC: schemaSync,
  CUTOVER: (rest) => {
    const usage = "CUTOVER [<task_id>]";
    atMost(rest, 1, usage);
    const [id] = rest;
    return { kind: "cutover", taskId: id === undefined ? null : taskId(id, usage) };
  },
  STOP_TASK: (rest) => {
    const usage = "STOP_TASK <task_id>";
    const [id] = exactly(rest, 1, usage);
    return { kind: "stopTask", taskId: taskId(id, usage) };
  },
  SHOW: show,
  MAINTENANCE: maintenance,
  PAUSE: (rest) => pause(rest, "PAUSE"),
  RESUME: (rest) => pause(rest, "RESUME"),
  RELOAD: (rest) => bare(rest, "reload"),
  RECONNECT: (rest) => bare(rest, "reconnect"),
  SHUTDOWN: (rest) => bare(rest, "shutdown"),
  SET: set,
  RESOLVE: (rest) => {
    const usage = "RESOLVE CUTOVER <database>";
    const [what, database] = exactly(rest, 2, usage);
    if (!isWord(what, "CUTOVER")) throw usageError(usage);
    return { kind: "resolveCutover", database: nameOf(database, usage) };
  },
  UNFENCE: (rest) => {
    const usage = "UNFENCE <database> CONFIRM";
    atMost(rest, 2, usage);
    const [database, confirm] = rest;
    if (confirm !== undefined && !isWord(confirm, "CONFIRM")) throw usageError(usage);
    return {
      kind: "unfence",
      database: nameOf(database, usage),
      isConfirmed: confirm !== undefined,
    };
  },
};

function migration(rest: readonly Token[], command: string): MigrationArguments {
  const usage = `${command} <source> <destination> <publication> [<slot>]`;
  atMost(rest, 4, usage);
  const [source, destination, publication, slot] = rest;
  return {
    source: nameOf(source, usage),
    destination: nameOf(destination, usage),
    publication: nameOf(publication, usage),
    slot: slot === undefined ? null : nameOf(slot, usage),
  };
}

function schemaSync(rest: readonly Token[]): Command {
  const command = "SCHEMA_SYNC PRE|POST|CUTOVER";
  const [phase, ...names] = rest;
  for (const candidate of ["pre", "post", "cutover"] as const)
    if (isWord(phase, candidate.toUpperCase()))
      return { kind: "schemaSync", phase: candidate, ...migration(names, command) };
  throw usageError(`${command} <source> <destination> <publication>`);
}

function show(rest: readonly Token[]): Command {
  const usage = "SHOW <name>";
  const [first, ...more] = rest;
  const name = nameOf(first, usage).toLowerCase();
  const what = SHOW_NAMES.find((known) => known === name);
  if (what === undefined) {
    // Drivers ask for settings of PostgreSQL, some in several words: TRANSACTION ISOLATION LEVEL.
    if (UNSUPPORTED_SHOWS.has(name))
      return { kind: "unsupported", name: `SHOW ${rest.map((token) => token.text).join(" ")}` };
    return { kind: "showSetting", name: rest.map((token) => token.text).join("_") };
  }
  if (what === "evidence") return showEvidence(more);
  const columns = more.filter((token) => token.isQuoted || token.text !== ",");
  if (columns.length > 0 && what !== "clients" && what !== "servers")
    throw usageError(`SHOW ${what.toUpperCase()}`);
  return { kind: "show", what, columns: columns.map((token) => token.text.toLowerCase()) };
}

function showEvidence(rest: readonly Token[]): Command {
  const usage = "SHOW EVIDENCE [<task_id>]";
  atMost(rest, 1, usage);
  const [id] = rest;
  const all = { kind: "show", what: "evidence", columns: [] } as const;
  return id === undefined ? all : { ...all, taskId: taskId(id, usage) };
}

function maintenance(rest: readonly Token[]): Command {
  const usage = "MAINTENANCE ON|OFF [<database>]";
  atMost(rest, 2, usage);
  const [state, database] = rest;
  if (!isWord(state, "ON") && !isWord(state, "OFF")) throw usageError(usage);
  return {
    kind: "maintenance",
    isOn: isWord(state, "ON"),
    database: database === undefined ? null : nameOf(database, usage),
  };
}

function pause(rest: readonly Token[], command: "PAUSE" | "RESUME"): Command {
  const usage = `${command} [[<user>] <database>]`;
  atMost(rest, 2, usage);
  const names = rest.map((token) => nameOf(token, usage));
  return {
    kind: "pause",
    isPaused: command === "PAUSE",
    user: names.length === 2 ? (names[0] ?? null) : null,
    database: names.at(-1) ?? null,
  };
}

function bare(rest: readonly Token[], kind: "reload" | "reconnect" | "shutdown"): Command {
  atMost(rest, 0, kind.toUpperCase());
  return { kind };
}

function set(rest: readonly Token[]): Command {
  const usage = "SET <name> TO <value>";
  // PostgreSQL's drivers write SESSION and "=" at times.
  const words = isWord(rest[0], "SESSION") ? rest.slice(1) : rest;
  const [name, to, ...values] = words;
  if (!isWord(to, "TO") && !isWord(to, "=")) throw usageError(usage);
  const value = values.map((token) => token.text).join(" ");
  if (values.length === 0) throw usageError(usage);
  return { kind: "set", name: nameOf(name, usage).toLowerCase(), value };
}

function taskId(token: Token | undefined, usage: string): number {
  const text = token?.text ?? "";
  if (!/^\d{1,15}$/u.test(text)) throw usageError(usage, `"${text}" is not a task id`);
  return Number(text);
}

function nameOf(token: Token | undefined, usage: string): string {
  if (token === undefined || token.text === "") throw usageError(usage);
  if (!token.isQuoted && (token.text === "," || token.text === "=")) throw usageError(usage);
  return token.text;
}

function isWord(token: Token | undefined, word: string): boolean {
  return token !== undefined && !token.isQuoted && token.text.toUpperCase() === word;
}

function exactly(rest: readonly Token[], count: number, usage: string): readonly Token[] {
  if (rest.length !== count) throw usageError(usage);
  return rest;
}

function atMost(rest: readonly Token[], count: number, usage: string): void {
  if (rest.length > count) throw usageError(usage);
}

function usageError(usage: string, detail = "the arguments do not fit"): AdminSyntaxError {
  return new AdminSyntaxError(detail, `Usage: ${usage}`);
}
