import { describe, expect, it } from "vitest";
import { AdminExecutor } from "../../../src/admin/admin-executor.js";
import type { AdminHost } from "../../../src/admin/host.js";
import { parseConfig } from "../../../src/config/read-config.js";
import type { CutoverRow } from "../../../src/control/node/answers.js";
import {
  type StartTask,
  type TaskClient,
  type TaskDetails,
  TaskUnknown,
  TemporalUnreachable,
} from "../../../src/control/task-api.js";
import type { Log } from "../../../src/observe/log.js";

const QUIET: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => QUIET,
};

const CONFIG = parseConfig({
  pgdog: `
[[databases]]
name = "prod"
host = "127.0.0.1"
port = 1
[[databases]]
name = "prod_sharded"
host = "127.0.0.1"
port = 1
`,
  users: `
[[users]]
name = "app"
database = "prod"
`,
});

/** Writes down what it is told; knows one replication task, 4. */
const CUTOVER: CutoverRow = {
  database: "prod",
  migration: "m",
  epoch: 2,
  state: "committed",
  serving: "destination",
  expires_in_ms: null,
  reason: "",
  pause_ms: 12,
  step_pause_ms: null,
  step_synchronize_ms: null,
  step_swap_ms: null,
  step_reverse_ms: null,
  step_resume_ms: null,
  waiting: null,
};

function recorder(overrides: Partial<AdminHost>, waiting: Waiting | null) {
  const told: unknown[] = [];
  const tasks: TaskClient = {
    start: async (request: StartTask) => {
      told.push(request);
      return { taskId: 7, workflowId: "w7", replicationSlot: "sluice_x" };
    },
    list: async () => [
      {
        id: 4,
        scope: "root",
        type: "replication prod -> prod_sharded (reverse)",
        status: "running",
        innerStatus: "replicating",
        startedAtMs: 0,
        updatedAtMs: 1,
        elapsedMs: 61_005,
        workflowId: "w4",
      },
    ],
    cutover: async (taskId) => {
      if (taskId !== 4) throw new TaskUnknown("task is not a replication task");
      return { taskId, workflowId: "w4" };
    },
    stop: async (taskId) => (taskId === 4 ? "OK" : "task not found"),
    status: async (taskId) => {
      if (waiting === null) throw new TaskUnknown("not here");
      return {
        ...{ taskId, workflowId: "w4", phase: "replicating", lagBytes: null },
        ...{ predictedPauseMs: null, parked: null, lastSwitch: null, ...waiting },
      };
    },
    close: async () => {},
  };
  const host: AdminHost = {
    log: QUIET,
    tasks,
    nodeId: "n1",
    incarnation: "i1",
    config: () => CONFIG,
    gather: async (what) => (what === "clients" ? [[9, "app", "prod"]] : []),
    maintenance: (isOn, database) => told.push({ maintenance: isOn, database }),
    maintenanceFlags: () => [
      { database: null, owner: "operator" },
      { database: "prod", owner: "cutover" },
    ],
    pause: ({ isPaused, user, database }) => told.push({ isPaused, user, database }),
    reload: async () => void told.push("reload"),
    change: async (edit) => void told.push(edit(CONFIG).general.checkoutTimeoutMs),
    reconnect: () => told.push("reconnect"),
    shutdown: () => told.push("shutdown"),
    showCutover: async () => [CUTOVER],
    waitingSwitches: async () => [],
    resolveCutover: async () => ["committed"],
    unfence: async (database) => [`${database} is open`],
    ...overrides,
  };
  return { told, executor: new AdminExecutor(host) };
}

/** What `status` says of task 4. */
type Waiting = Pick<TaskDetails, "isSwitchWanted" | "waitingFor">;

async function run(
  sql: string,
  overrides: Partial<AdminHost> = {},
  waiting: Waiting | null = null,
) {
  const { told, executor } = recorder(overrides, waiting);
  return { told, result: await executor.execute("admin", sql) };
}

