import { afterAll, beforeAll, expect, test } from "vitest";
import { Both, type Difference, type Outcome } from "./both.js";
import { generatedStories } from "./generate.js";
import { type Story, storiesOfCorpus } from "./story.js";

/**
 * What applications send, to two shards behind the proxy and to one PostgreSQL: rows, tags, errors, the state after each
 * statement, and all tables after each story are the same, or the proxy has refused.
 */

let both: Both;

beforeAll(async () => {
  both = await Both.start();
});

afterAll(async () => {
  await both[Symbol.asyncDispose]();
});

const TIMEOUT_MS = 300_000;
/** More are in `generated.full.test.ts`. */
const STATEMENTS = 100;
const SEED = Number(process.env.SLUICE_TEST_SEED ?? 20_261_128);
/** So that tables do not grow from story to story. */
const STORIES_BETWEEN_RESTARTS = 30;

async function play(stories: readonly Story[]): Promise<Outcome> {
  await both.restart();
  for (const [index, story] of stories.entries()) {
    if (index > 0 && index % STORIES_BETWEEN_RESTARTS === 0) await both.restart();
    await both.play(story);
  }
  return both.outcome;
}

test(
  "what is written by hand",
  async () => {
    const stories = storiesOfCorpus();
    for (const story of stories) {
      await both.restart();
      await both.play(story);
    }
    const { differences, statements } = both.outcome;
    expect(report(differences)).toBe("");
    expect(statements).toBeGreaterThan(550);
  },
  TIMEOUT_MS,
);

test(
  `what is generated (SLUICE_TEST_SEED=${SEED})`,
  async () => {
    const before = both.outcome.differences.length;
    const { differences, refused } = await play(generatedStories(SEED, STATEMENTS));
    if (process.env.SLUICE_TEST_REFUSED)
      for (const [words, count] of [...refused].sort((a, b) => b[1] - a[1]))
        process.stderr.write(`${count} ${words}\n`);
    expect(report(differences.slice(before))).toBe("");
  },
  TIMEOUT_MS,
);

/** With the statements that lead there; empty where there is none. */
function report(differences: readonly Difference[]): string {
  return differences
    .map(({ story, acts, expected, actual }) => {
      const sides = `one PostgreSQL: ${JSON.stringify(expected)}\nshards: ${JSON.stringify(actual)}`;
      return `## ${story}\n${acts.join(";\n")};\n${sides}\n`;
    })
    .join("\n");
}
