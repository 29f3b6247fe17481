/** A broken invariant of ours: a bug. It ends the connection or the step that met it. */
export class InvariantBroken extends Error {
  override readonly name = "InvariantBroken";
}

/** @throws InvariantBroken unless `condition` holds */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantBroken(message);
}

/** A new member of a union fails to compile where this is called. */
export function assertNever(value: never, what: string): never {
  throw new InvariantBroken(`unexpected ${what}: ${JSON.stringify(value)}`);
}
