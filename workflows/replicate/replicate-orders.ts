import { handleOrders, type OrderHandler } from "../task/orders.js";
import type { ReplicateRun } from "./replicate-run.js";

/** Which orders a replicate task takes, and when. */
export function handleReplicateOrders(run: ReplicateRun): void {
  const { flags, input } = run;
  const isReverse = input.stream > 0;
  const notServing = () => (run.isServing() ? null : "this standby does not serve yet");
  const over = () => (flags.isFinalized || flags.isAborted ? "the task is ending" : null);
  const switching: OrderHandler = {
    refusal: () => over() ?? notServing(),
    take: () => {
      flags.wantsSwitch = true;
      flags.isHurried = true;
      return "switches as soon as it is ready";
    },
  };
  handleOrders(
    {
      cutover: switching,
      go: switching,
      rollback: {
        refusal: () =>
          isReverse
            ? switching.refusal()
            : "there is no switch yet to roll back; abort undoes it all",
        take: switching.take,
      },
      finalize: {
        refusal: () => {
          if (!isReverse) return "there is no switch yet to finalize";
          if (run.isSwitching) return "a switch is running; say it again when it is over";
          return notServing();
        },
        take: () => {
          flags.isFinalized = true;
          return "drops the way back";
        },
      },
      abort: {
        refusal: () =>
          isReverse && run.isServing() ? "after the switch there is rollback or finalize" : null,
        take: () => {
          flags.isAborted = true;
          return "undoes what was made";
        },
      },
      retryStep: {
        refusal: () => (run.view.state().parked === null ? "no step waits for a person" : null),
        take: () => {
          run.retries.count += 1;
          return "tries the step again";
        },
      },
    },
    "replicate",
  );
}
