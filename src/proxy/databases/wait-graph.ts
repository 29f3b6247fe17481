/** One server session that waits for another, as one shard says it. */
export interface Wait {
  readonly shard: number;
  readonly pid: number;
  readonly blockedBy: number;
  /** When this wait began, by the server's clock; the same text is the same wait. */
  readonly since: string;
}

/** A server session that belongs to a transaction over shards, of whichever node. */
export interface Member {
  readonly shard: number;
  readonly pid: number;
  readonly transaction: number;
}

export interface Cycle {
  /** In their order: each waits for who stands in the next. */
  readonly waits: readonly Wait[];
  /** Those in it that are over shards. */
  readonly transactions: readonly number[];
}

/**
 * Looks for a circle of waits over more than one shard that goes through `start`; one that lies on one shard is found
 * by PostgreSQL itself. Sessions that are members of one transaction are one.
 * @returns null where there is none
 */
export function findCycle(
  start: number,
  waits: readonly Wait[],
  members: readonly Member[],
): Cycle | null {
  const transactionOf = new Map(
    members.map(({ shard, pid, transaction }) => [`${shard}:${pid}`, transaction]),
  );
  const who = (shard: number, pid: number) => {
    const transaction = transactionOf.get(`${shard}:${pid}`);
    return transaction === undefined ? `${shard}:${pid}` : String(transaction);
  };
  const from = new Map<string, Wait[]>();
  for (const wait of waits) {
    const waiter = who(wait.shard, wait.pid);
    from.set(waiter, [...(from.get(waiter) ?? []), wait]);
  }
  const seen = new Set<string>();
  const path: Wait[] = [];
  const goal = String(start);
  const search = (at: string): boolean => {
    for (const wait of from.get(at) ?? []) {
      const next = who(wait.shard, wait.blockedBy);
      path.push(wait);
      if (next === goal && new Set(path.map(({ shard }) => shard)).size > 1) return true;
      if (next !== goal && !seen.has(next)) {
        seen.add(next);
        if (search(next)) return true;
      }
      path.pop();
    }
    return false;
  };
  if (!search(goal)) return null;
  const transactions = path.flatMap(({ shard, pid }) => transactionOf.get(`${shard}:${pid}`) ?? []);
  return { waits: path, transactions };
}

/** The same waits go on: all of them were there at once between the two looks, so it is no ghost. */
export function stillWaits({ waits }: Cycle, later: readonly Wait[]): boolean {
  const keyOf = ({ shard, pid, blockedBy, since }: Wait) => [shard, pid, blockedBy, since].join();
  const keys = new Set(later.map(keyOf));
  return waits.every((wait) => keys.has(keyOf(wait)));
}
