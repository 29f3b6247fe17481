import { expect, test } from "vitest";
import { ServerDebt } from "../../../src/backend/server-debt.js";
import { BACKEND } from "../../../src/wire/backend.js";
import {
  COPY_DONE,
  encodeCopyData,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";

const QUERY = encodeQuery("SELECT 1");
const EXECUTE = encodeExecute({ portal: "", maxRows: 0 });
const PARSE = encodeParseSql("", "SELECT 1", []);
const DATA = encodeCopyData([Buffer.from("1\n")]);

/** After these: letters are a server's answers, buffers what it was sent. */
function after(...events: readonly (Buffer | keyof typeof BACKEND)[]): ServerDebt {
  const debt = new ServerDebt();
  for (const event of events)
    if (typeof event === "string") debt.received(BACKEND[event]);
    else debt.sent(event);
  return debt;
}

const letters = (debt: ServerDebt) => {
  const messages = debt.conclusion();
  if (messages === null) return "";
  let found = "";
  for (let at = 0; at < messages.length; at += 1 + messages.readInt32BE(at + 1))
    found += String.fromCharCode(messages[at] ?? 0);
  return found;
};

test("each Query and each Sync is owed one ReadyForQuery, several in one buffer or not", () => {
  expect(after().isClear).toBe(true);
  expect(after(QUERY).isClear).toBe(false);
  expect(after(QUERY, "commandComplete").isClear).toBe(false);
  expect(after(QUERY, "commandComplete", "readyForQuery").isClear).toBe(true);
  const two = Buffer.concat([PARSE, EXECUTE, SYNC, QUERY]);
  expect(after(two, "commandComplete", "readyForQuery").isClear).toBe(false);
  expect(after(two, "readyForQuery", "error", "readyForQuery").isClear).toBe(true);
});

test("what no Sync has followed is owed as well, and concluded by one", () => {
  const debt = after(PARSE, EXECUTE, "parseComplete", "commandComplete");
  expect([debt.isClear, letters(debt)]).toEqual([false, "S"]);
  debt.sent(SYNC);
  expect([debt.isClear, letters(debt)]).toEqual([false, ""]);
  debt.received(BACKEND.readyForQuery);
  expect(debt.isClear).toBe(true);
});

test("a COPY that waits for data is concluded by CopyFail; its end is not sent twice", () => {
  const simple = after(encodeQuery("COPY t FROM STDIN"), "copyInResponse", DATA);
  expect([simple.isClear, letters(simple)]).toEqual([false, "f"]);
  const ended = after(encodeQuery("COPY t FROM STDIN"), "copyInResponse", DATA, COPY_DONE);
  expect([ended.isClear, letters(ended)]).toEqual([false, ""]);
  const extended = after(EXECUTE, SYNC, "copyInResponse", DATA);
  expect([extended.isClear, letters(extended)]).toEqual([false, "fS"]);
});

test("the server eats a Sync inside a COPY: the one behind it counts", () => {
  const debt = after(EXECUTE, SYNC, "copyInResponse", SYNC, DATA, COPY_DONE, SYNC);
  expect(debt.isClear).toBe(false);
  debt.received(BACKEND.commandComplete);
  debt.received(BACKEND.readyForQuery);
  expect([debt.isClear, debt.isUncertain]).toEqual([true, false]);
  const failed = after(EXECUTE, SYNC, "copyInResponse", DATA, "error", SYNC, "readyForQuery");
  expect([failed.isClear, failed.isUncertain]).toEqual([true, true]);
});

test("an answer to nothing is a violation, and so is a message in part", () => {
  expect(() => after("readyForQuery")).toThrow("for a second time");
  expect(() => after(QUERY.subarray(0, 7))).toThrow("part of a message");
  expect(() => after(QUERY.subarray(0, 3))).toThrow("part of a message");
});
