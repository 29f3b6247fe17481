import { readFileSync } from "node:fs";
import type pg from "pg";

/** What load.sql draws anew for each turn. */
export interface Turn {
  readonly tenant: number;
  readonly n: number;
}

/** How a client sends its statements, as `pgbench -M` has it. */
export const PROTOCOLS = ["simple", "extended", "prepared"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** What the ledger knows a statement of load.sql by. */
const KINDS = [
  ["add project", "INSERT INTO projects "],
  ["log", "INSERT INTO audit_log "],
  ["log in", "UPDATE users "],
  ["list tasks", "SELECT id, title FROM tasks "],
  ["comment", "INSERT INTO comments "],
  ["finish tasks", "UPDATE tasks "],
  ["drop attachments", "DELETE FROM attachments "],
  ["sign up", "INSERT INTO tenants "],
  ["toggle flag", "INSERT INTO feature_flags "],
  ["end session", "DELETE FROM sessions "],
  ["begin session", "INSERT INTO sessions "],
] as const;
export type Kind = (typeof KINDS)[number][0];

export interface Statement {
  readonly kind: Kind;
  /** With `:tenant` and `:n` in it. */
  readonly text: string;
}

/** load.sql, for clients that remember. */
export interface Script {
  /** Tenants are numbered from 1 to this. */
  readonly tenants: number;
  /** What happens together: one statement, or the statements of a transaction. */
  readonly steps: readonly (readonly Statement[])[];
}

/** @throws Error for a statement that the ledger does not know: it would not be judged */
export function readScript(path: URL): Script {
  const lines = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => !line.startsWith("--"));
  const tenants = lines.map((line) => /^\\set tenant random\(1, (\d+)\)$/u.exec(line)?.[1]);
  const count = Number(tenants.find((found) => found !== undefined));
  if (!Number.isInteger(count)) throw new Error(`${path.pathname} draws no tenant`);
  const texts = lines
    .filter((line) => !line.startsWith("\\"))
    .join("\n")
    .split(/;\s*(?:\n|$)/u)
    .map((text) => text.trim())
    .filter((text) => text !== "");
  return { tenants: count, steps: stepsOf(texts) };
}

/** The statement as pgbench sends it in that protocol. */
export function toQuery(statement: Statement, turn: Turn, protocol: Protocol): pg.QueryConfig {
  const { kind, text } = statement;
  const variable = /:(tenant|n)\b/gu;
  const drawn = (name: string) => String(name === "tenant" ? turn.tenant : turn.n);
  if (protocol === "simple")
    return { text: text.replace(variable, (_, name: string) => drawn(name)) };
  const values: string[] = [];
  const numbered = text.replace(variable, (_, name: string) => `$${values.push(drawn(name))}`);
  return { text: numbered, values, ...(protocol === "prepared" ? { name: kind } : {}) };
}

function stepsOf(texts: readonly string[]): readonly (readonly Statement[])[] {
  const steps: Statement[][] = [];
  let open: Statement[] | null = null;
  for (const text of texts) {
    if (text === "BEGIN") open = [];
    else if (text === "COMMIT") {
      steps.push(open ?? []);
      open = null;
    } else if (open) open.push(statementOf(text));
    else steps.push([statementOf(text)]);
  }
  return steps;
}

function statementOf(text: string): Statement {
  const [kind] = KINDS.find(([, begin]) => text.startsWith(begin)) ?? [];
  if (kind === undefined) throw new Error(`the ledger does not know "${text}"`);
  return { kind, text };
}
