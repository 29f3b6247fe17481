import { expect, test } from "vitest";
import { Both } from "./both.js";
import { generatedStories } from "./generate.js";

/** As `differential.pg.test.ts`, longer, and from another seed. */
const STATEMENTS = 5_000;
const SEED = 11_282_026;
const STORIES_BETWEEN_RESTARTS = 30;

test("five thousand generated statements: the same, or refused", async () => {
  await using both = await Both.start();
  for (const [index, story] of generatedStories(SEED, STATEMENTS).entries()) {
    if (index > 0 && index % STORIES_BETWEEN_RESTARTS === 0) await both.restart();
    await both.play(story);
  }
  expect(both.outcome.differences).toEqual([]);
}, 600_000);
