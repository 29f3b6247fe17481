import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SqlClient } from "../../../src/backend/sql-client.js";
import { readIdentity } from "../../../src/resharding/control/identity.js";
import { connectEngine } from "../../../src/resharding/control/sides.js";
import { type GateMove, type GateRow, moveGate } from "../../../src/resharding/model/gate-moves.js";
import {
  DECISION_EVENTS,
  DECISION_STATES,
  type DecisionEvent,
  type DecisionState,
  nextState,
  refusalOf,
  resolverMove,
  stateOf,
} from "../../../src/resharding/model/protocol.js";
import {
  type Decision,
  markAborted,
  markCommitted,
  markPrepared,
  planDecision,
  readDecision,
  storeFinal,
  storeWitness,
} from "../../../src/resharding/switch/decision.js";
import {
  assignGate,
  readGate,
  reopenGate,
  revokeGate,
  turnGate,
} from "../../../src/resharding/switch/gate.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { markOpened, resolve } from "../../../src/resharding/switch/resolve-step.js";
import { type CopyFixture, copyFixture } from "../../support/copy-fixture.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

/** The tables of the protocol are pure; the statements that do the same on a row are held to them here. */

const EPOCH = 3;
const TOKEN = "mine";

let server: PostgresServer;
let fixture: CopyFixture;
let control: SqlClient;
let witness: SqlClient;
let row: Decision;

beforeAll(async () => {
  // Servers are killed here, machines are not: fsync would only cost time.
  server = await startPostgres({ settings: { fsync: "off" } });
  fixture = await copyFixture(server, {
    name: "protocol",
    destinations: 1,
    schema: "CREATE TABLE t (id bigint PRIMARY KEY)",
    tables: [{ name: "t" }],
  });
  await installGates(fixture.context(), fixture.ref);
  const open = async (database: string | undefined) =>
    await connectEngine(fixture.context(), server.address(database ?? ""), "test");
  control = await open(fixture.sources[0]);
  witness = await open(fixture.destinations[0]);
  row = {
    ...{ epoch: EPOCH, token: TOKEN, serving: "destination", stream: 0, capMs: 60_000 },
    ...{ openTransactions: "wait", reason: "", expiresInMs: null, timings: {} },
    ...{ state: "planned", isOpened: false },
    ...(await readIdentity(control)),
  };
});
afterAll(async () => {
  await Promise.all([control, witness].map((client) => client[Symbol.asyncDispose]()));
  await server[Symbol.asyncDispose]();
});

/** Brings the row of the control database into a state by plain SQL, and the gates to its key. */
async function put(state: DecisionState): Promise<void> {
  for (const client of [control, witness]) {
    await client.query("DELETE FROM sluice.decision");
    const isSource = client === control;
    await client.query(
      "UPDATE sluice.gate SET epoch = $1, token = $2, is_open = $3, opened_epochs = '{}'",
      [EPOCH, TOKEN, isSource],
    );
  }
  if (state === "none") return;
  expect(await planDecision(control, fixture.ref, row, 0)).toBe(true);
  const column = { expired: "prepared", opened: "committed" }[state as string] ?? state;
  await control.query(
    `UPDATE sluice.decision SET state = $1,
            expires_at = CASE WHEN $2 = 'planned' THEN NULL
                              WHEN $2 = 'expired' THEN clock_timestamp() - interval '1 s'
                              ELSE clock_timestamp() + interval '60 s' END,
            opened_at = CASE WHEN $2 = 'opened' THEN clock_timestamp() END`,
    [column, state],
  );
  expect(await now()).toBe(state);
}

const now = async (): Promise<DecisionState> =>
  stateOf(await readDecision(control, fixture.ref, EPOCH));
const key = () => ({ ref: fixture.ref, epoch: EPOCH, token: TOKEN });

/** The statement of an event. @returns what it says of itself; null: it says nothing */
const STATEMENTS: Readonly<
  Record<DecisionEvent, (state: DecisionState) => Promise<boolean | null>>
> = {
  plan: async () => await planDecision(control, fixture.ref, row, 0),
  replace: async () =>
    await planDecision(control, fixture.ref, { ...row, epoch: EPOCH + 1, token: "next" }, EPOCH),
  prepare: async () => (await markPrepared(control, key())) !== null,
  timePasses: async () => {
    await control.query(
      "UPDATE sluice.decision SET expires_at = clock_timestamp() - interval '1 s' WHERE expires_at IS NOT NULL",
    );
    return null;
  },
  commit: async () => await markCommitted(control, key()),
  open: async () => {
    await markOpened(control, { ref: fixture.ref, decision: row });
    return null;
  },
  giveUp: async () => await markAborted(control, key(), { reason: "test", when: "always" }),
  expire: async () => await markAborted(control, key(), { reason: "test", when: "expired" }),
  failoverWitnessed: async () => {
    await storeFinal(control, fixture.ref, { ...row, state: "committed" });
    return null;
  },
  // What `resolve` stores of its verdict; where the table refuses it stores nothing.
  failoverUnwitnessed: async (state) => {
    const next = nextState(state, "failoverUnwitnessed");
    if (typeof next !== "string") return null;
    const verdict = next === "aborted" ? "aborted" : "committed";
    await storeFinal(control, fixture.ref, { ...row, state: verdict });
    return null;
  },
};

