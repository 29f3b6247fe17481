import type { ActivityDeps } from "../../../activities/context.js";
import { logLevel } from "../../config/environment.js";
import type { Config } from "../../config/model.js";
import { clusterOf, enginePolicyOf } from "../../control/cluster-directory.js";
import { installTemporalRuntime } from "../../control/temporal/runtime.js";
import { type WorkerPlan, WorkerSupervisor } from "../../control/temporal/worker-supervisor.js";
import { createLog, type Log } from "../../observe/log.js";
import { announcer } from "./pause-points.js";
import type { FromWorker, NodeIdentity, ToWorker } from "./worker-channel.js";

/** What a control or mover process knows: the latest configuration, and who its node is. */
export interface WorkerHost {
  /** Asked anew at every use: a switch or a reload changes it. */
  readonly config: () => Config;
  readonly node: NodeIdentity;
  readonly log: Log;
  readonly deps: ActivityDeps;
  send(message: FromWorker): void;
  /** Hears every message but "config" and "shutdown". */
  onMessage(listener: (message: ToWorker) => void): void;
}

/**
 * The frame of a worker process. It lives and dies with its parent: the end of the channel ends it at once,
 * signals of a terminal do not; "shutdown" ends it in good order.
 * @param plansOf made once, from the first configuration
 */
export function runWorkerProcess(
  role: "control" | "mover",
  plansOf: (host: WorkerHost) => readonly WorkerPlan[],
): void {
  const number = Number(process.argv[2] ?? 0);
  const log = createLog({ process: role, number }, logLevel(process.env));
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  process.once("disconnect", () => process.exit(0));
  // The parent may have been killed while our modules were loading: the event was then before the listener.
  if (!process.connected) process.exit(0);
  installTemporalRuntime(log);

  const listeners: ((message: ToWorker) => void)[] = [];
  let config: Config | null = null;
  let supervisor: WorkerSupervisor | null = null;
  const begin = (first: Config, node: NodeIdentity) => {
    const current = () => config ?? first;
    const host: WorkerHost = {
      config: current,
      node,
      log,
      deps: {
        cluster: (name) => clusterOf(current(), name),
        policy: () => enginePolicyOf(current()),
        log,
        announce: announcer(process.env),
        // Of this process, not of the node: lanes tell a process from the one before it by this (R16).
        incarnation: `${node.incarnation}/${role}${number}/${process.pid}`,
      },
      send,
      onMessage: (listener) => listeners.push(listener),
    };
    supervisor = new WorkerSupervisor({
      temporal: first.sluice.temporal,
      plans: plansOf(host),
      log,
      onReady: () => send({ kind: "ready" }),
    });
    supervisor.start();
  };
  process.on("message", (message: ToWorker) => {
    if (message.kind === "config") {
      config = message.config;
      log.setLevel(logLevel(process.env, config.general.logLevel));
      if (supervisor === null) begin(message.config, message.node);
    } else if (message.kind === "shutdown") void shutDown(supervisor);
    else for (const listener of listeners) listener(message);
  });
}

/** The parent kills us when it takes too long. */
async function shutDown(supervisor: WorkerSupervisor | null): Promise<void> {
  await supervisor?.stop();
  process.exit(0);
}

function send(message: FromWorker): void {
  if (process.connected) process.send?.(message, () => {});
}
