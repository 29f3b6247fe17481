import { type CallMessage, type Calls, openCalls } from "./calls.js";

/** What a child process has of its parent. */
export interface Parent<Remote extends object> {
  readonly ask: Calls<Remote>["ask"];
  /** Messages that are no calls. */
  send(message: object): void;
}

/** Which of its kind this process is: the argument that it was started with. */
export const CHILD_NUMBER = Number(process.argv[2] ?? 0);

/**
 * The frame of every child process. It lives and dies with its parent: no signal of a terminal or of a
 * service manager ends it (the parent asks it to), and the end of the channel does, at once, so that a parent
 * that was killed leaves no orphan that would serve an old epoch.
 * @param local what the parent may ask
 * @param onMessage hears every message that is no call
 */
export function joinParent<Remote extends object, Local extends object, Message extends object>(
  local: Local,
  onMessage: (message: Message, handle: unknown) => void,
): Parent<Remote> {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  process.once("disconnect", () => process.exit(0));
  // The parent may have been killed while our modules were loading: the event was then before the listener.
  if (!process.connected) process.exit(0);
  const send = (message: object) => {
    if (process.connected) process.send?.(message, () => {});
  };
  const calls = openCalls<Remote, Local>(local, send);
  process.on("message", (message: Message | CallMessage, handle: unknown) => {
    if (isCall(message)) calls.take(message);
    else onMessage(message, handle);
  });
  return { ask: calls.ask, send };
}

function isCall(message: object): message is CallMessage {
  return "kind" in message && message.kind === "call";
}
