import { expect, test } from "vitest";
import { PendingLogins } from "../../../src/proxy/session/pending-logins.js";

/** Logins by number; the address is the letter. */
function pending(most: number) {
  const logins = new PendingLogins(most);
  const turnedAway: string[] = [];
  const add = (name: string) =>
    logins.add({ address: name.charAt(0), giveUp: () => turnedAway.push(name) });
  return { logins, turnedAway, add };
}

test("the oldest of the address that has most goes first; others keep their places", () => {
  const { logins, turnedAway, add } = pending(4);
  for (const name of ["b1", "a1", "a2", "a3"]) add(name);
  expect(turnedAway).toEqual([]);
  add("c1");
  expect(turnedAway).toEqual(["a1"]);
  add("a4");
  expect(turnedAway).toEqual(["a1", "a2"]);
  expect(logins.count).toBe(4);
});

test("who has proved who it is takes no place, and is not turned away", () => {
  const { logins, turnedAway, add } = pending(2);
  const leave = add("a1");
  add("a2");
  leave();
  leave();
  expect(logins.count).toBe(1);
  add("a3");
  expect(turnedAway).toEqual([]);
  add("b1");
  expect(turnedAway).toEqual(["a2"]);
});
