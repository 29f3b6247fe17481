import { CancelledFailure, Context } from "@temporalio/activity";
import { SluiceError } from "../src/core/errors.js";
import { framesOf, tell } from "../src/core/tell.js";
import type { Log } from "../src/observe/log.js";
import type { Cluster, EngineContext, EnginePolicy } from "../src/resharding/context.js";
import { keepLeftEvidence } from "../src/resharding/control/evidence.js";
import { toFailure } from "./failure.js";

/** What the process that hosts activities gives them. The getters are asked anew at every use. */
export interface ActivityDeps {
  /** By configured name, as the configuration is now. @throws DatabaseUnknown */
  readonly cluster: (name: string) => Cluster;
  readonly policy: () => EnginePolicy;
  readonly log: Log;
  /** A no-op in production. */
  readonly announce: (step: string) => Promise<void>;
  readonly incarnation: string;
}

const LOGGED_FRAMES = 5;

type Step<A extends readonly unknown[], R> = (context: EngineContext, ...input: A) => Promise<R>;

/** The step behind each activity, by its name: what runs without Temporal, too. */
export type StepsOf<A> = {
  readonly [Name in keyof A]: A[Name] extends (...input: infer Input) => Promise<infer Result>
    ? Step<Input, Result>
    : never;
};

/**
 * An activity out of a step of the engine: context, one call, one translation. Beats on a timer, so that a
 * long statement is no silence and a cancel is heard within it.
 */
export function activityOf<A extends readonly unknown[], R>(
  deps: ActivityDeps,
  step: Step<A, R>,
): (...input: A) => Promise<R> {
  return async (...input) => {
    const { info, cancellationSignal } = Context.current();
    const beat = startBeating();
    try {
      const result = await step(engineContext(deps, beat), ...input);
      await deps.announce(`${info.activityType}.end`);
      return result;
    } catch (error) {
      // Stopped from outside: whatever it threw on the way down, it says why it was stopped.
      if (cancellationSignal.aborted) throw stopReason(cancellationSignal);
      await keepLeftEvidence(deps.cluster, { step: info.activityType, input, error });
      deps.log.warn("step failed", {
        step: info.activityType,
        attempt: info.attempt,
        reason: tell(error),
        ...whereIs(error),
      });
      throw toFailure(error, info.attempt);
    } finally {
      beat.stop();
    }
  };
}

/** Of what nobody foresaw the message is not told, so the log says at least where it came from. */
function whereIs(error: unknown): { readonly at?: string } {
  if (error instanceof SluiceError || !(error instanceof Error)) return {};
  return { at: framesOf(error).slice(0, LOGGED_FRAMES).join("; ") };
}

/** What Temporal made of it: cancelled, timed out, worker shutting down. Core tells them apart. */
export function stopReason(signal: AbortSignal): unknown {
  return signal.reason instanceof CancelledFailure
    ? signal.reason
    : new CancelledFailure("stopped", [], undefined);
}

type Progress = Readonly<Record<string, string | number>>;

interface Beat {
  readonly note: (progress: Progress) => void;
  readonly stop: () => void;
}

function startBeating(): Beat {
  const context = Context.current();
  let progress: Progress = {};
  const { heartbeatTimeoutMs } = context.info;
  // At once: a cancel that came while the task was queued is delivered by the first beat's answer.
  if (heartbeatTimeoutMs !== undefined) context.heartbeat(progress);
  const timer =
    heartbeatTimeoutMs === undefined
      ? null
      : setInterval(() => context.heartbeat(progress), Math.floor(heartbeatTimeoutMs / 4));
  return {
    note: (latest) => {
      progress = latest;
    },
    stop: () => {
      if (timer !== null) clearInterval(timer);
    },
  };
}

function engineContext(deps: ActivityDeps, beat: Beat): EngineContext {
  const { cancellationSignal, info } = Context.current();
  return {
    cluster: deps.cluster,
    policy: deps.policy(),
    log: deps.log.child({ step: info.activityType, attempt: info.attempt }),
    signal: cancellationSignal,
    heartbeat: beat.note,
    announce: deps.announce,
    incarnation: deps.incarnation,
  };
}
