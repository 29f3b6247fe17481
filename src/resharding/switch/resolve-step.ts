import { randomBytes } from "node:crypto";
import type { SqlClient } from "../../backend/sql-client.js";
import { NotReady } from "../../core/errors.js";
import type { ServerIdentity } from "../../replication/walsender.js";
import type { EngineContext } from "../context.js";
import { readIdentity, sameServer } from "../control/identity.js";
import {
  ENGINE_APPLICATION_PREFIX,
  openSides,
  type SessionUse,
  type Sides,
} from "../control/sides.js";
import type { DecisionHandle, ResolveResult } from "../model/activities.js";
import { type MigrationRef, otherSide, type Side } from "../model/migration.js";
import {
  isFinal,
  nextState,
  type ResolverRole,
  refusalOf,
  resolverMove,
  stateOf,
} from "../model/protocol.js";
import { controlSession } from "./board.js";
import {
  type Decision,
  DecisionLost,
  hintDecision,
  markAborted,
  readDecision,
  storeFinal,
  storeWitness,
} from "./decision.js";
import { readGate, reopenGate, revokeGate, turnGate } from "./gate.js";

export interface ResolveInput {
  readonly ref: MigrationRef;
  readonly decision: Pick<DecisionHandle, "epoch" | "serving" | "stream">;
  /** What each may do is in `RESOLVER`. */
  readonly as: ResolverRole;
}

const RESOLVE: SessionUse = { purpose: "resolve" };
const WITNESS: SessionUse = { purpose: "witness", lockTimeoutMs: 500 };

type FinalDecision = Decision & { readonly state: "committed" | "aborted" };

/**
 * Makes a decision final and drives the gates to what it says (step 10). Believed by the workflow, and run
 * by any node without Temporal.
 * Second run, or any number beside each other: each statement is conditional on the state, or on the key of
 * the gate; all of them write the same.
 * @throws NotReady when it is not ours to end: we are a bystander, and it has not expired
 * @throws ServerUnreachable, DecisionLost: unknown still; call again, for ever (R43)
 */
export async function resolve(context: EngineContext, input: ResolveInput): Promise<ResolveResult> {
  await using sides = await openSides(context, input.ref);
  return await resolveOn(context, sides, input);
}

/** `resolve` within an activity that has the sides open. */
export async function resolveOn(
  context: EngineContext,
  sides: Sides,
  input: ResolveInput,
): Promise<ResolveResult> {
  // Read before the decision: a gate whose token is rotated after this is not opened.
  const tokens = await readTokens(sides, input);
  const decision = await settle(sides, input);
  const move = resolverMove(stateOf(decision), { role: input.as, isSameServer: true });
  if (move === "driveForward") {
    await driveForward(sides, { ref: input.ref, decision, tokens });
  } else {
    await driveBack(sides, { ref: input.ref, decision });
  }
  await context.announce("cutover.afterResolve");
  return {
    outcome: decision.state,
    reason: decision.reason,
    serving: decision.state === "committed" ? decision.serving : otherSide(decision.serving),
    steps: decision.timings.steps ?? null,
    pauseMs: decision.timings.pauseMs ?? null,
  };
}

/** Tokens of the gates that a commit would open, by shard; null where a shard is silent or has no gate. */
async function readTokens(sides: Sides, input: ResolveInput): Promise<readonly (string | null)[]> {
  const { serving } = input.decision;
  return await Promise.all(
    sides[serving].shards.map(async (_, shard) => {
      try {
        const client = await sides.session(serving, shard, RESOLVE);
        const gate = await readGate(client, input.ref);
        return gate?.epoch === input.decision.epoch ? gate.token : null;
      } catch {
        // An abort needs no other server (R30); a commit will ask again and say who is silent.
        return null;
      }
    }),
  );
}

/** Reads the decision and makes it final. */
async function settle(sides: Sides, input: ResolveInput): Promise<FinalDecision> {
  const control = await controlSession(sides, input.decision.serving);
  const key = { ref: input.ref, epoch: input.decision.epoch };
  const stored = await readDecision(control, input.ref, key.epoch);
  const identity = await readIdentity(control);
  // Of no row it does not matter: the table asks the witnesses either way.
  const isSameServer = stored !== null && sameServer(identity, stored);
  const move = resolverMove(stateOf(stored), { role: input.as, isSameServer });
  if (move === "askWitnesses") {
    return await askWitnesses(sides, { ...input, control, stored, identity });
  }
  if (move === "giveUp" || move === "expire") await markAborted(control, key, ENDINGS[move]);
  // Read again: between an abort and a commit one has won, and only the row knows which.
  const final = isFinal(stored) ? stored : await readDecision(control, input.ref, key.epoch);
  if (isFinal(final)) return final;
  // Null: it expired between the two statements; the next try ends it.
  const why = refusalOf(stateOf(final), "expire") ?? "has only just expired";
  throw new NotReady(`epoch ${key.epoch} ${why}`, { hint: "It expires by itself; try again." });
}

/** How each event of the table that aborts is written. */
const ENDINGS = {
  giveUp: { reason: "the coordinator gave up", when: "always" },
  expire: { reason: "expired", when: "expired" },
} as const;

/**
 * R30: the control server is not the one that the decision was made on (restored, failed over), so its row
 * proves nothing. A shard that will serve opens its gate only after the commit, and remembers it. First every
 * such shard gets a fresh token while its gate is closed, so that no late opener can open it after we have
 * looked; then we look.
 * @throws ServerUnreachable while one of them does not answer: it may be the one that knows
 */
