import type { KeyType } from "../topology/hash.js";
import { FIRST_SHARD, type ShardId, shardId } from "../topology/topology.js";
import type { Block, TableConstraint, Together } from "./block.js";
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
import type { Scope } from "./scope.js";

/** Tables of a statement whose rows are on one shard, and what the key may be; null: anything. */
interface Component {
  readonly keyName: string;
  readonly type: KeyType;
  readonly terms: readonly KeyTerm[] | null;
  readonly isInserted: boolean;
  /** Belongs to the statement's own FROM, not to a subquery. */
  readonly isAtTop: boolean;
  /** The view that they are read through, where it is not taken apart. */
  readonly view: string | null;
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
    const own = new Set(top.located.map((ref) => ref.together));
    const loose = new Map(scope.loose.map(({ rows, view }) => [rows, view]));
    for (const rows of own) loose.delete(rows);
    this.#components = [
      ...[...own].map((rows) => componentOf(rows, { isAtTop: true, view: null })),
      ...[...loose].map(([rows, view]) => componentOf(rows, { isAtTop: false, view })),
    ];
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
    const isSimple = only?.isAtTop === true && other === undefined;
    return isSimple ? { kind: "several", shards: several } : this.#refuse(this.#reason());
  }

  #reason(): RefusalKind {
    if (this.#components.every((component) => component.isAtTop)) return "crossShardJoin";
    return this.#view === null ? "crossShardSubquery" : "viewOverShards";
  }

  get #view(): string | null {
    return this.#components.find(({ view }) => view !== null)?.view ?? null;
  }

  #refuse(kind: RefusalKind): Placed {
    return { kind: "refused", route: refused(kind, this.#view ?? "") };
  }
}

function componentOf({ members }: Together, place: Pick<Component, "isAtTop" | "view">): Component {
  const constraints = members
    .flatMap((ref) => ref.constraints.map((constraint) => ({ ref, constraint })))
    .sort((one, other) => rank(one.constraint) - rank(other.constraint));
  const [best] = constraints;
  // Tables that a foreign key brings together may have keys of different types.
  const table = (best?.ref ?? members[0])?.table;
  return {
    ...place,
    keyName: `"${table?.name}"."${table?.rule?.column}"`,
    type: table?.rule?.dataType ?? "bigint",
    terms: best?.constraint.terms ?? null,
    isInserted: best?.constraint.isInserted ?? false,
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
