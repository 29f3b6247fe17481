import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

/**
 * The one way to the servers of a migration is `openSides`: whatever connects by itself is not closed with its
 * activity when another shard is down, and connects again at every look.
 */

const ROOT = "src/resharding";

/** Who connects by another way, and why. */
const REASONS: Readonly<Record<string, string>> = {
  "control/sides.ts": "it is the way",
  "control/evidence.ts":
    "what a failed step leaves is noted when its own sessions may have ended; one statement, one scope",
  "control/status.ts":
    "SHOW asks every server, whatever migrations it has; no activity, no engine context",
  "ends/unfence.ts": "a person names a database whose migration is over; no sides are left",
  "stream/stream-run.ts": "the walsender speaks the replication protocol; it ends with its scope",
};

const CONNECTS = /\b(connectEngine|connectSql|Walsender\.connect|new pg\.Client)\(/;
/** A session of the sides is not the caller's to close. */
const CLOSES = /await using \w+ = await [\w.#]*\.sessions?\(/;

const files = readdirSync(ROOT, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => ({ file, text: readFileSync(join(ROOT, file), "utf8") }));

const matching = (pattern: RegExp) =>
  files.filter(({ text }) => pattern.test(text)).map(({ file }) => file);

test("only these connect to servers, each with a reason", () => {
  expect(matching(CONNECTS).sort()).toEqual(Object.keys(REASONS).sort());
});

test("nobody closes a session that the sides own", () => {
  expect(matching(CLOSES)).toEqual([]);
});

test("every activity that opens sides closes them with its scope", () => {
  const opens =
    /(?<!await using sides = (await )?|function |return (await )?)\b(openSides|configuredSides)\(/;
  expect(matching(opens)).toEqual([]);
});
