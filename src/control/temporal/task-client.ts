import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  Client,
  Connection,
  WorkflowExecutionAlreadyStartedError,
  type WorkflowExecutionInfo,
  type WorkflowHandle,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
} from "@temporalio/client";
import {
  type Order,
  orderMessages,
  searchAttributes,
  statusQuery,
  TASK_MEMO,
} from "../../../workflows/task/messages.js";
import type { TemporalConfig } from "../../config/model.js";
import { NotReady } from "../../core/errors.js";
import type { Log } from "../../observe/log.js";
import { type MigrationRef, migrationOfSlot, names } from "../../resharding/model/migration.js";
import {
  queues,
  type ReshardInput,
  type SchemaSyncInput,
  type TaskMemo,
  type TaskStatus,
  taskType,
  workflowIds,
} from "../../resharding/model/tasks.js";
import {
  type StartedTask,
  type StartTask,
  type TaskClient,
  type TaskDetails,
  TaskExists,
  type TaskRow,
  TaskUnknown,
} from "../task-api.js";
import { connectionOptions } from "./connection.js";
import { DeadlineCalls } from "./deadline-calls.js";
import { allocateTaskId } from "./task-ids.js";
import { memoOf, rowsOf } from "./task-rows.js";

export interface TaskClientOptions {
  readonly temporal: TemporalConfig;
  /** For each command as a whole. */
  readonly timeoutMs: number;
  readonly log: Log;
}

/** Ended tasks are shown for a day, as PgDog does. */
const SHOWN_AFTER_END_MS = 24 * 60 * 60_000;
/** Visibility is written after the start was answered. */
const FIND_TRIES = 4;
const FIND_PAUSE_MS = 250;

/** A client that needs no server to be made: every call has a deadline and a clear error. */
export function connectTasks(options: TaskClientOptions): TaskClient {
  const { temporal } = options;
  const connection = Connection.lazy({
    ...connectionOptions(temporal),
    // The SDK's own repeats go on after `close` and then throw where nobody catches; ours end in time.
    interceptors: [],
  });
  const client = new Client({ connection, namespace: temporal.namespace });
  const calls = new DeadlineCalls({ connection, ...options });
  return {
    start: (request) => start(client, calls, request),
    list: () => list(client, calls),
    cutover: (taskId) => cutover(client, calls, taskId),
    stop: (taskId) => stop(client, calls, taskId),
    status: (taskId) => status(client, calls, taskId),
    close: () => connection.close(),
  };
}

async function start(
  client: Client,
  calls: DeadlineCalls,
  request: StartTask,
): Promise<StartedTask> {
  const ref = refOf(request);
  // Before an id is taken: a refused command should not use one up.
  const workflowId =
    request.kind === "schema_sync"
      ? workflowIds.schemaSync(ref, request.phase)
      : workflowIds.reshard(ref);
  if (await calls.run(() => isRunning(client, workflowId))) throw new TaskExists(workflowId);
  const requestId = randomUUID();
  const taskId = await calls.run(() => allocateTaskId(client, requestId), { needsWorker: true });
  const type = typeOf(request, ref);
  try {
    await calls.run(
      () =>
        client.workflow.start(request.kind === "schema_sync" ? "schemaSync" : "reshard", {
          workflowId,
          taskQueue: queues.light,
          args: [inputOf(request, ref, taskId)],
          // The id keeps two commands apart; the lock that counts is in PostgreSQL.
          workflowIdConflictPolicy: "FAIL",
          workflowIdReusePolicy: "ALLOW_DUPLICATE",
          staticSummary: `${type}, publication ${ref.publication}, task ${taskId}`,
          staticDetails: `migration \`${ref.id}\``,
          memo: { [TASK_MEMO]: firstMemo(type) },
          typedSearchAttributes: [
            { key: searchAttributes.task, value: taskId },
            { key: searchAttributes.kind, value: request.kind },
            { key: searchAttributes.cluster, value: `${ref.source}/${ref.destination}` },
            { key: searchAttributes.phase, value: "starting" },
          ],
        }),
      { isOnce: true },
    );
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) throw new TaskExists(workflowId);
    throw error;
  }
  const replicationSlot = request.kind === "schema_sync" ? null : baseSlot(ref);
  return { taskId, workflowId, replicationSlot };
}

