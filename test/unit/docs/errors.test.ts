import { readFileSync } from "node:fs";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { ERROR_CODES } from "../../../src/core/errors.js";
import { errorClasses } from "./error-classes.js";
import { nodesOf, ROOT, TREES } from "./sources.js";

const page = readFileSync(`${ROOT}docs/errors.md`, "utf8");
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [heading = "", ...body] = section.split("\n");
      return [heading.trim(), body.join("\n").trim()] as const;
    }),
);

/** Meant several things, or were never thrown. Listed so that nobody gives them a meaning again. */
const RETIRED_CODES = ["SLUICE_SESSION_REFUSED", "SLUICE_VERIFY_DIFFERENT"];

/** No class: a workflow ends with it. */
const OF_WORKFLOWS = ["SLUICE_PREFLIGHT_FAILED", "SLUICE_STANDBY_NOT_READING"];

const RECOVERY: Readonly<Record<string, string>> = {
  retry: "time alone helps",
  operator: "a person helps",
  never: "the input, or our code, is wrong",
};

const classes = errorClasses();

describe("docs/errors.md", () => {
  it("has a heading for every code, in their order, and for none that is not there", () => {
    expect([...sections.keys()]).toEqual([...ERROR_CODES]);
  });

  it.each([...sections])("%s says what it is and what to do", (_code, body) => {
    expect(body.length).toBeGreaterThan(60);
    expect(body).toMatch(/\bDo:/);
  });

  it.each(classes.map((one) => [one.code, one] as const))(
    "%s: its SQLSTATE and who can help are those of the class",
    (code, one) => {
      const line = sections.get(code)?.split("\n")[0];
      const sqlState = one.sqlState === null ? "as the case is" : `\`${one.sqlState}\``;
      const recovery = one.recovery === null ? "it depends" : RECOVERY[one.recovery];
      expect(line).toBe(`SQLSTATE: ${sqlState}; ${recovery}.`);
    },
  );

  it("names the retired codes, and none of them is back", () => {
    const [head] = page.split(/^## /m);
    expect(ERROR_CODES.filter((code) => RETIRED_CODES.includes(code))).toEqual([]);
    for (const code of RETIRED_CODES) expect(head).toContain(`\`${code}\``);
  });
});

describe("error codes", () => {
  it("each is thrown by exactly one class", () => {
    const thrown = [...classes.map((one) => one.code), ...OF_WORKFLOWS].sort();
    expect(thrown).toEqual([...ERROR_CODES].sort());
  });

  it("what looks like a code anywhere in the product is one", () => {
    const known: readonly string[] = ERROR_CODES;
    const unknown = TREES.flatMap((tree) =>
      [...nodesOf(tree)]
        .filter(ts.isStringLiteral)
        .filter(({ text }) => /^SLUICE_[A-Z_]+$/.test(text) && !known.includes(text))
        .filter(() => tree.fileName !== "src/core/errors.ts")
        .map(({ text }) => `${tree.fileName}: ${text}`),
    );
    expect(unknown).toEqual([]);
  });
});
