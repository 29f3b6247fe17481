import { asideName } from "../stream/lanes/aside.js";
import type { ComparedSides, RangeScope } from "./bucket-compare.js";
import {
  type KeyState,
  parseKey,
  type RowKey,
  readExpected,
  readFound,
  stateOf,
} from "./key-compare.js";
import type { UnsettledNames } from "./marker-passer.js";

/** Rounds after which a key that still moves is left to the next pass. */
const MAX_ROUNDS = 12;
/** R41: a difference is reported when this many rounds in a row have seen it. */
const CONFIRMATIONS = 2;
/** Keys that one statement reads. */
const BATCH_KEYS = 2000;

export interface Difference {
  readonly key: RowKey;
  readonly expected: KeyState;
  readonly found: KeyState;
}

export interface Settled {
  /** Stable: the source stood still around a marker that the lanes passed, and the destination differs. */
  readonly differences: readonly Difference[];
  /** Keys that were written in every round. */
  readonly movingCount: number;
}

/**
 * R41: tells running updates from differences. Per round: what the from-side has, a marker that all lanes
 * pass, what the to-side has, what the from-side has now. The to-side is right when it has any value that
 * the from-side was seen to have. It is wrong when the rows of the from-side stayed the very same versions
 * in between and it has something else, twice. Anything else is a key in motion: again.
 *
 * Twice, as one round can be fooled: a commit that waits for a synchronous standby is in the stream, and so
 * in the destination, before it is visible at the source.
 * @param passMarker returns when all lanes have passed a marker that was written after the call, with the keys that
 *   are aside still: these are no differences, however long they stay
 */
export async function settleKeys(
  sides: ComparedSides,
  scope: RangeScope,
  input: { readonly keys: readonly RowKey[]; readonly passMarker: () => Promise<UnsettledNames> },
): Promise<Settled> {
  const differences: Difference[] = [];
  let movingCount = 0;
  for (let at = 0; at < input.keys.length; at += BATCH_KEYS) {
    const keys = input.keys.slice(at, at + BATCH_KEYS);
    const settled = await settleBatch(sides, scope, { ...input, keys });
    differences.push(...settled.differences);
    movingCount += settled.movingCount;
  }
  return { differences, movingCount };
}

async function settleBatch(
  sides: ComparedSides,
  scope: RangeScope,
  input: { readonly keys: readonly RowKey[]; readonly passMarker: () => Promise<UnsettledNames> },
): Promise<Settled> {
  const differences: Difference[] = [];
  const witnessed = new Map<RowKey, Set<string>>(input.keys.map((key) => [key, new Set()]));
  const strikes = new Map<RowKey, number>();
  for (let round = 0; round < MAX_ROUNDS && witnessed.size > 0; round++) {
    const keys = [...witnessed.keys()];
    const selection = { kind: "keys", keys } as const;
    const before = await readExpected(sides, scope, selection);
    const unsettled = await input.passMarker();
    const found = await readFound(sides, scope, selection);
    const after = await readExpected(sides, scope, selection);
    for (const [key, values] of witnessed) {
      const [old, now] = [stateOf(before, key), stateOf(after, key)];
      values.add(old.value).add(now.value);
      if (values.has(stateOf(found, key).value)) {
        witnessed.delete(key);
        continue;
      }
      // A key that is aside is in motion by definition: nobody has written yet what it is (R9, R33).
      const isStable = old.version === now.version && !unsettled.has(asideNameOf(scope, key));
      const count = isStable ? (strikes.get(key) ?? 0) + 1 : 0;
      strikes.set(key, count);
      if (count < CONFIRMATIONS) continue;
      differences.push({ key, expected: now, found: stateOf(found, key) });
      witnessed.delete(key);
    }
  }
  return { differences, movingCount: witnessed.size };
}

function asideNameOf({ table }: RangeScope, key: RowKey): string {
  return asideName(table, parseKey(key));
}
