import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ERROR_CODES } from "../../../src/core/errors.js";

const page = readFileSync(new URL("../../../docs/errors.md", import.meta.url), "utf8");
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [heading = "", ...body] = section.split("\n");
      return [heading.trim(), body.join("\n").trim()] as const;
    }),
);

describe("docs/errors.md", () => {
  it("has a heading for every code, and for none that is not there", () => {
    expect([...sections.keys()].sort()).toEqual([...ERROR_CODES].sort());
  });

  it.each([...sections])("%s says what it is and what to do", (_code, body) => {
    expect(body.length).toBeGreaterThan(60);
    expect(body).toMatch(/\bDo:/);
  });
});