describe("answers of the admin database", () => {
  it.each([
    ["MAINTENANCE ON", "MAINTENANCE ON", { maintenance: true, database: null }],
    ["MAINTENANCE off prod", "MAINTENANCE OFF", { maintenance: false, database: "prod" }],
    ["PAUSE app prod", "PAUSE", { isPaused: true, user: "app", database: "prod" }],
    ["RESUME", "RESUME", { isPaused: false, user: null, database: null }],
    ["RELOAD", "RELOAD", "reload"],
    ["RECONNECT", "RECONNECT", "reconnect"],
    ["SHUTDOWN", "SHUTDOWN", "shutdown"],
    ["SET checkout_timeout TO 123", "SET", 123],
  ])("%s", async (sql, tag, order) => {
    const { told, result } = await run(sql);
    expect(result).toEqual({ kind: "done", tag });
    expect(told).toEqual([order]);
  });

  // Names keep their case.
  it.each([
    "MAINTENANCE ON Prod",
    "MAINTENANCE OFF x",
    "PAUSE app x",
    "RESUME x",
    "RESOLVE CUTOVER x",
  ])("%s: a database that is not configured is refused, and nothing done", async (sql) => {
    const { told, result } = await run(sql);
    expect(result).toMatchObject({ kind: "error", sqlState: "3D000" });
    expect(told).toEqual([]);
  });

  it("MAINTENANCE OFF lets go what a reload has taken out of the files", async () => {
    const gone = { maintenanceFlags: () => [{ database: "gone", owner: "operator" } as const] };
    expect((await run("MAINTENANCE OFF gone", gone)).told).toEqual([
      { maintenance: false, database: "gone" },
    ]);
  });

  it("CUTOVER and STOP_TASK answer in a column of text", async () => {
    expect((await run("CUTOVER 4")).result).toMatchObject({
      columns: [{ name: "cutover", type: "text" }],
      rows: [["OK"]],
      tag: "CUTOVER",
      notices: ["task 4, Temporal workflow id: w4"],
    });
    expect((await run("STOP_TASK 4")).result).toMatchObject({
      columns: [{ name: "stop_task", type: "text" }],
      rows: [["OK"]],
      tag: "STOP_TASK",
    });
    expect((await run("STOP_TASK 99")).result).toMatchObject({ rows: [["task not found"]] });
  });

  it("SHOW TASKS has typed ids and PgDog's elapsed", async () => {
    const { result } = await run("SHOW TASKS");
    expect(result).toMatchObject({ kind: "rows", tag: "SHOW TASKS" });
    if (result.kind !== "rows") return;
    expect(result.rows[0]?.slice(0, 5)).toEqual([
      4,
      "root",
      "replication prod -> prod_sharded (reverse)",
      "running",
      "replicating",
    ]);
    expect(result.rows[0]?.slice(7)).toEqual(["00:01:01:005", 61_005]);
  });

  it("SHOW CLIENTS gives the columns asked for, missing values as null", async () => {
    const { result } = await run("SHOW CLIENTS state, id");
    expect(result).toMatchObject({
      columns: [
        { name: "id", type: "bigint" },
        { name: "state", type: "text" },
      ],
      rows: [[9, null]],
    });
  });

  it("a driver's probe gets one row with one empty column", async () => {
    expect((await run("SHOW standard_conforming_strings")).result).toMatchObject({
      columns: [{ name: "standard_conforming_strings", type: "text" }],
      rows: [[""]],
    });
    expect((await run("SHOW server_version")).result).toMatchObject({ rows: [["18.0"]] });
  });

  it("SHOW MAINTENANCE tells the operator's flag from a switch's hold", async () => {
    expect((await run("SHOW MAINTENANCE")).result).toMatchObject({
      rows: [
        [null, "operator"],
        ["prod", "cutover"],
      ],
    });
  });

  it("SHOW CUTOVER fills columns by name", async () => {
    const { result } = await run("SHOW CUTOVER");
    expect(result.kind === "rows" && result.rows[0]?.slice(0, 4)).toEqual([
      "prod",
      "m",
      2,
      "committed",
    ]);
  });

  it("SHOW TASKS says at the task that switches why the switch waits", async () => {
    const ref = { id: "m", source: "prod", destination: "prod_sharded", publication: "p" };
    const waiting = "n1: 1 client waits; open transaction of pid 8";
    const shown = async (stream: number) => {
      const { result } = await run("SHOW TASKS", {
        waitingSwitches: async () => [{ ref, epoch: 1, stream, waiting }],
      });
      return result.kind === "rows" ? result.rows[0]?.[4] : null;
    };
    expect(await shown(1)).toBe(`replicating, waits: ${waiting}`);
    // The task is the reverse one: what the other direction waits for is not its concern.
    expect(await shown(0)).toBe("replicating");
  });

  it("SHOW TASKS says at a task whose switch was asked for why it does not begin", async () => {
    const shown = async (isSwitchWanted: boolean, waitingFor: readonly string[]) => {
      const { result } = await run("SHOW TASKS", {}, { isSwitchWanted, waitingFor });
      return result.kind === "rows" ? result.rows[0]?.[4] : null;
    };
    expect(await shown(true, ["lag 7 MB"])).toBe("replicating, waits: lag 7 MB");
    expect(await shown(true, ["no pass yet", "a", "b"])).toBe(
      "replicating, waits: no pass yet, and 2 more",
    );
    expect(await shown(false, ["lag 7 MB"])).toBe("replicating");
    expect(await shown(true, [])).toBe("replicating");
  });

  it("UNFENCE wants its confirmation", async () => {
    const refused = (await run("UNFENCE prod")).result;
    expect(refused).toMatchObject({ kind: "error", sqlState: "55000" });
    expect(refused.kind === "error" && refused.hint).toContain('UNFENCE "prod" CONFIRM');
    expect((await run("UNFENCE prod CONFIRM")).result).toMatchObject({
      kind: "done",
      notices: ["prod is open"],
    });
  });
});

