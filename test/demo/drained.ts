import { randomUUID } from "node:crypto";
import pg from "pg";
import type { Query } from "../support/load/final-tables.js";
import type { Stack } from "../support/stack.js";
import { until } from "../support/until.js";

const SENTINELS = 32;

/** Keys of rows that went from shard to shard wait for their settlement (R9), which comes within seconds. */
const UNSETTLED = "SELECT count(*)::int AS found FROM sluice.aside WHERE settled_at IS NULL";

/**
 * Waits until everything has come to the side that does not serve. What the lanes deliver: one row more for many
 * tenants, so for every shard, and each lane keeps its order; the rows stay, on both sides. Then what lanes set aside.
 */
export async function untilDrained(stack: Stack): Promise<void> {
  const { sentinel } = stack.application;
  const [address] = stack.addresses;
  if (!address) throw new Error("no node");
  const client = new pg.Client(address);
  await client.connect();
  const id = randomUUID();
  try {
    for (let tenant = 1; tenant <= SENTINELS; tenant++)
      await client.query(sentinel.insert(tenant, id));
  } finally {
    await client.end();
  }
  await until(
    async () => {
      const count = `SELECT count(*)::int AS found ${sentinel.from(id)}`;
      const found = async (side: readonly Query[]) =>
        (await Promise.all(side.map((query) => query(count))))
          .flat()
          .reduce((sum, row) => sum + Number(row.found), 0);
      return (
        (await found([stack.source])) === SENTINELS && (await found(stack.shards)) === SENTINELS
      );
    },
    { timeoutMs: 60_000, intervalMs: 100, what: "the lanes to deliver everything" },
  );
  const all = [stack.source, ...stack.shards];
  await until(
    async () => {
      const lists = await Promise.all(all.map((query) => query(UNSETTLED)));
      return lists.flat().every((row) => row.found === 0);
    },
    { timeoutMs: 60_000, intervalMs: 100, what: "keys that were set aside to be settled" },
  );
}