async function askWitnesses(
  sides: Sides,
  input: ResolveInput & {
    readonly control: SqlClient;
    readonly stored: Decision | null;
    readonly identity: ServerIdentity;
  },
): Promise<FinalDecision> {
  const { ref, decision, stored } = input;
  let committed: Decision | null = null;
  for (const shard of sides[decision.serving].shards.keys()) {
    const witness = await sides.session(decision.serving, shard, WITNESS);
    await revokeGate(witness, { ref, epoch: decision.epoch, nextToken: freshToken() });
    const said = await readDecision(witness, ref, decision.epoch);
    if (said?.state === "committed") committed = said;
  }
  // Without a witness nobody has opened anything, and nobody can any more.
  const next = nextState(stateOf(stored), committed ? "failoverWitnessed" : "failoverUnwitnessed");
  const known = committed ?? stored;
  if (typeof next !== "string" || !known) throw new DecisionLost(decision.epoch);
  const state = next === "aborted" ? "aborted" : "committed";
  // From here on this server's row decides again.
  const reason = "the control database failed over";
  const final: FinalDecision = { ...known, ...input.identity, state, reason };
  await storeFinal(input.control, ref, final);
  return final;
}

interface Driven {
  readonly ref: MigrationRef;
  readonly decision: FinalDecision;
}

/** Committed: only forward. New gates open, every shard knows, strays on the old side are ended. */
async function driveForward(
  sides: Sides,
  input: Driven & { readonly tokens: readonly (string | null)[] },
): Promise<void> {
  const { ref, decision, tokens } = input;
  const to = sides[decision.serving].shards;
  for (const shard of to.keys()) {
    const client = await sides.session(decision.serving, shard, RESOLVE);
    const opening = { ref, decision, gateToken: tokens[shard] ?? decision.token };
    if (!(await openServingGate(client, opening)) && (await isBehind(client, input))) {
      throw new NotReady(`the gate of shard ${shard} got a fresh token meanwhile; resolve again`);
    }
  }
  const movedTo = to.map((shard) => `${shard.host}:${shard.port}/${shard.database}`).join(", ");
  const left = otherSide(decision.serving);
  for (const shard of sides[left].shards.keys()) {
    const old = await sides.session(left, shard, RESOLVE);
    await storeFinal(old, ref, decision);
    await markOpened(old, { ref, decision });
    await old.query(
      "UPDATE sluice.gate SET moved_to = $3 WHERE migration = $1 AND epoch = $2 AND NOT is_open",
      [ref.id, decision.epoch, movedTo],
    );
    await hintDecision(old, ref);
    await endStraySessions(old, { ref, decision });
  }
}

/** False when the gate belongs to a later epoch: then a later switch has gone on from here already. */
async function isBehind(client: SqlClient, input: Driven): Promise<boolean> {
  const gate = await readGate(client, input.ref);
  return gate === null || gate.epoch <= input.decision.epoch;
}

/**
 * Opens the gate of one shard that serves now, witness first.
 * @returns false when the gate's token is another one: nothing happened
 */
export async function openServingGate(
  client: SqlClient,
  input: {
    readonly ref: MigrationRef;
    readonly decision: Decision;
    readonly gateToken: string;
  },
): Promise<boolean> {
  const { ref, decision, gateToken } = input;
  if (!(await storeWitness(client, ref, { decision, gateToken }))) return false;
  const key = { ref, epoch: decision.epoch, token: gateToken };
  if (!(await turnGate(client, key, "open"))) return false;
  await client.query("UPDATE sluice.gate SET moved_to = '' WHERE migration = $1 AND epoch = $2", [
    ref.id,
    decision.epoch,
  ]);
  await markOpened(client, { ref, decision });
  await hintDecision(client, ref);
  return true;
}

/** Nodes let their clients go on when they see this. */
export async function markOpened(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly decision: Pick<Decision, "epoch"> },
): Promise<void> {
  await client.query(
    `UPDATE sluice.decision SET opened_at = coalesce(opened_at, clock_timestamp())
      WHERE migration = $1 AND epoch = $2 AND state = 'committed'`,
    [input.ref.id, input.decision.epoch],
  );
}

/**
 * Step 9: after the decision no session may read the old side (R38). Only where the gate is closed in this
 * very epoch (R27: a later attempt takes the gate over), so a late run after a rollback ends nobody.
 */
async function endStraySessions(client: SqlClient, input: Driven): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(a.pid)
       FROM pg_stat_activity a, sluice.gate g
      WHERE g.migration = $1 AND g.epoch = $2 AND NOT g.is_open
        AND a.datname = current_database() AND a.backend_type = 'client backend'
        AND a.pid <> pg_backend_pid() AND NOT starts_with(a.application_name, $3)`,
    [input.ref.id, input.decision.epoch, ENGINE_APPLICATION_PREFIX],
  );
}

/**
 * Aborted: the side that was to be left stays, open, with a fresh token. No other server is needed for that
 * (R30): a dead shard of the other side never keeps this one closed.
 */
async function driveBack(sides: Sides, input: Driven): Promise<void> {
  const { ref, decision } = input;
  const stays: Side = otherSide(decision.serving);
  for (const shard of sides[stays].shards.keys()) {
    const client = await sides.session(stays, shard, RESOLVE);
    await reopenGate(client, { ref, epoch: decision.epoch, nextToken: freshToken() });
    await hintDecision(client, ref);
  }
  await Promise.allSettled(
    sides[decision.serving].shards.map(async (_, shard) => {
      const client = await sides.session(decision.serving, shard, RESOLVE);
      await revokeGate(client, { ref, epoch: decision.epoch, nextToken: freshToken() });
    }),
  );
}

function freshToken(): string {
  return randomBytes(16).toString("hex");
}
