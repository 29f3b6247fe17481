import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { historyFromJSON } from "@temporalio/common/lib/proto-utils.js";
import {
  DefaultLogger,
  Runtime,
  Worker,
  type WorkflowBundleOption,
} from "@temporalio/worker";
import { beforeAll, describe, expect, test } from "vitest";
import { bundleWorkflows } from "../support/temporal-bundle.js";

const folder = fileURLToPath(new URL("./recorded/", import.meta.url));
const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
let workflowBundle: WorkflowBundleOption;

beforeAll(async () => {
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: { logging: { filter: "OFF", forward: {} } },
    logger: new DefaultLogger("ERROR"),
  });
  workflowBundle = await bundleWorkflows();
});

/** A history that is cut off makes core panic and the call hang: hence a limit on each. */
const LIMIT_MS = 20_000;

describe("workflows of today go on from histories recorded before", () => {
  test("there are histories of every kind of workflow", () => {
    const kinds = new Set(files.map((name) => name.split("-")[0]));
    expect([...kinds].sort()).toEqual(["copy", "cutover", "replicate", "reshard", "schemaSync"]);
  });

  test.each(files)(
    "%s",
    async (name) => {
      const history = historyFromJSON(JSON.parse(readFileSync(`${folder}${name}`, "utf8")));
      await Worker.runReplayHistory({ workflowBundle }, history);
    },
    LIMIT_MS,
  );

  test(
    "a changed order of steps is noticed",
    async () => {
      const text = readFileSync(`${folder}reshard-switched.json`, "utf8");
      const changed = text.replaceAll('"beginMigration"', '"startMigration"');
      expect(changed).not.toBe(text);
      await expect(
        Worker.runReplayHistory({ workflowBundle }, historyFromJSON(JSON.parse(changed))),
      ).rejects.toThrow(/[Nn]ondeterminism|Determinism/);
    },
    LIMIT_MS,
  );
});
