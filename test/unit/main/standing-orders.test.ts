import { describe, expect, it } from "vitest";
import { StandingOrders } from "../../../src/main/processes/standing-orders.js";
import type { ToDataPlane } from "../../../src/proxy/channel.js";

const hold = (token: string, database: string): ToDataPlane => ({
  kind: "hold",
  token,
  databases: [database],
  openTransactions: "wait",
  clientTimeoutMs: 1,
  maxClients: 1,
  maxBytes: 1,
});
const maintenance = (isOn: boolean, database: string | null): ToDataPlane => ({
  kind: "maintenance",
  isOn,
  database,
});
const pause = (isPaused: boolean, database: string | null): ToDataPlane => ({
  kind: "pause",
  isPaused,
  user: null,
  database,
});

function told(...messages: readonly ToDataPlane[]): StandingOrders {
  const orders = new StandingOrders();
  for (const message of messages) orders.note(message);
  return orders;
}

describe("orders that a new data plane must be told", () => {
  it("forgets what was only of its moment", () => {
    const orders = told({ kind: "reconnect" }, { kind: "warm", databases: ["prod"] });
    expect(orders.inForce).toEqual([]);
  });

  it("keeps a hold until its own release", () => {
    const orders = told(hold("a", "prod"), hold("b", "other"), { kind: "release", token: "a" });
    expect(orders.inForce).toEqual([hold("b", "other")]);
  });

  it("MAINTENANCE OFF ends the operator's flags and never a switch's hold", () => {
    const orders = told(
      maintenance(true, "prod"),
      maintenance(true, null),
      hold("a", "prod"),
      maintenance(false, null),
    );
    expect(orders.inForce).toEqual([hold("a", "prod")]);
    expect(orders.maintenanceFlags).toEqual([{ database: "prod", owner: "cutover" }]);
  });

  it("ends the flag of one database alone", () => {
    const orders = told(
      maintenance(true, "prod"),
      maintenance(true, "other"),
      maintenance(false, "prod"),
      pause(true, "prod"),
      pause(true, "other"),
      pause(false, "other"),
    );
    expect(orders.inForce).toEqual([maintenance(true, "other"), pause(true, "prod")]);
  });
});