/** The name that a user gives back to REPLICATE; the real ones add `_<shard>`. */
function baseSlot(ref: MigrationRef): string {
  return names.slot(ref, 0, 0).replace(/_0$/, "");
}

function refOf(request: StartTask): MigrationRef {
  const { source, destination, publication } = request;
  const given = request.kind === "schema_sync" ? null : request.slot;
  const known = given === null ? null : migrationOfSlot(given);
  const id = known ?? randomBytes(6).toString("hex");
  return { id, source, destination, publication };
}

function typeOf(request: StartTask, ref: MigrationRef): string {
  if (request.kind === "schema_sync") return taskType.schemaSync(ref, request.phase);
  return request.kind === "replicate" ? taskType.replication(ref, 0) : taskType.reshard(ref);
}

function inputOf(
  request: StartTask,
  ref: MigrationRef,
  taskId: number,
): ReshardInput | SchemaSyncInput {
  if (request.kind === "schema_sync") return { version: 1, ref, taskId, phase: request.phase };
  return {
    version: 1,
    ref,
    taskId,
    kind: request.kind,
    autoCutover: request.kind === "reshard",
    skipCopy: request.kind === "replicate",
    resume: null,
  };
}

function firstMemo(type: string): TaskMemo {
  const nowMs = Date.now();
  return {
    version: 1,
    type,
    status: "started",
    innerStatus: "",
    startedAtMs: nowMs,
    updatedAtMs: nowMs,
    subtasks: [],
    isSwitchable: false,
    isReverse: false,
  };
}

