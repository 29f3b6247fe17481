import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Config } from "../../../src/config/model.js";
import { parseConfig } from "../../../src/config/read-config.js";
import type { DataPlaneGroup } from "../../../src/control/node/data-plane-group.js";
import { NodeAgent } from "../../../src/control/node/node-agent.js";
import type { FromDataPlane, ToDataPlane } from "../../../src/proxy/channel.js";
import { connectEngine } from "../../../src/resharding/control/sides.js";
import type { DecisionHandle } from "../../../src/resharding/model/activities.js";
import {
  markAborted,
  markCommitted,
  markPrepared,
  planDecision,
  readDecision,
} from "../../../src/resharding/switch/decision.js";
import { readGate, turnGate } from "../../../src/resharding/switch/gate.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { listNodes } from "../../../src/resharding/switch/nodes.js";
import { prepareDecision } from "../../../src/resharding/switch/prepare-decision-step.js";
import { resolve } from "../../../src/resharding/switch/resolve-step.js";
import { type CopyFixture, copyFixture, silentLog } from "../../support/copy-fixture.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;
let fixture: CopyFixture;
let round = 0;
const agents: NodeAgent[] = [];

beforeAll(async () => {
  // Servers are killed here, machines are not: fsync would only cost time.
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  round += 1;
  fixture = await copyFixture(server, {
    name: `agent${round}`,
    schema: "CREATE TABLE t (id bigint PRIMARY KEY, v int)",
    tables: [{ name: "t" }],
  });
  await installGates(fixture.context(), fixture.ref);
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.close()));
});

/** Data planes that write down what they are told and answer a hold when the test says so. */
class Planes implements DataPlaneGroup {
  readonly planes = [0];
  readonly told: ToDataPlane[] = [];
  answersHolds = true;
  #listeners = new Set<Parameters<DataPlaneGroup["subscribe"]>[0]>();