const CELLS = DECISION_STATES.flatMap((state) =>
  DECISION_EVENTS.map((event) => [state, event] as const),
);

describe("the statements do what the table of the decision says", () => {
  test.each(CELLS)("%s, %s", async (state, event) => {
    await put(state);
    const said = await STATEMENTS[event](state);
    const refused = refusalOf(state, event);
    const expected = refused === null ? nextState(state, event) : state;
    expect(await now()).toBe(expected);
    const stored = await readDecision(control, fixture.ref, EPOCH);
    expect(stored?.isOpened ?? false).toBe(expected === "opened");
    if (said !== null) expect(said).toBe(refused === null);
  });

  test.each(DECISION_STATES)("%s, and nobody else's token does anything", async (state) => {
    await put(state);
    expect(await markPrepared(control, { ...key(), token: "other" })).toBeNull();
    expect(await markCommitted(control, { ...key(), token: "other" })).toBe(false);
    expect(await now()).toBe(state);
  });
});

const ENDS = {
  giveUp: "aborted",
  expire: "aborted",
  driveBack: "aborted",
  driveForward: "committed",
} as const;

describe("resolve does what the table of the resolver says", () => {
  const run = async (as: "coordinator" | "bystander") => {
    const result = await resolve(fixture.context(), { ref: fixture.ref, decision: row, as });
    return result.outcome;
  };

  test.each(
    DECISION_STATES.flatMap((state) =>
      (["coordinator", "bystander"] as const).map((role) => [state, role] as const),
    ),
  )("%s on the server that it was, by a %s", async (state, role) => {
    await put(state);
    const move = resolverMove(state, { role, isSameServer: true });
    if (move === "wait") await expect(run(role)).rejects.toThrow("is still being decided");
    else if (move === "askWitnesses") await expect(run(role)).rejects.toThrow("not on its server");
    else expect(await run(role)).toBe(ENDS[move]);
  });

  test.each(
    DECISION_STATES.flatMap((state) => [true, false].map((isWitnessed) => [state, isWitnessed])),
  )("%s on another server, a witness: %s", async (state, isWitnessed) => {
    await put(state as DecisionState);
    await turnGate(control, key(), "closed");
    await control.query("UPDATE sluice.decision SET timeline = timeline + 1");
    if (isWitnessed === true) {
      const opening = { decision: row, gateToken: TOKEN };
      expect(await storeWitness(witness, fixture.ref, opening)).toBe(true);
      await turnGate(witness, key(), "open");
    }
    const event = isWitnessed === true ? "failoverWitnessed" : "failoverUnwitnessed";
    const next = nextState(state as DecisionState, event);
    if (typeof next !== "string") {
      await expect(run("bystander")).rejects.toThrow("not on its server");
      return;
    }
    // Asking takes the keys of shut gates away: a commit goes forward with the fresh ones, at the second try.
    const outcome = await run("bystander").catch(async () => await run("bystander"));
    expect(outcome).toBe(next === "aborted" ? "aborted" : "committed");
    expect((await readGate(control, fixture.ref))?.isOpen).toBe(next === "aborted");
    expect((await readGate(witness, fixture.ref))?.isOpen).toBe(next !== "aborted");
  });
});

const MOVES: readonly GateMove[] = [1, 2, 3].flatMap((epoch) => [
  ...["a", "b"].flatMap((token): readonly GateMove[] => [
    { kind: "assign", key: { epoch, token }, opens: false },
    { kind: "assign", key: { epoch, token }, opens: true },
    { kind: "open", key: { epoch, token } },
    { kind: "close", key: { epoch, token } },
  ]),
  { kind: "reopen" as const, epoch, nextToken: "fresh" },
  { kind: "revoke" as const, epoch, nextToken: "fresh" },
]);

async function move(one: GateMove): Promise<void> {
  const { ref } = fixture;
  switch (one.kind) {
    case "assign":
      await assignGate(control, { ref, ...one.key }, one.opens ? "open" : "as it is");
      return;
    case "open":
      await turnGate(control, { ref, ...one.key }, "open");
      return;
    case "close":
      await turnGate(control, { ref, ...one.key }, "closed");
      return;
    case "reopen":
      await reopenGate(control, { ref, epoch: one.epoch, nextToken: one.nextToken });
      return;
    case "revoke":
      await revokeGate(control, { ref, epoch: one.epoch, nextToken: one.nextToken });
      return;
  }
}

describe("the statements do what the moves of the gate say", () => {
  test.each(MOVES)("R27: $kind $key.epoch $key.token $epoch $opens", async (one) => {
    for (const isOpen of [true, false])
      for (const openedEpochs of [[], [1], [2], [1, 2]]) {
        const before: GateRow = { epoch: 2, token: "a", isOpen, openedEpochs };
        await control.query(
          `UPDATE sluice.gate SET epoch = 2, token = 'a', is_open = $1, opened_epochs = $2
        RETURNING setval('sluice.gate_${fixture.ref.id}', CASE WHEN $1 THEN 1 ELSE 2 END)`,
          [isOpen, openedEpochs],
        );
        await move(one);
        const moved = moveGate(before, one) ?? before;
        expect(await readGate(control, fixture.ref), JSON.stringify(before)).toEqual({
          ...moved,
          lastValue: moved.isOpen ? 1 : 2,
        });
      }
  });
});
