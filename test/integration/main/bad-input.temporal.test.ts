import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rootTasks, type Task } from "../../demo/tasks.js";
import { builtLauncher } from "../../support/built.js";
import { type SluiceNode, startNode } from "../../support/node.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { type Admin, MIGRATION, type Stack, startStack } from "../../support/stack.js";
import { until } from "../../support/until.js";

/** Issue 3, point 8: every mistake gets a clear answer and changes nothing. One stack for all of them. */

const TASK_TIMEOUT_MS = 60_000;

let stack: Stack;
let node: SluiceNode;
let admin: Admin;
let lowWal: PostgresServer;
let scratch: string;
const started: AsyncDisposable[] = [];

beforeAll(async () => {
  await builtLauncher();
  scratch = mkdtempSync(join(tmpdir(), "sluice-bad-input-"));
  lowWal = await startPostgres({ settings: { wal_level: "replica" } });
  started.push(lowWal);
  await lowWal.createDatabase("low");
  stack = await startStack({
    rows: 2_000,
    nodes: 1,
    temporalFile: join(scratch, "temporal.db"),
  });
  started.push(stack);
  const [first] = stack.nodes;
  if (!first) throw new Error("the stack has no node");
  node = first;
  admin = await stack.admin();
  started.push(admin);
  addFaultyDatabases();
  await admin.run("RELOAD");
  // Registered search attributes and pollers: from here on a task starts at once.
  await until(
    () =>
      admin.run("SHOW TASKS").then(
        () => true,
        () => false,
      ),
    {
      timeoutMs: 60_000,
      what: "Temporal to know the node",
    },
  );
}, 240_000);

afterAll(async () => {
  for (const one of started.reverse()) await one[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
}, 60_000);

/** Databases that are configured well enough to be named, and wrong in one thing each. */
function addFaultyDatabases(): void {
  const [shard0, shard1] = stack.cluster.shards;
  const entry = (name: string, server: PostgresServer, databaseName: string, shard = 0) =>
    `[[databases]]\nname = "${name}"\nhost = "127.0.0.1"\nport = ${server.port}\ndatabase_name = "${databaseName}"\nshard = ${shard}\n`;
  const user = (database: string, password: string) =>
    `[[users]]\nname = "owner"\ndatabase = "${database}"\npassword = "owner-password"\n${password}schema_admin = true\n`;
  const asPostgres = 'server_user = "postgres"\n';
  appendFileSync(
    join(node.folder, "pgdog.toml"),
    [
      entry("low_wal", lowWal, "low"),
      entry("wrong_rule", shard0, "app_0", 0),
      entry("wrong_rule", shard1, "app_1", 1),
      entry("wrong_password", stack.cluster.source, "app"),
      entry("no_owner", stack.cluster.source, "app"),
      '[[sharded_tables]]\ndatabase = "wrong_rule"\nname = "countries"\ncolumn = "tenant_id"\n',
      '[[sharded_tables]]\ndatabase = "low_wal"\ncolumn = "tenant_id"\n',
    ].join("\n"),
  );
  appendFileSync(
    join(node.folder, "users.toml"),
    [
      user("low_wal", asPostgres),
      user("wrong_rule", asPostgres),
      user("wrong_password", 'server_user = "app"\nserver_password = "stale"\n'),
    ].join("\n"),
  );
}

/** Everything on the servers that a migration makes or takes. */
async function footprint(): Promise<unknown> {
  const databases = [
    [stack.cluster.source, "app"],
    [stack.cluster.shards[0], "app_0"],
    [stack.cluster.shards[1], "app_1"],
    [lowWal, "low"],
  ] as const;
  return await Promise.all(
    databases.map(async ([server, database]) => {
      const rows = async (sql: string) => await server.sql(database, sql);
      const [control] = await rows("SELECT to_regclass('sluice.migration') IS NOT NULL AS there");
      return {
        slots: await rows("SELECT slot_name FROM pg_replication_slots ORDER BY 1"),
        publications: await rows("SELECT pubname FROM pg_publication ORDER BY 1"),
        origins: await rows("SELECT roname FROM pg_replication_origin ORDER BY 1"),
        triggers: await rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"),
        tables: await rows(
          "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1",
        ),
        blocking:
          control?.there === true
            ? await rows(
                `SELECT id FROM sluice.migration WHERE state = 'active'
                 UNION ALL SELECT table_name FROM sluice.moving_table`,
              )
            : [],
      };
    }),
  );
}

async function runningTasks(): Promise<readonly Task[]> {
  return (await rootTasks(admin)).filter((task) => ["started", "running"].includes(task.status));
}

/** Refused at the prompt: no task, nothing touched, and the connection goes on. */
async function refused(
  command: string,
  expected: { code: string; message: RegExp; hint?: RegExp },
) {
  const before = await footprint();
  const tasks = (await rootTasks(admin)).length;
  const error: unknown = await admin.run(command).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ severity: "ERROR", code: expected.code });
  expect(String(error)).toMatch(expected.message);
  if (expected.hint)
    expect(error).toMatchObject({ hint: expect.stringMatching(expected.hint) as string });
  expect(await admin.run("SHOW INSTANCE_ID")).toHaveLength(1);
  expect((await rootTasks(admin)).length).toBe(tasks);
  expect(await footprint()).toEqual(before);
}

