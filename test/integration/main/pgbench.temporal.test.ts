import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { untilDrained } from "../../demo/drained.js";
import { untilReverseTask, untilSwitched } from "../../demo/tasks.js";
import { type Application, countRows } from "../../support/application.js";
import { findPgbench } from "../../support/binaries.js";
import { compareSides } from "../../support/load/compare.js";
import { type Pgbench, startPgbench } from "../../support/pgbench.js";
import { type Admin, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

/** pgbench as it comes: its tables, of which one has no key, and TPC-B, sharded by branch. */

const STEP_MS = 90_000;
const SCALE = 4;
const TABLES = ["branches", "tellers", "accounts", "history"].map((name) => ({
  table: `pgbench_${name}`,
  shardingKey: "bid",
}));

const PGBENCH: Application = {
  publication: "all_tables",
  tables: TABLES,
  shardedTables: [{ column: "bid" }],
  sentinel: {
    insert: (branch, id) =>
      `INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)
       VALUES (0, ${branch}, 0, 0, CURRENT_TIMESTAMP, left('${id}', 22))`,
    from: (id) => `FROM pgbench_history WHERE filler = left('${id}', 22)`,
  },
  seed: async (server, database) => {
    const address = ["-h", "127.0.0.1", "-p", String(server.port), "-U", "postgres", database];
    const made = spawnSync(await findPgbench(), ["-i", "-q", "-s", String(SCALE), ...address], {
      encoding: "utf8",
    });
    if (made.status !== 0) throw new Error(made.stderr);
    const query = async (text: string) => await server.sql(database, text);
    await query(`
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
      CREATE PUBLICATION all_tables FOR ALL TABLES`);
    return await countRows(query, TABLES);
  },
};

let stack: Stack;
let admin: Admin;
let pgbench: Pgbench | null = null;

beforeAll(async () => {
  stack = await startStack({ application: PGBENCH });
  admin = await stack.admin();
}, 240_000);

afterAll(async () => {
  await pgbench?.stop();
  await admin[Symbol.asyncDispose]();
  await stack[Symbol.asyncDispose]();
}, 60_000);

/** Each protocol has had a round of its own. */
async function untilWorked(): Promise<void> {
  const rounds = () => pgbench?.report().rounds ?? 0;
  const from = rounds();
  await until(() => rounds() >= from + 4, { timeoutMs: STEP_MS, what: "pgbench to go on" });
}

/** What TPC-B keeps equal, summed up over the databases of a side. */
async function sums(side: Stack["shards"]): Promise<readonly number[]> {
  const sql = `SELECT (SELECT sum(abalance) FROM pgbench_accounts)::int AS accounts,
    (SELECT sum(tbalance) FROM pgbench_tellers)::int AS tellers,
    (SELECT sum(bbalance) FROM pgbench_branches)::int AS branches,
    (SELECT sum(delta) FROM pgbench_history)::int AS history`;
  const rows = (await Promise.all(side.map((query) => query(sql)))).flat();
  return ["accounts", "tellers", "branches", "history"].map((name) =>
    rows.reduce((sum, row) => sum + Number(row[name] ?? 0), 0),
  );
}

it("is resharded under its own load, and rolled back: no error, and the sums agree", async () => {
  pgbench = await startPgbench({
    ...{ script: null, clients: 4, turns: 25, firstRound: 0 },
    addresses: stack.addresses,
  });
  await untilWorked();
  const [started] = await admin.run(`RESHARD ${stack.migration}`);
  const { epoch } = await untilSwitched(admin, 0, STEP_MS);
  const forward = await untilReverseTask(admin, Number(started?.task_id), STEP_MS);
  await untilWorked();
  await admin.run(`CUTOVER ${forward.id}`);
  await untilSwitched(admin, epoch, STEP_MS);
  await untilWorked();
  const { errors, transactions } = await pgbench.stop();
  expect(errors).toEqual([]);
  await untilDrained(stack);
  expect((await compareSides(stack.source, stack.shards, TABLES)).findings).toEqual([]);
  const [accounts, ...others] = await sums(stack.shards);
  expect(others).toEqual([accounts, accounts, accounts]);
  const [history] = await stack.source(
    "SELECT count(*)::int AS n FROM pgbench_history WHERE aid > 0",
  );
  expect(history?.n).toBe(transactions);
}, 300_000);
