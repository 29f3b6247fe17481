import { Fold, type NetChange } from "../../../src/replication/apply/fold.js";
import {
  columnText,
  encodeTuple,
  fillUnchanged,
  type Tuple,
} from "../../../src/replication/tuple.js";

/**
 * Rules of R9 that can be taken out, each to show that the model would notice.
 * - range: a change that a copied range's snapshot has is skipped
 * - deleteAll: a delete goes to all lanes
 * - settle: what a lane cannot decide is settled at all
 * - snapshot: settled keys are judged by the settlement's snapshot
 * - everywhere: a settlement takes the key on every shard, not only where it was set aside
 * - oneSnapshot: it does so from one snapshot
 * - home: a change touches a row of its own source shard only
 * - batch: the fold knows that a delete says nothing of whether the row was here
 * - aside: an update that finds no row sets its key aside, and does not write it
 */
export const RULES = [
  "range",
  "deleteAll",
  "settle",
  "snapshot",
  "everywhere",
  "oneSnapshot",
  "home",
  "batch",
  "aside",
] as const;
export type Rule = (typeof RULES)[number];

export interface Shape {
  readonly sources: number;
  readonly destinations: number;
}

/** A row: id, tenant, value, large value. `null`: not sent. */
type Row = readonly [id: string, tenant: number, value: string, large: string];
interface Change {
  readonly kind: "insert" | "update" | "delete";
  readonly id: string;
  readonly tenant: number;
  readonly value: string;
  readonly large: string | undefined;
}
interface Source {
  readonly changes: readonly Change[];
  /** Before the first change, and after each. */
  readonly states: readonly ReadonlyMap<string, Row>[];
}

/** Small numbers from a stream of bytes that fast-check shrinks. */
export class Dice {
  readonly #faces: readonly number[];
  #at = 0;

  constructor(faces: readonly number[]) {
    this.#faces = faces;
  }

  /** 0 to n - 1; 0 when there are no more. */
  below(n: number): number {
    return (this.#faces[this.#at++] ?? 0) % n;
  }

  get isOver(): boolean {
    return this.#at >= this.#faces.length;
  }
}

const HISTORY = 12;

/** A source shard's history; the tenants' home is this shard. */
function history(dice: Dice, shape: Shape, shard: number): Source {
  const states = [new Map<string, Row>()];
  const changes: Change[] = [];
  for (let n = 0; n < HISTORY; n++) {
    const id = String(dice.below(2));
    const state = new Map(states.at(-1));
    const row = state.get(id);
    const tenant = shard + shape.sources * dice.below(4);
    const value = `${shard}v${n}`;
    const large = row && dice.below(2) === 0 ? undefined : `${shard}L${n}`;
    const kind = row === undefined ? "insert" : dice.below(4) === 0 ? "delete" : "update";
    changes.push({ kind, id, tenant, value, large });
    if (kind === "delete") state.delete(id);
    else state.set(id, [id, tenant, value, large ?? row?.[3] ?? ""]);
    states.push(state);
  }
  return { changes, states };
}

interface Aside {
  /** By source shard: changes before are in the settled row; null: not settled yet. */
  snapshots: readonly number[] | null;
}

/** A destination shard: rows, and what its lanes know of keys. */
class Shard {
  readonly rows = new Map<string, Row>();
  readonly aside = new Map<string, Aside>();
  /** By source shard. */
  readonly position: number[];
  constructor(sources: number) {
    this.position = Array.from({ length: sources }, () => 0);
  }
}

export class Model {
  readonly #shape: Shape;
  readonly #rules: ReadonlySet<Rule>;
  readonly #sources: readonly Source[];
  readonly #copied: readonly number[];
  /** No snapshot is older than one before. */
  readonly #latest: number[];
  readonly #shards: readonly Shard[];

