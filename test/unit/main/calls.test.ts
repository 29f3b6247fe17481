import { describe, expect, it } from "vitest";
import { type CallMessage, type Calls, openCalls } from "../../../src/main/processes/calls.js";

interface Questions {
  double(value: number): Promise<number>;
  fail(text: string): Promise<void>;
  never(): Promise<void>;
}

/** Two ends, with everything between them turned to JSON and back, as the channel does. */
function pair(local: Questions) {
  const asker: Calls<Questions> = openCalls<Questions, object>({}, (message) =>
    answerer.take(throughChannel(message)),
  );
  const answerer: Calls<object> = openCalls<object, Questions>(local, (message) =>
    asker.take(throughChannel(message)),
  );
  return asker;
}

function throughChannel(message: CallMessage): CallMessage {
  return JSON.parse(JSON.stringify(message)) as CallMessage;
}

const functions: Questions = {
  double: async (value) => value * 2,
  fail: async (text) => {
    throw new Error(text);
  },
  never: async () => await new Promise<never>(() => {}),
};

describe("calls between processes", () => {
  it("give each question its own answer", async () => {
    const { ask } = pair(functions);
    expect(await Promise.all([ask.double(1), ask.double(2), ask.double(3)])).toEqual([2, 4, 6]);
  });

  it("bring the message of what was thrown, though JSON keeps nothing of an error", async () => {
    const { ask } = pair(functions);
    await expect(ask.fail("no migration sees you")).rejects.toThrow("no migration sees you");
  });

  it("reject what the other end has not answered when it is gone", async () => {
    const calls = pair(functions);
    const answer = calls.ask.never();
    calls.close();
    await expect(answer).rejects.toThrow("closed");
    await expect(calls.ask.double(1)).rejects.toThrow("closed");
  });
});
