import type { ActivityDeps } from "../../../activities/activity.js";
import { logLevel } from "../../config/environment.js";
import type { Config } from "../../config/model.js";
import { clusterOf } from "../../control/cluster-directory.js";
import { enginePolicyOf } from "../../control/policies.js";
import {
  installTemporalRuntime,
  type WorkerPlan,
  WorkerSupervisor,
} from "../../control/temporal/worker-supervisor.js";
import { createLog } from "../../observe/log.js";
import { CHILD_NUMBER, joinParent, type Parent } from "./child.js";
import { announcer } from "./pause-points.js";
import type { NodeCalls, NodeIdentity, ToWorker } from "./worker-channel.js";

/** What a control or mover process knows: the latest configuration, and who its node is. */
export interface WorkerHost {
  /** Asked anew at every use: a switch or a reload changes it. */
  readonly config: () => Config;
  readonly node: NodeIdentity;
  readonly deps: ActivityDeps;
  /** The main process. */
  readonly ask: Parent<NodeCalls>["ask"];
}

/**
 * Runs a worker process until its parent asks it to shut down, or is gone.
 * @param plansOf made once, from the first configuration
 */
export function runWorkerProcess(
  role: "control" | "mover",
  plansOf: (host: WorkerHost) => readonly WorkerPlan[],
): void {
  const log = createLog({ process: role, number: CHILD_NUMBER }, logLevel(process.env));
  let config: Config | null = null;
  let supervisor: WorkerSupervisor | null = null;
  const begin = (first: Config, node: NodeIdentity): WorkerSupervisor => {
    const current = () => config ?? first;
    const plans = plansOf({
      config: current,
      node,
      deps: {
        cluster: (name) => clusterOf(current(), name),
        policy: () => enginePolicyOf(current()),
        log,
        announce: announcer(process.env),
        // Of this process, not of the node: lanes tell a process from the one before it by this (R16).
        incarnation: `${node.incarnation}/${role}${CHILD_NUMBER}/${process.pid}`,
      },
      ask: parent.ask,
    });
    const begun = new WorkerSupervisor({ temporal: first.sluice.temporal, plans, log });
    begun.start();
    return begun;
  };
  const parent = joinParent<NodeCalls, object, ToWorker>({}, (message) => {
    if (message.kind === "config") {
      config = message.config;
      log.setLevel(logLevel(process.env, config.general.logLevel));
      supervisor ??= begin(message.config, message.node);
    } else void shutDown(supervisor);
  });
  installTemporalRuntime(log);
}

/** The parent kills us when it takes too long. */
async function shutDown(supervisor: WorkerSupervisor | null): Promise<void> {
  await supervisor?.stop();
  process.exit(0);
}