  constructor(dice: Dice, shape: Shape, without: Rule | null) {
    this.#shape = shape;
    this.#rules = new Set(RULES.filter((rule) => rule !== without));
    const sources = Array.from({ length: shape.sources }, (_, shard) => shard);
    this.#sources = sources.map((shard) => history(dice, shape, shard));
    this.#copied = sources.map(() => dice.below(HISTORY + 1));
    this.#latest = [...this.#copied];
    this.#shards = Array.from({ length: shape.destinations }, () => new Shard(shape.sources));
    for (const [from, at] of this.#copied.entries())
      for (const row of this.#sources[from]?.states[at]?.values() ?? [])
        this.#shardOf(row[1]).rows.set(row[0], row);
  }

  /** Lanes and settlements in the order of the dice, then all of what is left. */
  run(dice: Dice): void {
    while (!dice.isOver) {
      if (dice.below(6) === 0) this.#settle(dice);
      else
        this.#batch(
          dice.below(this.#shards.length),
          dice.below(this.#shape.sources),
          1 + dice.below(4),
        );
    }
    for (const to of this.#shards.keys())
      for (const from of this.#sources.keys()) this.#batch(to, from, HISTORY);
    this.#settle(null);
  }

  /** What is wrong in the end; null: nothing. */
  difference(): string | null {
    for (const [number, shard] of this.#shards.entries()) {
      const expected = this.#sources
        .flatMap(({ states }) => [...(states.at(-1)?.values() ?? [])])
        .filter((row) => this.#shardOf(row[1]) === shard);
      const found = [...shard.rows.values()];
      const [one, other] = [expected, found].map((rows) => JSON.stringify(rows.toSorted()));
      if (one !== other) return `shard ${number}: ${other}, not ${one}`;
    }
    return null;
  }

  #has(rule: Rule): boolean {
    return this.#rules.has(rule);
  }

  #shardOf(tenant: number): Shard {
    const shard = this.#shards[tenant % this.#shards.length];
    if (!shard) throw new RangeError("no shard");
    return shard;
  }

  /** As a lane does: judge each change, fold what survives, write it. */
  #batch(to: number, from: number, count: number): void {
    const shard = this.#shards[to];
    const source = this.#sources[from];
    if (!shard || !source) return;
    const fold = new Fold({ isKeyOnly: this.#has("batch") });
    const at = shard.position[from] ?? 0;
    const end = Math.min(at + count, HISTORY);
    for (let position = at; position < end; position++) {
      const change = source.changes[position];
      if (change) this.#add(fold, { shard, to, from, position, change });
    }
    shard.position[from] = end;
    for (const change of fold.values()) this.#write(shard, from, change);
  }

  #add(
    fold: Fold,
    on: { shard: Shard; to: number; from: number; position: number; change: Change },
  ): void {
    const { shard, to, from, position, change } = on;
    const { kind, id } = change;
    if (
      kind === "delete"
        ? !this.#has("deleteAll") && to !== 0
        : this.#shardOf(change.tenant) !== shard
    )
      return;
    if (this.#has("range") && position < (this.#copied[from] ?? 0)) return;
    const aside = shard.aside.get(id);
    if (aside && aside.snapshots === null) return;
    if (aside && this.#has("snapshot") && position < (aside.snapshots?.[from] ?? 0)) return;
    const row = encodeTuple([id, String(change.tenant), change.value, change.large]);
    const isKnown =
      kind === "insert"
        ? fold.insert(id, row)
        : kind === "update"
          ? fold.update(id, row, row)
          : fold.delete(id, row);
    // What contradicts itself would stop the lane.
    if (!isKnown) throw new Error(`the lane stops: ${kind} of ${id}`);
  }

  #write(shard: Shard, from: number, change: NetChange): void {
    const tuple = "row" in change ? change.row : change.match;
    const id = columnText(tuple, 0) ?? "";
    const there = shard.rows.get(id);
    const isOwn =
      there !== undefined && (!this.#has("home") || there[1] % this.#shape.sources === from);
    const { kind } = change;
    if (kind !== "insert" && kind !== "update" && isOwn) shard.rows.delete(id);
    if (kind === "lost") this.#setAside(shard, id);
    if (kind === "insert" || kind === "replace") {
      if (shard.rows.has(id)) this.#setAside(shard, id);
      else shard.rows.set(id, rowOf(change.row));
    }
    if (kind !== "update") return;
    if (!isOwn) {
      if (this.#has("aside")) this.#setAside(shard, id);
      else shard.rows.set(id, rowOf(change.row));
      return;
    }
    const old = encodeTuple([there[0], String(there[1]), there[2], there[3]]);
    shard.rows.set(id, rowOf(fillUnchanged(change.row, old, () => true)));
  }

  #setAside(shard: Shard, id: string): void {
    shard.aside.set(id, { snapshots: null });
  }

  /** Any number of changes may be younger than what the lanes have, and in the snapshot all the same. */
  #settle(dice: Dice | null): void {
    if (!this.#has("settle")) return;
    const take = () =>
      this.#sources.map((_, from) => {
        const positions = this.#shards.map(({ position }) => position[from] ?? 0);
        const seen = Math.max(this.#latest[from] ?? 0, ...positions);
        const at = seen + (dice?.below(HISTORY + 1 - seen) ?? HISTORY - seen);
        this.#latest[from] = at;
        return at;
      });
    const snapshots = take();
    const keys = new Set(
      this.#shards.flatMap(({ aside }) =>
        [...aside].flatMap(([id, { snapshots }]) => (snapshots === null ? [id] : [])),
      ),
    );
    for (const shard of this.#shards) {
      const by = this.#has("oneSnapshot") ? snapshots : take();
      for (const id of keys) {
        if (!this.#has("everywhere") && shard.aside.get(id)?.snapshots !== null) continue;
        this.#settleKey(shard, id, by);
      }
    }
  }

  #settleKey(shard: Shard, id: string, snapshots: readonly number[]): void {
    const rows = snapshots.flatMap((at, from) => {
      const row = this.#sources[from]?.states[at]?.get(id);
      return row && this.#shardOf(row[1]) === shard ? [row] : [];
    });
    const [row] = rows;
    // Both belong here: named, and aside for good (the shapes under test have none in the end).
    if (rows.length > 1) {
      this.#setAside(shard, id);
      return;
    }
    shard.rows.delete(id);
    if (row) shard.rows.set(id, row);
    shard.aside.set(id, { snapshots });
  }
}

function rowOf(row: Tuple): Row {
  return [
    columnText(row, 0) ?? "",
    Number(columnText(row, 1)),
    columnText(row, 2) ?? "",
    columnText(row, 3) ?? "",
  ];
}