  broadcast(message: ToDataPlane): void {
    this.told.push(message);
    if (message.kind === "hold" && this.answersHolds)
      this.say({ kind: "held", token: message.token });
  }
  sendTo(_plane: number, message: ToDataPlane): void {
    this.told.push(message);
  }
  subscribe(listener: Parameters<DataPlaneGroup["subscribe"]>[0]): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  say(message: FromDataPlane): void {
    queueMicrotask(() => {
      for (const listener of this.#listeners) listener.message(0, message);
    });
  }
  count(kind: ToDataPlane["kind"]): number {
    return this.told.filter((message) => message.kind === kind).length;
  }
}

function files(names: { prod: readonly string[]; sharded: readonly string[] }): Config {
  const entry = (name: string, database: string, shard: number) =>
    `[[databases]]\nname = "${name}"\nhost = "127.0.0.1"\nport = ${server.port}\n` +
    `database_name = "${database}"\nshard = ${shard}\nuser = "postgres"\n`;
  const pgdog = [
    ...names.prod.map((database, shard) => entry("prod", database, shard)),
    ...names.sharded.map((database, shard) => entry("prod_sharded", database, shard)),
    // As a saved file names them: by which of the two has the shards.
    `[[sharded_tables]]\ndatabase = "${names.prod.length > 1 ? "prod" : "prod_sharded"}"\ncolumn = "id"\n`,
  ].join("\n");
  const users = ["prod", "prod_sharded"]
    .map(
      (database) =>
        `[[users]]\nname = "app"\ndatabase = "${database}"\npassword = "p"\n` +
        'server_user = "postgres"\nschema_admin = true\n',
    )
    .join("\n");
  return parseConfig({ pgdog, users });
}

const asAtFirst = () => files({ prod: fixture.sources, sharded: fixture.destinations });

async function startAgent(config: Config): Promise<{ agent: NodeAgent; planes: Planes }> {
  const planes = new Planes();
  const agent = new NodeAgent({
    files: config,
    planes,
    log: silentLog,
    nodeId: "n1",
    incarnation: "i1",
    address: "127.0.0.1:6432",
    paths: null,
  });
  agents.push(agent);
  await agent.boot();
  return { agent, planes };
}

const shardsOf = (agent: NodeAgent, name: string): string[] =>
  agent.effectiveConfig.config.databases
    .filter((database) => database.name === name)
    .map((database) => database.databaseName);

const prepare = async (capMs = 10_000) =>
  await prepareDecision(fixture.context(), {
    ref: fixture.ref,
    stream: 0,
    serving: "destination",
    capMs,
  });
const source = async () =>
  await connectEngine(fixture.context(), server.address(fixture.sources[0] ?? ""), "test");
const keyOf = (handle: DecisionHandle) => ({ ...handle, ref: fixture.ref });

async function commit(handle: DecisionHandle): Promise<void> {
  await using control = await source();
  await turnGate(control, keyOf(handle), "closed");
  expect(await markCommitted(control, keyOf(handle))).toBe(true);
}

async function switchOver(): Promise<DecisionHandle> {
  const handle = await prepare();
  await using control = await source();
  await markPrepared(control, keyOf(handle));
  await commit(handle);
  await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
  return handle;
}

describe("the node's agent", () => {
  test("R32: a node that boots with the old files serves the new side, before any client", async () => {
    await switchOver();
    const { agent, planes } = await startAgent(asAtFirst());
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    expect(shardsOf(agent, "prod_sharded")).toEqual(fixture.sources);
    expect(agent.effectiveConfig.epochs).toMatchObject({ prod: 1, prod_sharded: 1 });
    const [first] = planes.told;
    expect(first).toMatchObject({ kind: "topology", epochs: { prod: 1 } });
  });

  test("R32: files saved after the cutover mean the same, and a reload of either keeps the epoch", async () => {
    await switchOver();
    const saved = files({ prod: fixture.destinations, sharded: fixture.sources });
    const { agent } = await startAgent(saved);
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    await agent.reload(asAtFirst());
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    await agent.reload(saved);
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    expect(agent.effectiveConfig.epochs).toMatchObject({ prod: 1 });
  });

  test("R32: the old side may be gone: a node that starts with the old files serves the new one", async () => {
    await switchOver();
    const before = asAtFirst();
    const port = await freePort();
    const gone = before.databases.map((one) => (one.name === "prod" ? { ...one, port } : one));
    const { agent, planes } = await startAgent({ ...before, databases: gone });
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    expect(planes.told[0]).toMatchObject({ kind: "topology", epochs: { prod: 1 } });
  });

  test("a reload of files that contradict the decision is refused and changes nothing", async () => {
    await switchOver();
    await server.createDatabase(`agent${round}_elsewhere`);
    const { agent } = await startAgent(asAtFirst());
    const wrong = files({ prod: fixture.sources, sharded: [`agent${round}_elsewhere`] });
    await expect(agent.reload(wrong)).rejects.toMatchObject({
      code: "SLUICE_CONFIG_CONTRADICTS_DECISION",
    });
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
  });

  test("holds both names, answers by a row, adopts, and only then lets the clients go on", async () => {
    const { agent, planes } = await startAgent(asAtFirst());
    await until(async () => (await listNodes(fixture.context(), fixture.ref)).length === 1, {
      timeoutMs: 5_000,
      what: "the node to report itself",
    });
    const handle = await prepare();
    await agent.arm({ ref: fixture.ref, epoch: handle.epoch, token: handle.token, forMs: 10_000 });
    expect(planes.told.at(-1)).toMatchObject({ kind: "warm", databases: ["prod", "prod_sharded"] });
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    const held = () =>
      control.query("SELECT node_id, token FROM sluice.hold WHERE migration = $1", [
        fixture.ref.id,
      ]);
    await until(async () => (await held()).rowCount === 1, {
      timeoutMs: 5_000,
      what: "the answer",
    });
    expect((await held()).rows).toEqual([{ node_id: "n1", token: handle.token }]);
    expect(planes.told.find((message) => message.kind === "hold")).toMatchObject({
      databases: ["prod", "prod_sharded"],
    });
    expect(planes.count("release")).toBe(0);
    await commit(handle);
    await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
    await until(() => planes.count("release") === 1, { timeoutMs: 5_000, what: "the release" });
    const kinds = planes.told.map((message) => message.kind);
    expect(kinds.lastIndexOf("topology")).toBeLessThan(kinds.lastIndexOf("release"));
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
  });

  test("R29: an expired decision is aborted by the node, its gate opened, then the clients go on", async () => {
    const { planes } = await startAgent(asAtFirst());
    const handle = await prepare(300);
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await turnGate(control, keyOf(handle), "closed");
    await until(() => planes.count("release") === 1, { timeoutMs: 10_000, what: "the release" });
    expect((await readGate(control, fixture.ref))?.lastValue).toBe(1);
    const rows = await control.query("SELECT state FROM sluice.decision WHERE epoch = $1", [
      handle.epoch,
    ]);
    expect(rows.rows).toEqual([{ state: "aborted" }]);
  });

  test("goes forward alone when the coordinator dies right after the decision", async () => {
    const { agent } = await startAgent(asAtFirst());
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await commit(handle);
    await until(() => agent.effectiveConfig.epochs.prod === 1, {
      timeoutMs: 10_000,
      what: "the adoption",
    });
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
    await server.sql(fixture.destinations[0] ?? "", "INSERT INTO t VALUES (1, 1)");
  });

  test("R29: a node that boots during the hold starts in it", async () => {
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    const { planes } = await startAgent(asAtFirst());
    expect(planes.told.map((message) => message.kind)).toEqual(["topology", "hold"]);
    await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
    await until(() => planes.count("release") === 1, { timeoutMs: 5_000, what: "the release" });
  });

  test("R32: a node that boots between the decision and the gates waits in the hold, under the old names", async () => {
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await commit(handle);
    const { agent, planes } = await startAgent(asAtFirst());
    expect(planes.told.map((message) => message.kind)).toEqual(["topology", "hold"]);
    expect(planes.told[0]).toMatchObject({ epochs: {} });
    await until(() => planes.count("release") === 1, { timeoutMs: 10_000, what: "the release" });
    expect(shardsOf(agent, "prod")).toEqual(fixture.destinations);
  });

  test("a hold whose attempt was aborted ends, also when the node sees the next attempt first", async () => {
    const { planes } = await startAgent(asAtFirst());
    const first = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(first));
    await until(() => planes.count("hold") === 1, { timeoutMs: 5_000, what: "the hold" });
    const stored = await readDecision(control, fixture.ref, first.epoch);
    if (!stored) throw new Error("no decision");
    // In one transaction, so that no look falls between the two.
    await control.query("BEGIN");
    await markAborted(control, keyOf(first), { reason: "test", when: "always" });
    const next = { ...stored, epoch: first.epoch + 1, token: "next" };
    await planDecision(control, fixture.ref, next, 0);
    await until(() => planes.count("release") === 1, { timeoutMs: 5_000, what: "the release" });
    expect(planes.told.at(-1)).toEqual({ kind: "release", token: first.token });
  });

  test("a second migration between the same databases counts its epochs anew; the node adopts them", async () => {
    await switchOver();
    await server.sql(
      fixture.sources[0] ?? "",
      "UPDATE sluice.migration SET state = 'finalized'; DELETE FROM sluice.moving_table",
    );
    const { agent, planes } = await startAgent(asAtFirst());
    expect(agent.effectiveConfig.epochs).toMatchObject({ prod: 1 });
    // The way round: what serves now is the source of the next one, under the same names.
    const next = { ...fixture.ref, id: `${fixture.ref.id.slice(0, -1)}f` };
    const sides = { source: fixture.destinations, destination: fixture.sources };
    for (const side of ["source", "destination"] as const) {
      for (const [shard, database] of sides[side].entries()) {
        await server.sql(
          database,
          `INSERT INTO sluice.migration (id, source, destination, publication, side, shard, spec)
           VALUES ('${next.id}', 'prod', 'prod_sharded', 'all', '${side}', ${shard}, '${JSON.stringify(fixture.spec)}')`,
        );
      }
    }
    const cluster = (name: string) => ({
      ...fixture.context().cluster(name),
      shards: sides[name === "prod" ? "source" : "destination"].map((one) => server.address(one)),
    });
    const context = fixture.context({ cluster });
    await installGates(context, next);
    const input = { ref: next, stream: 0, serving: "destination", capMs: 10_000 } as const;
    const handle = await prepareDecision(context, input);
    expect(handle.epoch).toBe(1);
    await using control = await connectEngine(
      context,
      server.address(fixture.destinations[0] ?? ""),
      "test",
    );
    await markPrepared(control, { ...handle, ref: next });
    await until(() => planes.count("hold") === 1, { timeoutMs: 5_000, what: "the hold" });
    expect(await markCommitted(control, { ...handle, ref: next })).toBe(true);
    await resolve(context, { ref: next, decision: handle, as: "coordinator" });
    await until(() => planes.count("release") === 1, { timeoutMs: 5_000, what: "the release" });
    expect(shardsOf(agent, "prod")).toEqual(fixture.sources);
    expect(agent.effectiveConfig).toMatchObject({ epochs: { prod: 2 }, adopted: { [next.id]: 1 } });
  });

  test("an overflowing hold undoes the switch at once", async () => {
    const { planes } = await startAgent(asAtFirst());
    planes.answersHolds = false;
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await until(() => planes.count("hold") === 1, { timeoutMs: 5_000, what: "the hold" });
    planes.say({ kind: "holdOverflow", token: handle.token, reason: "10001 clients wait" });
    await until(() => planes.count("release") === 1, { timeoutMs: 5_000, what: "the release" });
    const rows = await control.query("SELECT state, reason FROM sluice.decision");
    expect(rows.rows).toEqual([{ state: "aborted", reason: "10001 clients wait" }]);
  });

  test("a statement that a gate refused is answered with the new epoch", async () => {
    const { agent, planes } = await startAgent(asAtFirst());
    await switchOver();
    planes.say({ kind: "stale", database: "prod", epoch: 0 });
    await until(() => planes.count("refreshed") === 1, { timeoutMs: 5_000, what: "the answer" });
    expect(agent.effectiveConfig.epochs).toMatchObject({ prod: 1 });
  });

  test("SHOW CUTOVER and RESOLVE CUTOVER work on what the servers say", async () => {
    const handle = await switchOver();
    const { agent } = await startAgent(asAtFirst());
    expect(await agent.showCutover()).toMatchObject([
      { database: "prod", epoch: handle.epoch, state: "committed", serving: "destination" },
    ]);
    expect(await agent.resolveCutover("prod")).toEqual([
      "epoch 1: committed, the destination side serves",
    ]);
  });
});
