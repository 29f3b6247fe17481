export interface UntilOptions {
  readonly timeoutMs: number;
  /** For the message when it does not come: "the copy to end". */
  readonly what: string;
  readonly intervalMs?: number;
}

/**
 * Waits for a fact that offers nothing to wait on, by asking again and again.
 * @returns the first value that is neither false, null nor undefined
 * @throws Error naming `what` after `timeoutMs`
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + options.timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== null && value !== undefined) return value;
    if (Date.now() > deadline)
      throw new Error(`waited ${options.timeoutMs} ms in vain for ${options.what}`);
    await new Promise((resolve) => setTimeout(resolve, options.intervalMs ?? 20));
  }
}
