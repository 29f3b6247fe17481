import { connect } from "node:net";
import { type TaskClient, TemporalUnreachable } from "../../control/task-api.js";
import { connectTasks, type TaskClientOptions } from "../../control/temporal/task-client.js";

const PROBE_TIMEOUT_MS = 2_000;
const DEFAULT_PORT = 7233;

/**
 * A task client for people at a prompt: when nobody listens at Temporal's address they are told at once. gRPC
 * alone would try again until the deadline, which must leave time for a server that is merely slow.
 */
export function connectPromptTasks(options: TaskClientOptions): TaskClient {
  const tasks = connectTasks(options);
  const { address } = options.temporal;
  return {
    start: async (request) => await probed(address, () => tasks.start(request)),
    list: async () => await probed(address, () => tasks.list()),
    cutover: async (taskId) => await probed(address, () => tasks.cutover(taskId)),
    stop: async (taskId) => await probed(address, () => tasks.stop(taskId)),
    status: async (taskId) => await probed(address, () => tasks.status(taskId)),
    connection: () => tasks.connection(),
    close: async () => await tasks.close(),
  };
}

async function probed<T>(address: string, call: () => Promise<T>): Promise<T> {
  const reason = await probe(address);
  if (reason !== null) throw new TemporalUnreachable(address, { detail: reason });
  return await call();
}

/** Why no connection comes about; null: somebody listens. */
async function probe(address: string): Promise<string | null> {
  // "host:port", "[::1]:port" or a host alone.
  const [, host = address, port] = /^\[?(.*?)\]?(?::(\d+))?$/u.exec(address) ?? [];
  return await new Promise((resolve) => {
    const socket = connect({ host, port: port === undefined ? DEFAULT_PORT : Number(port) });
    const finish = (reason: string | null) => {
      socket.destroy();
      resolve(reason);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => finish(`no answer in ${PROBE_TIMEOUT_MS} ms`));
    socket.once("connect", () => finish(null));
    // Of an unreachable host with several addresses the message is empty, the code says it.
    socket.once("error", (error: NodeJS.ErrnoException) =>
      finish(error.message === "" ? (error.code ?? "not reachable") : error.message),
    );
  });
}