async function isRunning(client: Client, workflowId: string): Promise<boolean> {
  try {
    return (await client.workflow.getHandle(workflowId).describe()).status.name === "RUNNING";
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

async function list(client: Client, calls: DeadlineCalls): Promise<readonly TaskRow[]> {
  const since = new Date(Date.now() - SHOWN_AFTER_END_MS).toISOString();
  const query = `SluiceTask >= 0 AND (ExecutionStatus = 'Running' OR CloseTime > '${since}')`;
  const tasks = await calls.run(() => tasksOf(client, query));
  return tasks.flatMap((task) => rowsOf(task.id, task.execution, Date.now()));
}

interface FoundTask {
  readonly id: number;
  readonly execution: WorkflowExecutionInfo;
}

/** Newest first. A task that continued as new has several runs: the newest one speaks for it. */
async function tasksOf(client: Client, query: string): Promise<readonly FoundTask[]> {
  const newest = new Map<number, WorkflowExecutionInfo>();
  for await (const execution of client.workflow.list({ query })) {
    const id = execution.typedSearchAttributes.get(searchAttributes.task);
    if (id === undefined) continue;
    const other = newest.get(id);
    if (other === undefined || other.startTime < execution.startTime) newest.set(id, execution);
  }
  return [...newest].map(([id, execution]) => ({ id, execution })).sort((a, b) => b.id - a.id);
}

/** @returns null after some tries: a task that was started just now shows up a moment later */
async function find(
  client: Client,
  calls: DeadlineCalls,
  condition: string,
): Promise<readonly FoundTask[]> {
  for (let tries = 1; ; tries++) {
    const found = await calls.run(() => tasksOf(client, condition));
    if (found.length > 0 || tries === FIND_TRIES) return found;
    await sleep(FIND_PAUSE_MS);
  }
}

async function cutover(
  client: Client,
  calls: DeadlineCalls,
  taskId: number | null,
): Promise<{ readonly taskId: number; readonly workflowId: string }> {
  const which = taskId === null ? "SluiceTask >= 0" : `SluiceTask = ${taskId}`;
  const tasks = await find(
    client,
    calls,
    `${which} AND ExecutionStatus = 'Running' AND SluiceKind != 'schema_sync'`,
  );
  const waiting = tasks.filter(
    ({ execution }) => taskId !== null || memoOf(execution)?.isSwitchable === true,
  );
  const task = waiting.at(-1);
  if (task === undefined) throw new TaskUnknown("task is not a replication task");
  const { workflowId } = task.execution;
  const handle = client.workflow.getHandle(workflowId);
  await order(calls, {
    update: () =>
      handle.executeUpdate<string, [Order]>(orderMessages.cutover.update.name, {
        args: [{ reason: "CUTOVER" }],
      }),
    signal: () => handle.signal(orderMessages.cutover.signal, { reason: "CUTOVER" }),
  });
  return { taskId: task.id, workflowId };
}

async function stop(
  client: Client,
  calls: DeadlineCalls,
  taskId: number,
): Promise<"OK" | "task not found"> {
  const [task] = await find(
    client,
    calls,
    `SluiceTask = ${taskId} AND ExecutionStatus = 'Running'`,
  );
  if (task === undefined) return "task not found";
  const handle = client.workflow.getHandle(task.execution.workflowId);
  if (memoOf(task.execution)?.isReverse === true)
    await order(calls, {
      update: () =>
        handle.executeUpdate<string, [Order]>(orderMessages.finalize.update.name, {
          args: [{ reason: "STOP_TASK" }],
        }),
      signal: () => handle.signal(orderMessages.finalize.signal, { reason: "STOP_TASK" }),
    });
  else await calls.run(() => handle.cancel());
  return "OK";
}

/**
 * As an update, which is validated and answered; where no worker is up to answer, as the signal of the same
 * name. Should the update get through after all, the order was given twice, which changes nothing.
 */
async function order(
  calls: DeadlineCalls,
  way: { readonly update: () => Promise<unknown>; readonly signal: () => Promise<void> },
): Promise<void> {
  try {
    await calls.run(way.update, { needsWorker: true });
  } catch (error) {
    if (error instanceof WorkflowUpdateFailedError)
      throw new NotReady(error.cause?.message ?? error.message, {
        hint: "SHOW TASKS says what each task does now.",
      });
    if (!calls.isNoAnswer(error)) throw error;
    await calls.run(way.signal);
  }
}

async function status(client: Client, calls: DeadlineCalls, taskId: number): Promise<TaskDetails> {
  const [task] = await find(client, calls, `SluiceTask = ${taskId}`);
  if (task === undefined) throw new TaskUnknown(`task ${taskId} does not exist`);
  const { workflowId } = task.execution;
  const memo = memoOf(task.execution);
  const state = await queryStatus(calls, client.workflow.getHandle(workflowId));
  // What stream 0 waits for is known best by the child that runs it.
  const child =
    state?.innerStatus === "replicating" && state.status === "running" && !state.isReverse
      ? await queryStatus(calls, client.workflow.getHandle(childIdOf(workflowId)))
      : null;
  const best = child ?? state;
  return {
    taskId,
    workflowId,
    phase: state?.innerStatus ?? memo?.innerStatus ?? "",
    waitingFor: best?.waitingFor ?? [
      "no control process answers; this is what Temporal stored last",
    ],
    lagBytes: best?.lagBytes ?? null,
    predictedPauseMs: best?.predictedPauseMs ?? null,
    isSwitchWanted: best?.isSwitchWanted ?? false,
    parked: state?.parked ?? child?.parked ?? null,
    lastSwitch: child?.lastSwitch ?? state?.lastSwitch ?? null,
  };
}

function childIdOf(reshardId: string): string {
  return `${reshardId.replace(/^reshard\//, "replicate/")}/0`;
}

/** Null where no worker answers, or there is no such workflow. */
async function queryStatus(
  calls: DeadlineCalls,
  handle: WorkflowHandle,
): Promise<TaskStatus | null> {
  try {
    return await calls.run(() => handle.query(statusQuery), { needsWorker: true });
  } catch (error) {
    if (error instanceof WorkflowNotFoundError || calls.isNoAnswer(error)) return null;
    throw error;
  }
}
