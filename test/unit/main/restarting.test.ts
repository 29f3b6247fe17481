import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RestartingProcess } from "../../../src/main/processes/restarting.js";

const BACKOFF = { firstMs: 1, longestMs: 4, stableMs: 60_000 };
let folder: string;
let staying: string;
let leaving: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-restarting-"));
  staying = join(folder, "staying.mjs");
  writeFileSync(staying, 'process.on("message", () => {}); process.send(process.argv[2]);');
  leaving = join(folder, "leaving.mjs");
  writeFileSync(leaving, "process.exit(3);");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type End = readonly [reason: string, restartInMs: number | null];

/** Starts a process and gathers what is told of it; `when` resolves at that many starts or ends. */
function watch(entry: string) {
  const children: ChildProcess[] = [];
  const ends: End[] = [];
  const waiters: (() => boolean)[] = [];
  const note = () => {
    const waiting = waiters.splice(0).filter((is) => !is());
    waiters.push(...waiting);
  };
  const process = new RestartingProcess({
    entry,
    backoff: BACKOFF,
    argument: () => String(children.length),
    onStart: (child) => {
      children.push(child);
      note();
    },
    onEnd: ({ reason, restartInMs }) => {
      ends.push([reason, restartInMs]);
      note();
    },
  });
  const when = async (is: () => boolean) =>
    await new Promise<void>((resolve) => {
      waiters.push(() => {
        if (!is()) return false;
        resolve();
        return true;
      });
      note();
    });
  process.start();
  return { process, children, ends, when };
}

describe("a process that is kept alive", () => {
  it("starts again after it was killed, with a new argument", async () => {
    const { process, children, ends, when } = watch(staying);
    const first = children[0];
    if (!first) throw new Error("not started");
    expect((await once(first, "message"))[0]).toBe("0");
    first.kill("SIGKILL");
    await when(() => children.length === 2);
    const second = children[1];
    if (!second) throw new Error("not started again");
    expect((await once(second, "message"))[0]).toBe("1");
    expect(ends).toEqual([["SIGKILL", 1]]);
    process.kill();
    await process.ended();
    expect(ends.at(-1)).toEqual(["SIGKILL", null]);
    expect(children).toHaveLength(2);
  });

  it("waits longer while it keeps ending early, up to the longest", async () => {
    const { process, ends, when } = watch(leaving);
    await when(() => ends.length === 4);
    await process.ended();
    expect(ends.slice(0, 4)).toEqual([
      ["3", 1],
      ["3", 2],
      ["3", 4],
      ["3", 4],
    ]);
  });

  it("that was told to end by itself is not started again", async () => {
    const { process, children, ends } = watch(staying);
    const [child] = children;
    if (!child) throw new Error("not started");
    await once(child, "message");
    const ended = process.ended();
    child.disconnect();
    await ended;
    expect(ends).toEqual([["0", null]]);
    expect(children).toHaveLength(1);
  });
});
