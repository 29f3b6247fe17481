import { Socket } from "node:net";
import { logLevel } from "../config/environment.js";
import { createLog } from "../observe/log.js";
import type { FromDataPlane, ToDataPlane } from "../proxy/channel.js";
import { DataPlane } from "../proxy/data-plane.js";
import type { SocketMessage } from "./processes/data-plane-processes.js";

/**
 * Entry point of one data-plane process. It lives and dies with its parent: no signal of a terminal or of a
 * service manager ends it (the parent says "shutdown" instead), and the end of the channel does, at once, so
 * that a parent that was killed leaves no orphan that would serve an old epoch.
 */
const plane = Number(process.argv[2] ?? 0);
const log = createLog({ process: "data-plane", plane }, logLevel(process.env));

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
process.once("disconnect", () => process.exit(0));
// The parent may have been killed while our modules were loading: the event was then before the listener.
if (!process.connected) process.exit(0);

const send = (message: FromDataPlane) => {
  if (process.connected) process.send?.(message);
};
const dataPlane = new DataPlane({ send, log });

process.on("message", (message: ToDataPlane | SocketMessage, handle: unknown) => {
  if (message.kind === "shutdown")
    // It stays to refuse new clients until the parent has stopped listening and ends the channel.
    void dataPlane.shutdown(message.timeoutMs).finally(() => send({ kind: "drained" }));
  else if (message.kind !== "socket") {
    if (message.kind === "topology")
      log.setLevel(logLevel(process.env, message.config.general.logLevel));
    dataPlane.handle(message);
  }
  // Without a handle the client has gone between the two processes.
  else if (handle instanceof Socket) dataPlane.attach(handle);
});

send({ kind: "listening", port: 0 });
