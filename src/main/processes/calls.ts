import { type BirpcReturn, createBirpc } from "birpc";

/** A question or an answer on its way; shares the channel with messages of other kinds. */
export interface CallMessage {
  readonly kind: "call";
  readonly call: unknown;
}

/** One end of the questions and answers between the main process and one child. */
export interface Calls<Remote extends object> {
  /** The other end's functions. A call is rejected with the message alone of what was thrown there. */
  readonly ask: BirpcReturn<Remote, object>;
  /** To be called with every message of this kind that arrives. */
  take(message: CallMessage): void;
  /** The other end is gone: rejects what it has not answered. */
  close(): void;
}

/**
 * Typed calls over Node's IPC, both ways. There is no time limit of its own: nobody waits for a process that
 * has ended, and who will not wait for a slow one races the answer.
 * @param local what the other end may ask of this one
 * @param send must not throw
 */
export function openCalls<Remote extends object, Local extends object>(
  local: Local,
  send: (message: CallMessage) => void,
): Calls<Remote> {
  let take: (call: unknown) => unknown = () => {};
  const ask = createBirpc<Remote, Local>(local, {
    bind: "functions",
    timeout: -1,
    // Nothing to wait for: what it returned would be waited for before the answer, even past `close`.
    post: (call: unknown) => {
      send({ kind: "call", call });
    },
    on: (listener) => {
      take = listener;
    },
    serialize: (call: object) => ("e" in call ? { ...call, e: messageOf(call.e) } : call),
    deserialize: (call: object) => ("e" in call ? { ...call, e: new Error(String(call.e)) } : call),
  });
  return { ask, take: ({ call }) => void take(call), close: () => ask.$close() };
}

/** JSON, in which the channel speaks, keeps nothing of an Error. */
function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
