import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { DataPlaneGroup } from "../../../src/control/node/data-plane-group.js";
import { NodeAgent } from "../../../src/control/node/node-agent.js";
import { upgradeControlSchema } from "../../../src/resharding/control/control-schema.js";
import { connectEngine } from "../../../src/resharding/control/sides.js";
import { markAborted, markPrepared } from "../../../src/resharding/switch/decision.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { listNodes } from "../../../src/resharding/switch/nodes.js";
import { prepareDecision } from "../../../src/resharding/switch/prepare-decision-step.js";
import { switchTraffic } from "../../../src/resharding/switch/switch-step.js";
import { type CopyFixture, copyFixture, silentLog } from "../../support/copy-fixture.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "../proxy/support.js";

/** The whole way: a client of a data plane, the node's agent, the control database, the coordinator. */
let server: PostgresServer;
let fixture: CopyFixture;
let proxy: TestProxy;
let agent: NodeAgent;
let round = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  round += 1;
  fixture = await copyFixture(server, {
    name: `wait${round}`,
    schema: "CREATE TABLE t (id bigint PRIMARY KEY, v int)",
    tables: [{ name: "t" }],
  });
  await installGates(fixture.context(), fixture.ref);
  const shards = (names: readonly string[]) => names.map((database) => ({ server, database }));
  const files = testConfig({
    databases: [
      { name: "prod", shards: shards(fixture.sources) },
      { name: "prod_sharded", shards: shards(fixture.destinations) },
    ],
  });
  proxy = await startProxy(files);
  agent = new NodeAgent({
    files,
    planes: groupOf(proxy),
    log: silentLog,
    nodeId: "n1",
    incarnation: "i1",
    address: "127.0.0.1:6432",
    paths: null,
  });
  await agent.boot();
  return async () => {
    await agent.close();
    await proxy[Symbol.asyncDispose]();
  };
});

/** One data plane, in this process. */
function groupOf(plane: TestProxy): DataPlaneGroup {
  return {
    planes: [0],
    broadcast: (message) => plane.tell(message),
    sendTo: (_, message) => plane.tell(message),
    subscribe: (listener) => {
      const before = plane.onMessage;
      plane.onMessage = (message) => {
        before(message);
        // As over IPC: never within the call that it answers.
        queueMicrotask(() => listener.message(0, message));
      };
      return () => {
        plane.onMessage = before;
      };
    },
  };
}

async function openTransaction(): Promise<{ pid: number; commit(): Promise<void> }> {
  const client = await proxy.client("prod", { application_name: "billing" });
  await client.query("BEGIN");
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return {
    pid: rows[0]?.pid ?? 0,
    commit: async () => {
      await client.query("COMMIT");
    },
  };
}

/** A client that comes while the hold is in force. @returns its answer, in an object so that it is not awaited */
async function comeLate(): Promise<{ readonly answer: Promise<unknown> }> {
  await until(() => proxy.messages.some(({ kind }) => kind === "holding"), {
    timeoutMs: 5_000,
    what: "the data plane to say that it waits",
  });
  const client = await proxy.client("prod");
  return { answer: client.query("SELECT 1") };
}

const waiting = async () => (await agent.showCutover())[0]?.waiting ?? null;
const prepare = async (capMs: number) =>
  await prepareDecision(fixture.context(), {
    ref: fixture.ref,
    stream: 0,
    serving: "destination",
    capMs,
  });

describe("why a switch waits", () => {
  test("is said in SHOW CUTOVER, in the heartbeat and in the reason, and is gone with the attempt", async () => {
    const { ref } = fixture;
    const { pid } = await openTransaction();
    const nodes = await until(
      async () => {
        const found = await listNodes(fixture.context(), ref);
        return found.length === 1 ? found : null;
      },
      { timeoutMs: 5_000, what: "the node to report itself" },
    );
    const beats: unknown[] = [];
    const context = fixture.context({ heartbeat: (progress) => void beats.push(progress) });
    const decision = await prepare(4_000);
    const switching = switchTraffic(context, { ref, decision, nodes });
    const late = await comeLate();
    const words = `1 client waits; open transaction of pid ${pid}, application "billing", `;
    const seen = await until(
      async () => {
        const said = await waiting();
        return said?.includes("1 client waits") && said;
      },
      { timeoutMs: 4_000, what: "SHOW CUTOVER to say why" },
    );
    expect(seen).toContain(`n1: ${words}`);
    expect(seen).toMatch(/ [0-9]+\.[0-9] s$/);
    const { outcome, reason } = await switching;
    expect(outcome).toBe("undone");
    expect(reason).toContain(
      `nodes did not come to rest within the pause: n1 (127.0.0.1:6432): ${words}`,
    );
    expect(beats).toContainEqual({
      ...{ step: "pause", waitingNodes: 1 },
      waitingFor: expect.stringContaining(words) as string,
    });
    await late.answer;
    const [row] = await agent.showCutover();
    expect(row).toMatchObject({ state: "aborted", reason, waiting: null });
  });

  test("is not said any more once the node has answered, while the hold goes on", async () => {
    const open = await openTransaction();
    const decision = await prepare(20_000);
    const key = { ref: fixture.ref, ...decision };
    const address = server.address(fixture.sources[0] ?? "");
    await using control = await connectEngine(fixture.context(), address, "test");
    await markPrepared(control, key);
    await until(async () => (await waiting())?.includes(`pid ${open.pid}`), {
      timeoutMs: 5_000,
      what: "SHOW CUTOVER to say why",
    });
    await open.commit();
    await until(async () => (await control.query("SELECT FROM sluice.hold")).rowCount === 1, {
      timeoutMs: 5_000,
      what: "the answer",
    });
    expect((await agent.showCutover())[0]).toMatchObject({ state: "prepared", waiting: null });
    await markAborted(control, key, { reason: "test", when: "always" });
  });

  test("a schema without the table, of a migration that began before, costs only the words", async () => {
    await server.sql(fixture.sources[0] ?? "", "DROP TABLE sluice.hold_wait");
    const open = await openTransaction();
    const nodes = [{ nodeId: "n1", incarnation: "i1", address: "here", epoch: 0, configHash: "" }];
    const decision = await prepare(1_500);
    const { reason } = await switchTraffic(fixture.context(), {
      ref: fixture.ref,
      decision,
      nodes,
    });
    expect(reason).toMatch(/within the pause: n1 \(here\)$/);
    expect(await waiting()).toBeNull();
    await open.commit();
    const address = server.address(fixture.sources[0] ?? "");
    await using control = await connectEngine(fixture.context(), address, "test");
    await upgradeControlSchema(control);
    expect((await control.query("SELECT FROM sluice.hold_wait")).rowCount).toBe(0);
  });
});