/** Taken as a task, which ends as failed with the reason, and leaves nothing behind. */
async function failsAsTask(command: string, reason: readonly RegExp[]): Promise<void> {
  const before = await footprint();
  const [answer] = await admin.run(command);
  const id = Number(answer?.task_id);
  const failed = await until(
    async () =>
      (await rootTasks(admin)).find((task) => task.id === id && task.status.startsWith("failed")),
    { timeoutMs: TASK_TIMEOUT_MS, intervalMs: 100, what: `task ${id} to fail: ${command}` },
  );
  for (const part of reason) expect(failed.status).toMatch(part);
  // For people: neither a stack nor the words of the orchestration.
  expect(failed.status).not.toMatch(/\n\s+at |Activity task failed|ChildWorkflow/);
  expect(await runningTasks()).toEqual([]);
  expect(await footprint()).toEqual(before);
}

const onSource = async (sql: string) => await stack.cluster.source.sql("app", sql);

describe("a command that names something wrong", () => {
  it.each(["RESHARD", "COPY_DATA", "REPLICATE", "SCHEMA_SYNC PRE"])(
    "%s: unknown databases and publication, one database twice, no schema owner",
    async (command) => {
      await refused(`${command} nowhere prod_sharded prod_tables`, {
        code: "3D000",
        message: /database "nowhere" is not configured/,
        hint: /prod, prod_sharded/,
      });
      await refused(`${command} prod nowhere prod_tables`, {
        code: "3D000",
        message: /database "nowhere"/,
      });
      await refused(`${command} prod prod_sharded missing`, {
        code: "42704",
        message: /publication "missing" does not exist on 127\.0\.0\.1/,
        hint: /CREATE PUBLICATION/,
      });
      await refused(`${command} prod prod prod_tables`, {
        code: "22023",
        message: /same database/,
      });
      await refused(`${command} no_owner prod_sharded prod_tables`, {
        code: "F0000",
        message: /"no_owner" has no schema owner/,
        hint: /schema_admin/,
      });
    },
    60_000,
  );

  it("a password of ours that the server does not take", async () => {
    await refused("RESHARD wrong_password prod_sharded prod_tables", {
      code: "28P01",
      message: /127\.0\.0\.1:\d+\/app refuses the schema owner: password authentication failed/,
      hint: /users\.toml/,
    });
  });

  it("too few, too many and unreadable arguments", async () => {
    for (const command of ["RESHARD prod", "RESHARD a b c d e", "CUTOVER soon", "STOP_TASK"])
      await refused(command, {
        code: "08P01",
        message: /syntax error in admin command/,
        hint: /Usage/,
      });
  });

  it("CUTOVER without a task, of no task; STOP_TASK of no task", async () => {
    const message = /task is not a replication task/;
    await refused("CUTOVER", { code: "42704", message, hint: /SHOW TASKS/ });
    await refused("CUTOVER 4711", { code: "42704", message, hint: /SHOW TASKS/ });
    expect(await admin.run("STOP_TASK 4711")).toEqual([{ stop_task: "task not found" }]);
  });

  it("REPLICATE without a migration that has copied", async () => {
    for (const slot of ["", " my_slot", " sluice_0123456789ab_0"])
      await refused(`REPLICATE ${MIGRATION}${slot}`, {
        code: "55000",
        message: /nothing of "prod" is copied to "prod_sharded"/,
        hint: /COPY_DATA/,
      });
  });
});

