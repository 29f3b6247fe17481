import { Socket } from "node:net";
import { logLevel } from "../config/environment.js";
import { createLog } from "../observe/log.js";
import type { DataPlaneCalls, FromDataPlane, MainCalls, ToDataPlane } from "../proxy/channel.js";
import { DataPlane } from "../proxy/data-plane.js";
import { CHILD_NUMBER, joinParent, type Parent } from "./processes/child.js";
import type { SocketMessage } from "./processes/data-plane-processes.js";
import { announcer } from "./processes/pause-points.js";

/** Entry point of one data-plane process. */
const parent: Parent<MainCalls> = joinParent<
  MainCalls,
  DataPlaneCalls,
  ToDataPlane | SocketMessage
>(
  {
    show: (what) => dataPlane.show(what),
    tablesChanged: (database) => dataPlane.tablesChanged(database),
    // It stays to refuse new clients until the parent has stopped listening and ends the channel.
    shutDown: async (timeoutMs) => await dataPlane.shutdown(timeoutMs),
  },
  (message, handle) => {
    if (message.kind !== "socket") {
      if (message.kind === "topology")
        log.setLevel(logLevel(process.env, message.config.general.logLevel));
      dataPlane.handle(message);
    }
    // Without a handle the client has gone between the two processes.
    else if (handle instanceof Socket) dataPlane.attach(handle);
  },
);
const log = createLog({ process: "data-plane", plane: CHILD_NUMBER }, logLevel(process.env));
const dataPlane = new DataPlane({
  send: (message) => parent.send(message),
  admin: async (user, sql) => await parent.ask.admin(user, sql),
  tablesChanged: async (database) => await parent.ask.tablesChanged(database),
  log,
  announce: announcer(process.env),
});

parent.send({ kind: "ready" } satisfies FromDataPlane);
