import fc from "fast-check";
import { expect } from "vitest";
import type { SqlClient } from "../../../src/backend/sql-client.js";
import type { Sides } from "../../../src/resharding/control/sides.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { otherSide, streamFrom } from "../../../src/resharding/model/migration.js";
import { emitMarker } from "../../../src/resharding/stream/lane-watch.js";
import { batchLockName } from "../../../src/resharding/stream/lanes/lane-session.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { until } from "../../support/until.js";
import { type LanesFixture, rowsOf, settleNow } from "./lanes-fixture.js";

/** As frameworks make it: the key is `id`, the tenant is beside it, and no identity is set. */
export const SCHEMA = `CREATE TABLE doc (id bigint PRIMARY KEY, tenant bigint NOT NULL, v int, body text);
  ALTER TABLE doc ALTER body SET STORAGE EXTERNAL`;

export interface Step {
  readonly kind: "change" | "stall" | "settle" | "copy";
  readonly shard: number;
  readonly id: number;
  readonly dice: number;
  readonly tenant: number;
  readonly isBodyNew: boolean;
}

export const STEP: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 20, arbitrary: fc.constant("change" as const) },
    { weight: 3, arbitrary: fc.constant("stall" as const) },
    { weight: 1, arbitrary: fc.constant("settle" as const) },
    { weight: 1, arbitrary: fc.constant("copy" as const) },
  ),
  shard: fc.nat(7),
  id: fc.integer({ min: 1, max: 14 }),
  dice: fc.nat(99),
  tenant: fc.nat(11),
  isBodyNew: fc.boolean(),
});

export interface Case {
  readonly sources: number;
  readonly destinations: number;
  /** The direction under test. */
  readonly stream: 0 | 1;
  /** May an id be on two shards of the side that is read? */
  readonly hasEqualIds: boolean;
  /** Applied in order instead of folded. */
  readonly otherUnique: boolean;
}

/** Writes a random history on the side that is read, and moves the lanes at random. */
export class History {
  readonly #case: Case;
  readonly #fixture: LanesFixture;
  readonly #sides: Sides;
  /** Ids by shard of the side that is read. */
  readonly #rows: readonly Map<number, number>[];
  readonly #stalled = new Set<number>();
  #value = 0;

  constructor(fixture: LanesFixture, sides: Sides, of: Case) {
    this.#fixture = fixture;
    this.#sides = sides;
    this.#case = of;
    this.#rows = fixture.databases[streamFrom(of.stream)].map(() => new Map());
  }

