import { CancellationScope, isCancellation } from "@temporalio/workflow";

/** Work beside the main line. `stop` cancels it and returns when it has really ended. */
export interface Background {
  stop(): Promise<void>;
  /** What it failed with, if not by `stop`; the main line must look. */
  readonly failure: () => { readonly error: unknown } | null;
}

export function inBackground(work: () => Promise<unknown>): Background {
  const scope = new CancellationScope();
  let failure: { readonly error: unknown } | null = null;
  const done = scope.run(work).catch((error: unknown) => {
    if (!isCancellation(error)) failure = { error };
  });
  return {
    stop: async () => {
      scope.cancel();
      await done;
    },
    failure: () => failure,
  };
}

/**
 * Runs all side by side and returns when *all* have ended. The first failure cancels the others and is
 * thrown after they have stopped: `Promise.all` would let an undo run beside work that it undoes.
 */
export async function together(works: readonly (() => Promise<unknown>)[]): Promise<void> {
  const scope = new CancellationScope();
  const failures: unknown[] = [];
  await Promise.all(
    works.map((work) =>
      scope.run(work).catch((error: unknown) => {
        failures.push(error);
        scope.cancel();
      }),
    ),
  );
  if (failures.length > 0) throw failures.find((error) => !isCancellation(error)) ?? failures[0];
}
