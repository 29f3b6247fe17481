import type { KeyType } from "../topology/hash.js";
import { FIRST_SHARD, type ShardId, shardId } from "../topology/topology.js";
import {
  type KeyTerm,
  NULL_KEY,
  type StatementValues,
  shardOfValue,
  shardsOfArray,
  UNKNOWN,
} from "./key-value.js";
import { type RefusalKind, refused } from "./refusal.js";
import type { Route } from "./route.js";
import type { Block, Scope, TableConstraint, TableRef } from "./scope.js";

/** Tables of a statement whose keys are equal, and what the key may be; null: anything. */
interface Component {
  readonly keyName: string;
  readonly type: KeyType;
  readonly terms: readonly KeyTerm[] | null;
  readonly isInserted: boolean;
  /** Belongs to the statement's own FROM, not to a subquery. */
  readonly isAtTop: boolean;
}

export type Placed =
  | { readonly kind: "single"; readonly shard: ShardId }
  | { readonly kind: "several"; readonly shards: readonly ShardId[] | "all" }
  /** A value is not known yet. */
  | { readonly kind: "unknown" }
  | { readonly kind: "refused"; readonly route: Route };

/** Which shards a statement's sharded tables name. */
export class Placement {
  readonly #components: readonly Component[];
  readonly #shardCount: number;

  constructor(scope: Scope, top: Block) {
    this.#shardCount = scope.catalog.database.shardCount;
    const groups = new Map<TableRef, TableRef[]>();
    for (const ref of scope.sharded) {
      groups.set(ref.component, [...(groups.get(ref.component) ?? []), ref]);
    }
    this.#components = [...groups.values()].map((refs) => componentOf(refs, top));
  }

  get isSharded(): boolean {
    return this.#components.length > 0;
  }

  resolve(values: StatementValues): Placed {
    let single: ShardId | null = null;
    let hasSeveral = false;
    let several: readonly ShardId[] | "all" = "all";
    for (const component of this.#components) {
      const shards = shardsOf(component.terms, values, {
        ...component,
        shardCount: this.#shardCount,
      });
      if (!Array.isArray(shards)) {
        if (shards !== "all") return shards;
        hasSeveral = true;
        continue;
      }
      const [first, second] = shards;
      // `key = NULL`: no row anywhere, so any shard gives the right answer.
      if (first === undefined) continue;
      if (second !== undefined) {
        hasSeveral = true;
        several = shards;
      } else if (single !== null && single !== first) return this.#refuse("crossShardJoin");
      else single = first;
    }
    if (!hasSeveral) return { kind: "single", shard: single ?? FIRST_SHARD };
    const [only, other] = this.#components;
    if (only === undefined || other !== undefined) return this.#refuse(this.#reason());
    return only.isAtTop ? { kind: "several", shards: several } : this.#refuse("crossShardSubquery");
  }

  #reason(): RefusalKind {
    const isJoin = this.#components.every((component) => component.isAtTop);
    return isJoin ? "crossShardJoin" : "crossShardSubquery";
  }

  #refuse(kind: RefusalKind): Placed {
    return { kind: "refused", route: refused(kind) };
  }
}

/**
 * Conditions count where they stand outermost: `NOT EXISTS (... inner.key = outer.key AND inner.key = 5)`
 * says nothing of the outer key.
 */
function componentOf(refs: readonly TableRef[], top: Block): Component {
  const depth = Math.min(...refs.map((ref) => ref.block.depth));
  const outermost = refs.filter((ref) => ref.block.depth === depth);
  const constraints = outermost
    .flatMap((ref) => ref.constraints)
    .filter((constraint) => !constraint.isWeak || refs.length === 1)
    .sort((one, other) => rank(one) - rank(other));
  const rule = refs[0]?.table?.rule;
  return {
    keyName: `"${refs[0]?.table?.name}"."${rule?.column}"`,
    type: rule?.dataType ?? "bigint",
    terms: constraints[0]?.terms ?? null,
    isInserted: constraints[0]?.isInserted ?? false,
    isAtTop: outermost.some((ref) => ref.block === top),
  };
}

/** New rows' values before all else, then the shortest list. */
function rank(constraint: TableConstraint): number {
  return constraint.isInserted ? -1 : constraint.terms.length;
}

interface NamedKeySpace {
  readonly isInserted: boolean;
  readonly keyName: string;
  readonly type: KeyType;
  readonly shardCount: number;
}

function shardsOf(
  terms: readonly KeyTerm[] | null,
  values: StatementValues,
  space: NamedKeySpace,
): ShardId[] | "all" | Exclude<Placed, { kind: "single" | "several" }> {
  if (terms === null) return "all";
  const found: ShardId[] = [];
  for (const { value, isArray } of terms) {
    const shards = isArray
      ? shardsOfArray(value, values, space)
      : [shardOfValue(value, values, space)];
    for (const shard of shards ?? [-1]) {
      if (shard === UNKNOWN) return { kind: "unknown" };
      if (shard === NULL_KEY && !space.isInserted) continue;
      if (shard === NULL_KEY) return { kind: "refused", route: refused("nullKey", space.keyName) };
      if (shard < 0) return { kind: "refused", route: refused("unreadableKey", space.keyName) };
      const placed = shardId(shard);
      if (!found.includes(placed)) found.push(placed);
    }
  }
  return found.sort((one, other) => one - other);
}
