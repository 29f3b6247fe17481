import { expect, test } from "vitest";
import type { Activities } from "../../../src/resharding/model/steps.js";
import type {
  CutoverInput,
  CutoverResult,
  ReplicateInput,
  ReshardInput,
} from "../../../src/resharding/model/tasks.js";
import type { IsJsonSafe } from "../../support/json-safe.js";

/** Fails to compile (`npm run check`) when a payload has something that JSON loses. */
function safe<T>(_: IsJsonSafe<T> extends true ? "safe" : never): void {}
function spoiled<T>(_: IsJsonSafe<T> extends true ? never : "spoiled"): void {}

type Inputs = { [Name in keyof Activities]: Parameters<Activities[Name]>[0] };
type Results = { [Name in keyof Activities]: Answer<Awaited<ReturnType<Activities[Name]>>> };
/** An activity that returns nothing answers with null on the wire. */
type Answer<T> = T extends object | string | number | boolean | null ? T : null;

test("payloads of workflows and activities hold nothing that JSON spoils", () => {
  safe<ReshardInput>("safe");
  safe<ReplicateInput>("safe");
  safe<CutoverInput>("safe");
  safe<CutoverResult>("safe");
  safe<Results[keyof Results]>("safe");
  safe<Exclude<Inputs[keyof Inputs], undefined>>("safe");
  spoiled<{ at: Date }>("spoiled");
  spoiled<{ lsn: bigint }>("spoiled");
  spoiled<{ shards: ReadonlyMap<number, string> }[]>("spoiled");
  spoiled<{ reason: string | undefined }>("spoiled");
  expect(JSON.parse(JSON.stringify({ at: new Map([[1, 2]]) }))).toEqual({ at: {} });
});
