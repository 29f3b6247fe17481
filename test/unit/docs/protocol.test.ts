import { expect, it } from "vitest";
import { OPERATOR_STEPS } from "../../../src/resharding/model/steps.js";
import { protocolPage } from "./protocol-page.js";

it("docs/protocol.md says what the tables say", async () => {
  await expect(protocolPage()).toMatchFileSnapshot("../../../docs/protocol.md");
});

it("names the steps of a switch in the order in which they happen, as SHOW TASKS has them", () => {
  const places = OPERATOR_STEPS.map(({ text }) =>
    protocolPage().indexOf(`(\`${text.replace(" traffic", "")}\`)`),
  );
  expect(places).not.toContain(-1);
  expect([...places].sort((a, b) => a - b)).toEqual(places);
});