describe("servers and tables that a migration cannot have", () => {
  it("a destination that is not empty", async () => {
    const [, second] = stack.cluster.shards;
    await second.sql(
      "app_1",
      "CREATE TABLE plans (id integer PRIMARY KEY, name text, price numeric(10, 2), features jsonb); INSERT INTO plans VALUES (1)",
    );
    await failsAsTask(`RESHARD ${MIGRATION}`, [/destination\/1 .*plans/, /has rows/, /TRUNCATE/]);
    await second.sql("app_1", "DROP TABLE plans");
  });

  it("a row that has no shard", async () => {
    await onSource(
      "CREATE TABLE no_key (tenant_id bigint, n int); CREATE PUBLICATION no_key FOR TABLE users, no_key; INSERT INTO no_key VALUES (NULL, 1)",
    );
    await failsAsTask("RESHARD prod prod_sharded no_key", [
      /no_key.*rows have NULL as sharding key tenant_id/,
    ]);
    await onSource("DROP PUBLICATION no_key; DROP TABLE no_key");
  });

  it("a rule whose sharding key the table does not have", async () => {
    await failsAsTask("RESHARD prod wrong_rule prod_tables", [
      /countries/,
      /names column tenant_id, which the table does not have/,
    ]);
  });

  it("wal_level too low", async () => {
    await failsAsTask("RESHARD prod low_wal prod_tables", [
      /wal_level is replica/,
      /ALTER SYSTEM SET wal_level = 'logical'/,
    ]);
  });

  it("no free slot", async () => {
    await onSource(
      "SELECT pg_create_physical_replication_slot('taken_' || n) FROM generate_series(1, current_setting('max_replication_slots')::int) n",
    );
    await failsAsTask(`RESHARD ${MIGRATION}`, [
      /40 of 40 replication slots are in use/,
      /max_replication_slots/,
    ]);
    await onSource("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
  });
});

describe("files and passwords", () => {
  const MISTAKES = [
    {
      name: "a value of a wrong type",
      line: 'cutover_timeout = "soon"',
      says: /cutover_timeout/,
    },
    {
      name: "an unknown key",
      line: "cutover_timout = 1",
      says: /cutover_timout.*cutover_timeout/s,
    },
    { name: "broken TOML", line: "cutover_timeout = ", says: /TOML|value/i },
  ];

  it.each(MISTAKES)("RELOAD: $name is refused with file, line and key", async ({ line, says }) => {
    const path = join(node.folder, "pgdog.toml");
    const good = readFileSync(path, "utf8");
    const config = await admin.run("SHOW CONFIG");
    // Right below [general], so the line is known.
    writeFileSync(path, good.replace("[general]\n", `[general]\n${line}\n`));
    await refused("RELOAD", { code: "F0000", message: /pgdog\.toml:2/ });
    const error: unknown = await admin.run("RELOAD").catch((reason: unknown) => reason);
    const { message, detail, hint } = error as Record<string, string | undefined>;
    expect([message, detail, hint].join("\n")).toMatch(says);
    expect(await admin.run("SHOW CONFIG")).toEqual(config);
    writeFileSync(path, good);
    await admin.run("RELOAD");
  });

  it.each(MISTAKES)(
    "start: $name ends the node with file, line and key",
    async ({ line, says }) => {
      const files = (name: string) => readFileSync(join(node.folder, name), "utf8");
      const rest = files("pgdog.toml").replace(/^\[general\]\nhost = .*\nport = .*\n/u, "");
      const starting = startNode({ pgdog: `${line}\n${rest}`, users: files("users.toml") });
      const error: unknown = await starting.catch((reason: unknown) => reason);
      // Host and port come first in `startNode`.
      expect(String(error)).toMatch(/pgdog\.toml:4/);
      expect(String(error)).toMatch(says);
      expect(String(error)).not.toContain("    at Object");
    },
  );

  it.each([
    ["a client", "prod", "app"],
    ["an operator", "admin", "admin"],
    ["a user that does not exist", "prod", "nobody"],
  ])("a wrong password of %s", async (_who, database, user) => {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: node.port,
      database,
      user,
      password: "wrong",
    });
    const error: unknown = await client.connect().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ severity: "FATAL", code: "28P01" });
    // Which of name and password is wrong is nobody's business; the secret itself never shows.
    expect(String(error)).toMatch(new RegExp(`password authentication failed for user "${user}"`));
    expect(node.log()).not.toContain("admin-password");
  });
});

