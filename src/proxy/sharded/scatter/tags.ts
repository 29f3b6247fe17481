/** Command tags of several shards as one: the row counts at their ends are added up. */
export function addTags(tags: readonly string[]): string {
  const [first = ""] = tags;
  const space = first.lastIndexOf(" ");
  const counts = tags.map((tag) => tag.slice(tag.lastIndexOf(" ") + 1));
  if (space < 0 || !counts.every((count) => /^\d+$/.test(count))) return first;
  const sum = counts.reduce((total, count) => total + Number(count), 0);
  return `${first.slice(0, space)} ${sum}`;
}

/** The row count at a tag's end, or 0. */
export function countOf(tag: string): number {
  return Number(/ (\d+)$/.exec(tag)?.[1] ?? 0);
}
