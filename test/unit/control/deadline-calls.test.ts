import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { TemporalUnreachable } from "../../../src/control/task-api.js";
import { silenceOf } from "../../../src/control/temporal/deadline-calls.js";
import { connectTasks } from "../../../src/control/temporal/task-client.js";
import { createLog } from "../../../src/observe/log.js";
import { freePort } from "../../support/postgres.js";

/** As gRPC's client makes them. */
const grpcError = (code: number) =>
  Object.assign(new Error(`code ${code}`), { code, details: "", metadata: {} });

describe("which errors only say that there was no answer", () => {
  it.each([
    ["the server cannot be reached", grpcError(14), "unavailable"],
    ["the deadline has passed", grpcError(4), "late"],
    ["it was cut off", grpcError(1), "late"],
    ["wrapped by the SDK", new Error("failed", { cause: grpcError(14) }), "unavailable"],
    ["wrapped by the SDK, late", new Error("failed", { cause: grpcError(4) }), "late"],
    ["the server's own refusal", grpcError(3), null],
    ["not gRPC's", Object.assign(new Error("x"), { code: 14 }), null],
    ["no error at all", "14", null],
  ])("%s", (_, error, expected) => {
    expect(silenceOf(error)).toBe(expected);
  });
});

describe("a command without Temporal", () => {
  const within = async (port: number, timeoutMs: number) => {
    const temporal = { address: `127.0.0.1:${port}`, namespace: "default" };
    const tasks = connectTasks({ temporal, timeoutMs, log: createLog({}, "silent") });
    const begun = performance.now();
    const error: unknown = await tasks.list().catch((thrown: unknown) => thrown);
    await tasks.close();
    expect(error).toBeInstanceOf(TemporalUnreachable);
    return { error, elapsedMs: performance.now() - begun };
  };

  it("is told at once where nobody listens, and why", async () => {
    const { error, elapsedMs } = await within(await freePort(), 60_000);
    expect(error).toMatchObject({ detail: expect.stringContaining("ECONNREFUSED") as string });
    expect(elapsedMs).toBeLessThan(10_000);
  });

  it("ends at its deadline where somebody listens and does not answer", async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    try {
      const address = silent.address();
      if (address === null || typeof address === "string") throw new Error("no port");
      const { elapsedMs } = await within(address.port, 300);
      expect(elapsedMs).toBeLessThan(10_000);
    } finally {
      silent.close();
      for (const socket of sockets) socket.destroy();
    }
  });
});