describe("after all that", () => {
  it("without Temporal a command fails within seconds, and traffic goes on", async () => {
    const [address] = stack.addresses;
    const client = new pg.Client({ ...address });
    await client.connect();
    await stack.temporal.kill();
    const before = await footprint();
    for (const command of [`RESHARD ${MIGRATION}`, "SHOW TASKS", "CUTOVER", "STOP_TASK 0"]) {
      const begun = performance.now();
      const error: unknown = await admin.run(command).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ severity: "ERROR", code: "58000" });
      expect(String(error)).toContain(`Temporal at ${stack.temporal.address}`);
      expect(performance.now() - begun).toBeLessThan(8_000);
    }
    const { rows } = await client.query(
      "UPDATE users SET settings = '{}' WHERE tenant_id = 1 RETURNING 1",
    );
    expect(rows.length).toBeGreaterThan(0);
    expect(await admin.run("SHOW CUTOVER")).toEqual([]);
    expect(await footprint()).toEqual(before);
    await client.end();
    await stack.temporal.start();
    await until(
      () =>
        admin.run("SHOW TASKS").then(
          () => true,
          () => false,
        ),
      {
        timeoutMs: 60_000,
        what: "the node to find Temporal again",
      },
    );
    expect(await runningTasks()).toEqual([]);
  }, 120_000);

  it("the right command copies; given up, it leaves nothing that blocks", async () => {
    const before = (await footprint()) as { slots: unknown; triggers: unknown }[];
    const [answer] = await until(() => admin.run(`COPY_DATA ${MIGRATION}`).catch(() => null), {
      timeoutMs: 60_000,
      intervalMs: 500,
      what: "a control process to answer",
    });
    const id = Number(answer?.task_id);
    const find = async () => (await rootTasks(admin)).find((task) => task.id === id);
    await until(
      async () => {
        const task = await find();
        if (task?.status.startsWith("failed")) throw new Error(task.status);
        return task?.innerStatus === "replicating";
      },
      { timeoutMs: 120_000, intervalMs: 200, what: "the copy to end" },
    );
    // A second one beside it, and a task that has no switch to make.
    await expect(admin.run(`RESHARD ${MIGRATION}`)).rejects.toMatchObject({
      code: "42710",
      message: expect.stringContaining("is running already") as string,
    });
    expect(await admin.run(`STOP_TASK ${id}`)).toEqual([{ stop_task: "OK" }]);
    await until(async () => (await find())?.status === "cancelled", {
      timeoutMs: 60_000,
      intervalMs: 200,
      what: "the migration to be undone",
    });
    expect(await admin.run(`STOP_TASK ${id}`)).toEqual([{ stop_task: "task not found" }]);
    await refused(`CUTOVER ${id}`, { code: "42704", message: /task is not a replication task/ });
    const after = (await footprint()) as { blocking: unknown; slots: unknown; triggers: unknown }[];
    for (const [index, { blocking, slots, triggers }] of after.entries()) {
      expect(blocking).toEqual([]);
      expect(slots).toEqual(before[index]?.slots);
      expect(triggers).toEqual(before[index]?.triggers);
    }
    for (const shard of stack.shards) expect(await shard("SELECT FROM users LIMIT 1")).toEqual([]);
  }, 240_000);
});
