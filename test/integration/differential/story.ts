import { readdirSync, readFileSync } from "node:fs";

/** One thing that a client does. */
export type Act =
  /** Sends it by the simple protocol; with values, by the extended one, which prepares it where there is a name. */
  | {
      readonly kind: "statement";
      readonly sql: string;
      readonly values?: readonly unknown[];
      readonly name?: string;
    }
  /** COPY ... FROM STDIN. */
  | { readonly kind: "copy"; readonly sql: string; readonly data: string }
  /** Its socket is closed, whatever it had begun, and a new client goes on. */
  | { readonly kind: "vanish" };

/** What one connection does from login to its end. */
export interface Story {
  readonly title: string;
  readonly acts: readonly Act[];
}

const CORPUS = new URL("./corpus/", import.meta.url);

/** The stories of `corpus/*.sql`, which are written as `parseStories` reads them. */
export function storiesOfCorpus(): readonly Story[] {
  const files = readdirSync(CORPUS).filter((name) => name.endsWith(".sql"));
  return files
    .sort()
    .flatMap((name) =>
      parseStories(name.replace(".sql", ""), readFileSync(new URL(name, CORPUS), "utf8")),
    );
}

/**
 * `-- # title` begins a story. A statement ends with a line that ends in `;` (with `\;` it goes on, in the same Query).
 * Lines before a statement that say how it is sent: `-- values [1, "a"]`, `-- name n`. After COPY ... FROM STDIN come its
 * data up to `\.`. `-- vanish` stands for itself.
 */
export function parseStories(file: string, text: string): readonly Story[] {
  const stories: { title: string; acts: Act[] }[] = [];
  let lines: string[] = [];
  let how: { values?: readonly unknown[]; name?: string } = {};
  let copied: { readonly sql: string; readonly data: string[] } | null = null;
  const add = (act: Act) => {
    const story = stories.at(-1);
    if (story === undefined) throw new Error(`${file}: a statement before the first story`);
    story.acts.push(act);
  };
  for (const line of text.split("\n")) {
    const [, word, rest] = /^-- (#|values|name|vanish)\s*(.*)$/.exec(line) ?? [];
    if (copied !== null) {
      if (line !== "\\.") copied.data.push(`${line}\n`);
      else {
        add({ kind: "copy", sql: copied.sql, data: copied.data.join("") });
        copied = null;
      }
    } else if (word === "#") stories.push({ title: `${file}: ${rest}`, acts: [] });
    else if (word === "values") how = { ...how, values: JSON.parse(rest ?? "") as unknown[] };
    else if (word === "name") how = { ...how, name: rest ?? "" };
    else if (word === "vanish") add({ kind: "vanish" });
    else if (line.trim() !== "" || lines.length > 0) lines.push(line);
    if (!line.endsWith(";") || line.endsWith("\\;") || lines.length === 0) continue;
    const sql = lines.join("\n").replaceAll("\\;", ";").slice(0, -1);
    lines = [];
    if (/^copy .* from stdin/i.test(sql)) copied = { sql, data: [] };
    else add({ kind: "statement", sql, ...how });
    how = {};
  }
  return stories;
}
