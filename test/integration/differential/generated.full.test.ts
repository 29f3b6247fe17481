import { expect, test } from "vitest";
import { Both } from "./both.js";
import { generatedStories } from "./generate.js";

/** As `differential.pg.test.ts`, longer. */
const STATEMENTS = 1_000;
const SEED = 20_261_128;
const STORIES_BETWEEN_RESTARTS = 30;

test("a thousand generated statements: the same, or refused", async () => {
  await using both = await Both.start();
  for (const [index, story] of generatedStories(SEED, STATEMENTS).entries()) {
    if (index > 0 && index % STORIES_BETWEEN_RESTARTS === 0) await both.restart();
    await both.play(story);
  }
  expect(both.outcome.differences).toEqual([]);
}, 600_000);