  async play(step: Step): Promise<void> {
    switch (step.kind) {
      case "change":
        return await this.#change(step);
      case "stall":
        return await this.#stall(step);
      case "settle":
        if (this.#stalled.size === 0) await settleNow(this.#fixture, this.#case.stream);
        return;
      case "copy":
        return;
    }
  }

  /** Every lane may go on. */
  async release(): Promise<void> {
    for (const shard of [...this.#stalled]) await this.#toggle(shard);
  }

  async #change(step: Step): Promise<void> {
    const shard = step.shard % this.#rows.length;
    const rows = this.#rows[shard];
    const client = await this.#session(streamFrom(this.#case.stream), shard);
    if (!rows) return;
    const tenant = this.#tenantAt(shard, step.tenant);
    const v = ++this.#value;
    const body = `repeat('b${v} ', 800)`;
    if (!rows.has(step.id)) {
      if (!this.#case.hasEqualIds && this.#rows.some((other) => other.has(step.id))) {
        // As a proxy moves a row between two shards: two transactions, in either order.
        const from = this.#rows.findIndex((other) => other.has(step.id));
        const old = await this.#session(streamFrom(this.#case.stream), from);
        const acts = [
          () => old.query(`DELETE FROM public.doc WHERE id = ${step.id}`),
          () =>
            client.query(`INSERT INTO public.doc VALUES (${step.id}, ${tenant}, ${v}, ${body})`),
        ];
        for (const act of step.isBodyNew ? acts : acts.reverse()) await act();
        this.#rows[from]?.delete(step.id);
      } else
        await client.query(`INSERT INTO public.doc VALUES (${step.id}, ${tenant}, ${v}, ${body})`);
      rows.set(step.id, tenant);
    } else if (step.dice < 20) {
      await client.query(`DELETE FROM public.doc WHERE id = ${step.id}`);
      rows.delete(step.id);
      // A key is given away within one batch, or later.
      if (step.isBodyNew) await this.#change({ ...step, dice: 99 });
    } else if (step.dice < 27) {
      const id = step.id + 100 * (v + 1);
      await client.query(`UPDATE public.doc SET id = ${id}, v = ${v} WHERE id = ${step.id}`);
      rows.delete(step.id);
      rows.set(id, tenant);
    } else {
      const set = step.dice < 70 ? `, tenant = ${tenant}` : "";
      const large = step.isBodyNew ? `, body = ${body}` : "";
      await client.query(`UPDATE public.doc SET v = ${v}${set}${large} WHERE id = ${step.id}`);
      if (step.dice < 70) rows.set(step.id, tenant);
    }
  }

  /** A tenant whose home is this shard of the side that is read. */
  #tenantAt(shard: number, nth: number): number {
    let left = nth;
    for (let tenant = 1; ; tenant++) {
      if (shardOfText(String(tenant), "bigint", this.#rows.length) !== shard) continue;
      if (left-- === 0) return tenant;
    }
  }

  /** Stops or lets go the lanes of one to-shard between two batches, and lets the others get on. */
  async #stall(step: Step): Promise<void> {
    const { stream } = this.#case;
    const to = this.#fixture.databases[otherSide(streamFrom(stream))];
    await this.#toggle(step.shard % to.length);
    for (const shard of to.keys()) if (!this.#stalled.has(shard)) await this.#caughtUp(shard);
  }

  async #toggle(toShard: number): Promise<void> {
    const { ref } = this.#fixture;
    const { stream } = this.#case;
    const client = await this.#session(otherSide(streamFrom(stream)), toShard);
    const isHeld = this.#stalled.has(toShard);
    await client.query(
      `SELECT pg_advisory_${isHeld ? "unlock" : "lock"}(hashtextextended($1, 0))`,
      [batchLockName({ ref, stream, toShard })],
    );
    if (isHeld) this.#stalled.delete(toShard);
    else this.#stalled.add(toShard);
  }

  async #caughtUp(toShard: number): Promise<void> {
    const { ref } = this.#fixture;
    const { stream } = this.#case;
    const side = streamFrom(stream);
    for (const fromShard of this.#fixture.databases[side].keys()) {
      const marker = { migration: ref.id, kind: "probe", token: "t" } as const;
      const lsn = await emitMarker(await this.#session(side, fromShard), marker);
      const client = await this.#session(otherSide(side), toShard);
      await until(
        async () => {
          const { rows } = await client.query<{ past: boolean }>(
            `SELECT applied_lsn > ('0/0'::pg_lsn + $3::numeric) AS past FROM sluice.lane
              WHERE stream = $1 AND from_shard = $2`,
            [stream, fromShard, lsn.toString()],
          );
          return rows[0]?.past === true;
        },
        { timeoutMs: 20_000, what: "a lane to get on" },
      );
    }
  }

  async #session(side: "source" | "destination", shard: number): Promise<SqlClient> {
    return await this.#sides.session(side, shard, { purpose: "history" });
  }
}

/** Of the moving rows: where each must be, by the side that is read. */
export async function expectPlaced(fixture: LanesFixture, stream: number): Promise<void> {
  const from = streamFrom(stream);
  const to = otherSide(from);
  expect(await rowsOf(fixture, to, "doc")).toEqual(await rowsOf(fixture, from, "doc"));
  const count = fixture.databases[to].length;
  for (const shard of fixture.databases[to].keys())
    for (const { tenant } of await fixture.sql(to, shard, "SELECT tenant FROM doc"))
      expect(shardOfText(String(tenant), "bigint", count)).toBe(shard);
}

export async function copyAll(fixture: LanesFixture, between: () => Promise<void>): Promise<void> {
  const context = fixture.context();
  const policy = { ...context.policy, copyRangeRows: 3 };
  for (const plan of await planCopy({ ...context, policy }, fixture.ref))
    for (let range = 0; range < plan.rangeCount; range++) {
      const { schema, table, sourceShard } = plan;
      await copyRange(context, { ref: fixture.ref, schema, table, sourceShard, range });
      await between();
    }
}
