import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Every file of the product, as a path from the root, and its text. */
export const SOURCES: ReadonlyMap<string, string> = new Map(
  ["src", "workflows", "activities"]
    .flatMap((room) =>
      readdirSync(`${ROOT}${room}`, { recursive: true }).map((path) => `${room}/${String(path)}`),
    )
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .map((path) => [path, readFileSync(`${ROOT}${path}`, "utf8")]),
);

/** The syntax trees of the product: what a page says of the code is held to them. */
export const TREES: readonly ts.SourceFile[] = [...SOURCES].map(([path, text]) =>
  ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true),
);

/** Every node of a tree, parents first. */
export function* nodesOf(root: ts.Node): Generator<ts.Node> {
  yield root;
  const children: ts.Node[] = [];
  ts.forEachChild(root, (child) => void children.push(child));
  for (const child of children) yield* nodesOf(child);
}
