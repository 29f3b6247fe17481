import type { Node } from "libpg-query";

/** One node of the tree: PostgreSQL's name of its type, and its fields. */
export type Tagged = readonly [tag: string, body: Readonly<Record<string, unknown>>];

/** `{SelectStmt: {...}}` as its parts. Fields typed as one struct come without a tag. */
export function tagged(node: unknown): Tagged | null {
  if (typeof node !== "object" || node === null || Array.isArray(node)) return null;
  for (const [tag, body] of Object.entries(node)) {
    const isTag = tag.charCodeAt(0) < 97 && typeof body === "object" && body !== null;
    return isTag ? [tag, body] : null;
  }
  return null;
}

/**
 * Visits every tagged node below `root` in the order of the tree, `root` too.
 * @param visit returns false to leave out what is below this node
 */
export function walk(root: unknown, visit: (node: Node, tag: string) => boolean): void {
  if (typeof root !== "object" || root === null) return;
  if (Array.isArray(root)) {
    for (const item of root) walk(item, visit);
    return;
  }
  const found = tagged(root);
  if (found === null) {
    for (const value of Object.values(root)) walk(value, visit);
    return;
  }
  if (visit(root as Node, found[0]))
    for (const value of Object.values(found[1])) walk(value, visit);
}

/** The names in a list of String nodes: a qualified name, an operator. */
export function namesOf(nodes: readonly Node[] | undefined): readonly string[] {
  return (nodes ?? []).map((node) => ("String" in node ? (node.String.sval ?? "") : "*"));
}

export function lastName(nodes: readonly Node[] | undefined): string {
  return namesOf(nodes).at(-1) ?? "";
}
