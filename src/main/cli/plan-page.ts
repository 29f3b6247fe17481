import type { PreflightResult } from "../../resharding/model/activities.js";
import type { Check, TablePlan } from "../../resharding/model/migration.js";
import type { MigrationNames } from "./migrate-commands.js";

/**
 * What an engineer reads before a migration: may it be started, what moves where, what is done to the source and
 * taken back, and what is otherwise afterwards. Findings of one kind are one paragraph, and the page fits a screen
 * unless there are errors: those are all there, each with its remedy.
 */
export function planPage(result: PreflightResult, names: MigrationNames): readonly string[] {
  const pages = GENEROSITIES.map((generosity) => pageOf(result, names, generosity));
  const fitting = pages.find((page) => page.length <= SCREEN_LINES + errorLines(result));
  return fitting ?? pages.at(-1) ?? [];
}

/** A terminal's 24 lines and what stays readable a little above. */
const SCREEN_LINES = 28;
const SCREEN_COLUMNS = 100;

/** How much is said of a kind of finding, until the page fits. */
interface Generosity {
  /** Lines of names below a sentence. */
  readonly itemLines: number;
  /** Lines of a sentence. */
  readonly textLines: number;
  /** Notes in full, as sentences alone, or only counted. */
  readonly notes: "full" | "sentences" | "counts";
  /** Kinds of warnings that are told. */
  readonly kinds: number;
}

const GENEROSITIES: readonly Generosity[] = [
  { itemLines: 2, textLines: 4, notes: "full", kinds: 99 },
  { itemLines: 2, textLines: 4, notes: "sentences", kinds: 99 },
  { itemLines: 2, textLines: 4, notes: "counts", kinds: 99 },
  { itemLines: 1, textLines: 2, notes: "counts", kinds: 99 },
  { itemLines: 1, textLines: 1, notes: "counts", kinds: 7 },
];

function pageOf(
  { ok, checks, spec }: PreflightResult,
  names: MigrationNames,
  generosity: Generosity,
): readonly string[] {
  const of = (severity: Check["severity"]) => checks.filter((check) => check.severity === severity);
  const notes = of("note");
  const isTouching = (check: Check) => check.id === "replica-identity";
  const counts = spec === null ? "" : `: ${shards(spec.source)} to ${shards(spec.destination)}`;
  return [
    `${names.from} -> ${names.to}, publication ${names.publication}${counts}`,
    ...moves(spec?.tables ?? [], generosity),
    ...section("set for the time of the migration, and put back", notes.filter(isTouching), {
      ...generosity,
      notes: "full",
    }),
    ...of("error").flatMap(errorText),
    ...section("warnings", of("warning"), { ...generosity, notes: "full" }),
    ...section(
      "good to know",
      notes.filter((check) => !isTouching(check)),
      generosity,
    ),
    `${of("ok").length} checks are fine. --all: every finding, with remedies. --json: for programs.`,
    ok
      ? "the migration can be started; what shards refuse afterwards: docs/sql.md, docs/reads.md"
      : "the migration cannot be started",
  ];
}

function shards({ shardCount }: { readonly shardCount: number }): string {
  return shardCount === 1 ? "1 shard" : `${shardCount} shards`;
}

function errorLines({ checks }: PreflightResult): number {
  return checks.filter(({ severity }) => severity === "error").flatMap(errorText).length;
}

function errorText({ id, scope, evidence, remedy }: Check): readonly string[] {
  const lines = [`ERROR   ${id}, ${scope}: ${evidence}`];
  return remedy === "" ? lines : [...lines, `        remedy: ${remedy}`];
}

function moves(tables: readonly TablePlan[], generosity: Generosity): readonly string[] {
  const byKey = groupsOf(tables, (table) => table.shardingColumn);
  // Keys of many tables first; what is on every shard last.
  const groups = [...byKey].toSorted(
    ([one, some], [other, more]) =>
      Number(one === null) - Number(other === null) || more.length - some.length,
  );
  return groups.flatMap(([key, group]) => {
    const items = distinct(group.map(tableName));
    const where = key === null ? "to every shard" : `by ${key}`;
    return list(`moves   ${items.length} ${where}: `, items, generosity.itemLines);
  });
}

function tableName({ schema, name, partitionRoot }: TablePlan): string {
  const table = partitionRoot ?? name;
  return schema === "public" ? table : `${schema}.${table}`;
}

interface Kind {
  readonly id: string;
  readonly text: string;
  readonly items: readonly string[];
}

function section(
  title: string,
  checks: readonly Check[],
  generosity: Generosity,
): readonly string[] {
  const kinds = kindsOf(checks);
  if (kinds.length === 0) return [];
  if (generosity.notes === "counts")
    return list(
      `${title}: `,
      kinds.map(({ id, items }) => `${id} (${items.length})`),
      2,
    );
  const shown = kinds.slice(0, generosity.kinds);
  const rest = kinds.length - shown.length;
  return [
    `${title}:`,
    ...shown.flatMap(({ id, text, items }) => [
      ...clipped(wrapped(`  ${id}, ${items.length}: ${text}`, "    "), generosity.textLines),
      ...(generosity.notes === "full" ? list("      ", items, generosity.itemLines) : []),
    ]),
    ...(rest > 0 ? [`  and of ${rest} other kinds`] : []),
  ];
}

/** In order of their first finding. */
function kindsOf(checks: readonly Check[]): readonly Kind[] {
  const groups = groupsOf(checks, (check) =>
    JSON.stringify([check.id, check.gist?.text ?? check.evidence]),
  );
  return [...groups.values()].map((group) => ({
    id: group[0]?.id ?? "",
    text: group[0]?.gist?.text ?? group[0]?.evidence ?? "",
    items: distinct(group.map((check) => check.gist?.item ?? check.scope)),
  }));
}

function groupsOf<T, K>(values: readonly T[], keyOf: (value: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const value of values)
    groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return groups;
}

function distinct(values: readonly string[]): readonly string[] {
  return [...new Set(values)];
}

/** As many items as fit into the lines; how many more there are is said. */
function list(head: string, items: readonly string[], maxLines: number): readonly string[] {
  const indent = " ".repeat(Math.min(head.length, 8));
  for (let shown = items.length; shown > 0; shown--) {
    const more = shown < items.length ? ` and ${items.length - shown} more` : "";
    const lines = wrapped(`${head}${items.slice(0, shown).join(", ")}${more}`, indent);
    if (lines.length <= maxLines || shown === 1) return clipped(lines, maxLines);
  }
  return [];
}

function wrapped(text: string, indent: string): readonly string[] {
  const lines: string[] = [];
  const [lead = ""] = /^ */.exec(text) ?? [];
  let line = lead;
  for (const word of text.slice(lead.length).split(" ")) {
    const isFirst = line.trim() === "";
    if (!isFirst && line.length + 1 + word.length > SCREEN_COLUMNS) {
      lines.push(line);
      line = indent + word;
    } else line += isFirst ? word : ` ${word}`;
  }
  return [...lines, line].map(cut);
}

/** A name may be longer than a line. */
function cut(line: string): string {
  return line.length <= SCREEN_COLUMNS ? line : `${line.slice(0, SCREEN_COLUMNS - 3)}...`;
}

function clipped(lines: readonly string[], maxLines: number): readonly string[] {
  if (lines.length <= maxLines) return lines;
  const last = lines[maxLines - 1] ?? "";
  return [...lines.slice(0, maxLines - 1), `${last.slice(0, SCREEN_COLUMNS - 3)}...`];
}
