import ts from "typescript";
import { expect, it } from "vitest";
import { SQLSTATE } from "../../../src/core/sqlstate.js";
import { isTransientState } from "../../../src/core/transient.js";
import { nodesOf, SOURCES, TREES } from "./sources.js";

const HOME = "src/core/sqlstate.ts";
/** Two characters of class and three of condition, a digit among them: no keyword of SQL looks like that. */
const SQLSTATE_TEXT = /^(?=.*\d)[0-9A-Z]{5}$/;
/** A class alone, as in `state.startsWith("08")`. */
const CLASS_TEXT = /^(?:\d\d|0A|2[BDF]|3[BDF]|F0|HV|P0|XX|SL)$/;
/** Names and manners of speech of codes, for messages (R56). */
const TABLE = "src/core/sqlstate-conditions.ts";
const TRANSIENT_HOME = "src/core/transient.ts";

function textsOf(pattern: RegExp, homes: readonly string[]): readonly string[] {
  return TREES.filter((tree) => !homes.includes(tree.fileName)).flatMap((tree) =>
    [...nodesOf(tree)]
      .filter(ts.isStringLiteralLike)
      .filter(({ text }) => pattern.test(text))
      .map(({ text }) => `${tree.fileName}: ${text}`),
  );
}

it("an SQLSTATE has its name in core and is written nowhere else", () => {
  expect(textsOf(SQLSTATE_TEXT, [HOME, TABLE])).toEqual([]);
});

it("a class of SQLSTATE is written where it is decided what passes by itself", () => {
  // Class 28, invalid authorization: the server is there and says no.
  expect(textsOf(CLASS_TEXT, [HOME, TABLE, TRANSIENT_HOME])).toEqual([
    "src/admin/task-check.ts: 28",
  ]);
});

it("inside SQL text, too", () => {
  const written = [...SOURCES]
    .filter(([path]) => path !== HOME)
    .flatMap(([path, text]) =>
      [...text.matchAll(/ERRCODE\s*=\s*'(\w{5})'|SQLSTATE\s+'(\w{5})'/g)].map(
        ([all]) => `${path}: ${all}`,
      ),
    );
  expect(written).toEqual([]);
});

it.each(Object.keys(SQLSTATE))("%s is used", (name) => {
  const isUsed = [...SOURCES].some(
    ([path, text]) => path !== HOME && new RegExp(`SQLSTATE\\.${name}\\b`).test(text),
  );
  expect(isUsed).toBe(true);
});

it.each([
  ["08006", true],
  ["40P01", true],
  ["53300", true],
  ["55006", true],
  ["55P03", true],
  ["57014", true],
  ["58030", true],
  ["23505", false],
  ["42501", false],
  ["55000", false],
  ["08", false],
  ["ECONNREFUSED", false],
])("%s passes by itself: %s", (state, passes) => {
  expect(isTransientState(state)).toBe(passes);
});
