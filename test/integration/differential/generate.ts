import { Statements } from "./statements.js";
import type { Act, Story } from "./story.js";

/** Always the same for a seed. @see https://github.com/bryc/code/blob/master/jshash/PRNGs.md mulberry32 */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** From 0 to `below` - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  }

  of<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }

  /** One time in `n`. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
}

/** Stories of some twelve statements each, with transactions, savepoints, settings, DDL and clients that leave. */
export function generatedStories(seed: number, statements: number): readonly Story[] {
  const chance = new Chance(seed);
  const source = new Statements(chance);
  const stories: Story[] = [];
  let left = statements;
  while (left > 0) {
    const acts = storyActs(chance, source);
    left -= acts.length;
    stories.push({ title: `generated ${stories.length}`, acts });
  }
  return stories;
}

function storyActs(chance: Chance, source: Statements): readonly Act[] {
  const acts: Act[] = [];
  const length = 4 + chance.below(16);
  source.beginStory();
  let isOpen = false;
  let savepoints = 0;
  const plain = (sql: string) => acts.push({ kind: "statement", sql });
  while (acts.length < length) {
    if (chance.once(40)) {
      acts.push({ kind: "vanish" });
      source.beginStory();
      isOpen = false;
      savepoints = 0;
    } else if (!isOpen && chance.once(5)) {
      plain(chance.of(["BEGIN", "BEGIN", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ"]));
      isOpen = true;
    } else if (isOpen && chance.once(5)) {
      plain(chance.of(["COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]));
      isOpen = /CHAIN/.test(lastSql(acts));
      savepoints = 0;
    } else if (isOpen && chance.once(7)) {
      if (savepoints > 0 && chance.once(2))
        plain(`${chance.of(["ROLLBACK TO", "RELEASE"])} s${1 + chance.below(savepoints)}`);
      else plain(`SAVEPOINT s${++savepoints}`);
    } else acts.push(source.next());
  }
  if (isOpen) plain(chance.of(["COMMIT", "ROLLBACK"]));
  // What it has made is there for nobody else.
  for (const sql of source.endStory()) plain(sql);
  return acts;
}

function lastSql(acts: readonly Act[]): string {
  const last = acts.at(-1);
  return last?.kind === "statement" ? last.sql : "";
}
