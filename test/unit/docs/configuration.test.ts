import { expect, it } from "vitest";
import { configurationPage } from "./configuration-page.js";

it("docs/configuration.md lists what the reader knows", async () => {
  await expect(configurationPage()).toMatchFileSnapshot("../../../docs/configuration.md");
});
