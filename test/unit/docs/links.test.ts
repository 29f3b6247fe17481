import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(root, "docs"), { recursive: true })
    .map((name) => join("docs", String(name)))
    .filter((name) => name.endsWith(".md")),
];

describe("documents", () => {
  it.each(pages)("%s points to files that exist", (page) => {
    const text = readFileSync(join(root, page), "utf8");
    const linked = [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((match) =>
      join(dirname(page), match[1] ?? ""),
    );
    // Also what is named in code: the test behind a promise, a file of the map.
    const named = [
      ...text.matchAll(/`((?:src|test|docs|scripts|workflows|activities)\/[\w./-]+)`/g),
    ].map((match) => match[1] ?? "");
    for (const path of [...linked, ...named])
      expect(existsSync(join(root, path)), `${page}: ${path}`).toBe(true);
  });
});
