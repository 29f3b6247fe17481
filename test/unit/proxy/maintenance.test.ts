import { describe, expect, it } from "vitest";
import { Maintenance } from "../../../src/proxy/hold/maintenance.js";

const NAMES = ["prod", "other"];
const NOTHING = { hold: [], release: [] };

function maintenanceWith(...flags: readonly (readonly [boolean, string | null])[]): Maintenance {
  const maintenance = new Maintenance();
  for (const [isOn, database] of flags) {
    maintenance.set(isOn, database);
    maintenance.reconcile(NAMES);
  }
  return maintenance;
}

describe("MAINTENANCE", () => {
  it("holds one database, or all of them, until its OFF", () => {
    const maintenance = maintenanceWith();
    maintenance.set(true, "prod");
    expect(maintenance.reconcile(NAMES)).toEqual({ hold: ["prod"], release: [] });
    maintenance.set(true, null);
    expect(maintenance.reconcile(NAMES)).toEqual({ hold: ["other"], release: [] });
    maintenance.set(false, null);
    expect(maintenance.reconcile(NAMES)).toEqual({ hold: [], release: NAMES });
  });

  it("keeps a database held by the general flag when its own is taken down", () => {
    const maintenance = maintenanceWith([true, "prod"], [true, null]);
    maintenance.set(false, "prod");
    expect(maintenance.reconcile(NAMES)).toEqual(NOTHING);
  });

  it("does nothing twice", () => {
    const maintenance = maintenanceWith([true, null], [true, null]);
    expect(maintenance.reconcile(NAMES)).toEqual(NOTHING);
  });

  it("holds a database that a reload brings, and lets go of one that nobody serves any more", () => {
    const maintenance = maintenanceWith([true, null]);
    expect(maintenance.reconcile([...NAMES, "new"])).toEqual({ hold: ["new"], release: [] });
    expect(maintenance.reconcile(NAMES)).toEqual({ hold: [], release: ["new"] });
  });

  it("is remembered for a database that is not there yet", () => {
    const maintenance = maintenanceWith([true, "nowhere"]);
    expect(maintenance.reconcile([...NAMES, "nowhere"])).toEqual(NOTHING);
    maintenance.set(false, null);
    expect(maintenance.reconcile(NAMES)).toEqual({ hold: [], release: ["nowhere"] });
  });
});