describe("errors of the admin database", () => {
  it.each([
    ["SELECT 1", "08P01", /syntax error in admin command/],
    ["CUTOVER", "42704", /task is not a replication task/],
    ["CUTOVER 5", "42704", /task is not a replication task/],
    ["SET nothing TO 1", "42704", /unrecognized configuration parameter/],
    ["BAN", "0A000", /BAN is not supported/],
    ["SHOW PEERS", "0A000", /SHOW PEERS is not supported/],
    ["RESHARD nowhere prod_sharded p", "3D000", /database "nowhere" is not configured/],
    ["RESHARD prod nowhere p", "F0000", /database "prod" has no schema owner/],
    ["COPY_DATA prod prod p", "22023", /same database/],
  ])("%s: %s", async (sql, sqlState, message) => {
    const { told, result } = await run(sql);
    expect(result).toMatchObject({ kind: "error", sqlState });
    expect(result.kind === "error" && result.message).toMatch(message);
    expect(told).toEqual([]);
  });

  it("carries detail and hint of what was thrown below", async () => {
    const { result } = await run("RELOAD", {
      reload: async () => {
        throw new TemporalUnreachable("h:1");
      },
    });
    expect(result).toMatchObject({ kind: "error", sqlState: "58000" });
    expect(result.kind === "error" && result.hint).toContain("RESOLVE CUTOVER");
  });

  it("turns a bug into XX000 and goes on", async () => {
    const { result } = await run("RECONNECT", {
      reconnect: () => {
        throw new TypeError("boom");
      },
    });
    expect(result).toMatchObject({
      kind: "error",
      sqlState: "XX000",
      message: expect.stringMatching(/^TypeError, which nobody foresaw/u),
    });
  });
});
