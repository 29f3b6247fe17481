import { randomUUID } from "node:crypto";
import pg from "pg";
import type { Query } from "../support/load/final-tables.js";
import type { Stack } from "../support/stack.js";
import { until } from "../support/until.js";

const SENTINELS = 32;

/**
 * Waits until the lanes have delivered everything to the side that does not serve: one row more for many tenants,
 * so for every shard, and each lane keeps its order. The rows stay, on both sides.
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
}
