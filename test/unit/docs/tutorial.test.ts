import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseOptions } from "../../demo/options.js";
import { ordinary } from "../../demo/ordinary/application.js";

const page = (name: string) => readFileSync(new URL(`../../../${name}`, import.meta.url), "utf8");
const tutorial = page("docs/tutorial.md");
const { publication, shardedTables, tables } = ordinary();

describe("the tutorial", () => {
  it("configures what the demo's nodes are configured with", () => {
    const rules = [...tutorial.matchAll(/\[\[sharded_tables\]\]\n((?:\w+ = .*\n)+)/gu)];
    const expected = shardedTables.map(({ name, column }) =>
      [
        'database = "prod_sharded"',
        ...(name === undefined ? [] : [`name = "${name}"`]),
        `column = "${column}"`,
        "",
      ].join("\n"),
    );
    expect(rules.map(([, keys]) => keys)).toEqual(expected);
  });

  it("moves the demo's tables by its publication", () => {
    expect(tutorial).toContain(`RESHARD prod prod_sharded ${publication};`);
    const moved = [...tutorial.matchAll(/^moves .*: (.*)$/gmu)]
      .flatMap(([, names]) => names?.split(", ") ?? [])
      .toSorted();
    expect(moved).toEqual(tables.map(({ table }) => table).toSorted());
  });

  it.each(["README.md", "docs/tutorial.md"])("%s: the demo has the options", (name) => {
    const named = [...page(name).matchAll(/(?:npm run demo -- |with `)(--[^`\n]*)/gu)];
    expect(named.length).toBeGreaterThan(0);
    for (const [, options = ""] of named) {
      const args = options.replaceAll("N", "1").replace("FILE", "report.json").trim().split(" ");
      expect(parseOptions(args), options).not.toBeNull();
    }
  });
});
