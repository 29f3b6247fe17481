import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import {
  type ActivityStep,
  ALL_STEPS,
  type ChildStep,
  failurePlan,
  statusOf,
  UNDO,
} from "../../../src/resharding/model/steps.js";
import type { Workflows } from "../../../src/resharding/model/workflows.js";
import type * as registered from "../../../workflows/index.js";
import { optionsOf } from "../../../workflows/task/activity-options.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const sources = readdirSync(`${root}workflows`, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => parse(`workflows/${name}`));

function parse(path: string): ts.SourceFile {
  const text = readFileSync(`${root}${path}`, "utf8");
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
}

function nodesOf(file: ts.Node): readonly ts.Node[] {
  const below: ts.Node[] = [];
  file.forEachChild((child) => {
    below.push(child, ...nodesOf(child));
  });
  return below;
}

interface Literal {
  readonly text: string;
  readonly at: string;
  readonly node: ts.Node;
}

function literalsOf(file: ts.SourceFile): readonly Literal[] {
  return nodesOf(file).flatMap((node) => {
    const isText = ts.isStringLiteralLike(node) || ts.isTemplateHead(node);
    if (!isText && !ts.isTemplateMiddle(node) && !ts.isTemplateTail(node)) return [];
    const { line } = file.getLineAndCharacterOfPosition(node.getStart());
    return [{ text: node.text, at: `${file.fileName}:${line + 1}`, node }];
  });
}

/** Literals that are not the name of the step in `step("name", ...)` or in its like. */
function besideCalls(literals: readonly Literal[]): readonly Literal[] {
  return literals.filter(({ node }) => {
    const { parent } = node;
    if (!ts.isCallExpression(parent) || parent.arguments[0] !== node) return true;
    const name = parent.expression.getText().split(".").at(-1) ?? "";
    return !["step", "enter", "answeredBadly", "compensationsBefore"].includes(name);
  });
}

const literals = sources.flatMap(literalsOf);

describe("workflows write nothing that STEPS declares", () => {
  test("no status word of a step", () => {
    const words = Object.values(ALL_STEPS).flatMap((step) => [
      ...[false, true].map((isReverse) => statusOf(step, { isReverse })),
      step.rowStatus,
    ]);
    const known = new Set(words.filter((word) => word !== null));
    expect([...known]).toContain("rolling back");
    const written = literals.filter(({ text }) => [...known].some((word) => text.includes(word)));
    expect(written.map(({ at, text }) => `${at} ${text}`)).toEqual([]);
  });

  test("no compensation", () => {
    const written = besideCalls(literals).filter(({ text }) => Object.hasOwn(UNDO, text));
    expect(written.map(({ at, text }) => `${at} ${text}`)).toEqual([]);
  });

  test("no step but where it is run, once per call; and each step is run", () => {
    // As types: which steps a function may be called for.
    const names = literals.filter(
      ({ text, node }) => Object.hasOwn(ALL_STEPS, text) && !ts.isLiteralTypeNode(node.parent),
    );
    const passedOn = ["schemaPre", "schemaPost"];
    // Orders and workflows of the same names.
    const other = ["cutover", "replicate", "copyTable"];
    const beside = besideCalls(names).filter(
      ({ text }) => !passedOn.includes(text) && !other.includes(text),
    );
    // A view that has not begun.
    expect(beside.map(({ at }) => at.split(":")[0])).toEqual(["workflows/cutover/attempt-view.ts"]);
    const run = new Set(names.map(({ text }) => text));
    const bySchemaSync = ["schemaPreTask", "schemaPostTask", "schemaCutoverTask"];
    // Undone by the runner, as declared.
    const byRunner = ["abortMigration"];
    expect(Object.keys(ALL_STEPS).filter((name) => !run.has(name))).toEqual([
      ...byRunner,
      ...bySchemaSync,
    ]);
  });

  test("no activity is called but by the runner", () => {
    const callers = sources.filter((file) =>
      nodesOf(file).some((node) => ts.isIdentifier(node) && node.text === "proxyActivities"),
    );
    expect(callers.map(({ fileName }) => fileName)).toEqual(["workflows/task/activity-options.ts"]);
  });
});

/** Complete: a field more fails to compile here. */
const FIELDS: Readonly<Record<keyof ActivityStep | keyof ChildStep, true>> = {
  kind: true,
  activity: true,
  workflow: true,
  queue: true,
  startToCloseMs: true,
  addPauseCap: true,
  heartbeatMs: true,
  scheduleToStartMs: true,
  attempts: true,
  longestRetryMs: true,
  onFailure: true,
  compensation: true,
  status: true,
  rowStatus: true,
  text: true,
};

test("every field of a step has a reader that acts on it", () => {
  const read = new Set<string>();
  const step: ActivityStep = { ...(ALL_STEPS.resolve as ActivityStep) };
  const watched = new Proxy(step, {
    get: (target, field, self) => {
      read.add(String(field));
      return Reflect.get(target, field, self);
    },
  });
  optionsOf(watched, { summary: "" });
  failurePlan(watched);
  statusOf(watched, { isReverse: false });
  // The runner itself runs inside Temporal only: what it takes from `step` is seen in its text.
  for (const path of ["workflows/task/step-runner.ts", "src/resharding/model/current-details.ts"])
    for (const node of nodesOf(parse(path)))
      if (
        ts.isPropertyAccessExpression(node) &&
        ["step", "declared"].includes(node.expression.getText())
      )
        read.add(node.name.text);
  expect([...read].filter((field) => Object.hasOwn(FIELDS, field)).sort()).toEqual(
    Object.keys(FIELDS).sort(),
  );
});

test("declared limits become Temporal's options", () => {
  const step = ALL_STEPS.switchTraffic as ActivityStep;
  expect(optionsOf(step, { summary: "s", pauseCapMs: 2_000 })).toMatchObject({
    taskQueue: "sluice",
    summary: "s",
    startToCloseTimeout: 12_000,
    heartbeatTimeout: 2_000,
    scheduleToStartTimeout: 5_000,
    cancellationType: "WAIT_CANCELLATION_COMPLETED",
    retry: { maximumAttempts: 1, maximumInterval: 10_000 },
  });
  const move = ALL_STEPS.copyRange as ActivityStep;
  expect(optionsOf(move, { summary: "s" })).toMatchObject({ taskQueue: "sluice-move" });
  expect(optionsOf(move, { summary: "s" })).not.toHaveProperty("scheduleToStartTimeout");
  expect(optionsOf(move, { summary: "s" }).retry).not.toHaveProperty("maximumAttempts");
  const node = ALL_STEPS.armNode as ActivityStep;
  expect(optionsOf(node, { summary: "s", node: { nodeId: "n", incarnation: "i" } }).taskQueue).toBe(
    "node/n/i",
  );
  expect(() => optionsOf(node, { summary: "s" })).toThrow("needs the node that it is for");
});

test("who starts a workflow by its name knows its signature", () => {
  // Fails to compile when one of them differs.
  const same = <T extends Workflows>(_: Pick<T, keyof Workflows>) => true;
  expect(same<typeof registered>).toBeTypeOf("function");
});
