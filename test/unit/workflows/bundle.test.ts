import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bundleWorkflows } from "../../support/temporal-bundle.js";

test("the workflows bundle without Node's modules and stay small", async () => {
  const { codePath } = await bundleWorkflows();
  const code = readFileSync(codePath, "utf8");
  for (const name of ["reshard", "copyTable", "replicate", "cutover", "schemaSync", "taskCounter"])
    expect(code).toContain(name);
  // Every cached workflow pays for what is in here.
  expect(code.length).toBeLessThan(8_000_000);
  expect(code).not.toMatch(/require\("node:|libpg-query|pg-protocol/);
}, 130_000);
