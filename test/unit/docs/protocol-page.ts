import { ordersTable } from "../../../src/resharding/model/orders.js";
import {
  DECISION,
  DECISION_EVENTS,
  DECISION_STATES,
  type DecisionEvent,
  type DecisionState,
  NODE,
  type NodeDuty,
  nextState,
  RESOLVER,
  type ResolverMove,
  refusalOf,
  type StaleDuty,
} from "../../../src/resharding/model/protocol.js";
import { NEXT } from "../../../src/resharding/model/replicate-plan.js";

/** docs/protocol.md, out of the tables that node, `resolve` and switch themselves use. */
export function protocolPage(): string {
  return `# The protocol of the switch

<!-- Written by test/unit/docs/protocol.test.ts out of src/resharding/model/protocol.ts: \`npx vitest run test/unit/docs -u\`. -->

One row decides: \`sluice.decision\`, one per epoch, in the control database, which is shard 0 of the side that is
to be left. Everybody reads it, and whoever changes it does so by one compare-and-set. Gates (\`sluice.gate\`, one per
shard) say the same to PostgreSQL. \`SHOW CUTOVER\` shows the rows, without Temporal.

## The picture

\`\`\`mermaid
stateDiagram-v2
${picture().join("\n")}
\`\`\`

Up to **committed** everything can be undone, and undoes itself when its time is over; after it there is only forward.

1. The coordinator (activity \`switchTraffic\`) sets **prepared**. Every node **holds**: new transactions wait, running
   ones end, and the node answers by a row. (\`pause\`)
2. It shuts the gates of the side that is left, waits for whoever had passed them, writes the last marker, and waits
   until every lane has delivered it. (\`synchronize\`)
3. It writes the start of the way back into each shard that will serve. It comes before the decision, so that the
   first write which the new side takes is already behind it (R34). (\`reverse replication\`)
4. One compare-and-set sets **committed**: that is the switch. (\`swap\`)
5. Gates of the new side open, each with the committed row beside it (**opened**); nodes adopt the new names and let
   their clients go on. (\`resume\`)

## Who does what

- **Who holds:** every node, from *prepared* until *opened* or until an abort is driven home. No clock ends a hold.
- **Who decides:** the compare-and-set, once. The result of the coordinator is advice; \`resolve\` reads the row.
- **What undoes:** \`resolve\`, run by the workflow for ever, by any node when the time is over or a gate does not open,
  and by \`RESOLVE CUTOVER <database>\`. Any number may run beside each other.
- **What makes late actors harmless:** a gate is turned with its epoch and token only; an abort gives the gate a fresh token.

## When it stands still

| \`SHOW CUTOVER\` says | means | do |
|---|---|---|
${DECISION_STATES.map((state) => `| ${SHOWN[state]} | ${MEANING[state]} | ${ON_CALL[state]} |`).join("\n")}

The [runbook](runbooks/stuck.md) begins with the symptom.

## What becomes of a decision

Rows are states, columns are events; in brackets what is refused, and why ("epoch 3 ..."). Two states are read off a
row that stands as another: *expired* is \`prepared\` behind its time, *opened* is \`committed\` with a gate open.

${table(
  ["", ...DECISION_EVENTS],
  DECISION_STATES.map((state) => [
    `**${state}**`,
    ...DECISION_EVENTS.map((event) => {
      const refused = refusalOf(state, event);
      return refused === null ? String(nextState(state, event)) : `(${refused})`;
    }),
  ]),
)}

${list(EVENT)}

## What whoever resolves does

The row decides while its server is the one on which it was planned (system identifier and timeline); else the shards
that will serve are asked (R30).

${table(
  ["", "same server: coordinator", "same server: node, operator", "another server: anybody"],
  DECISION_STATES.map((state) => [
    `**${state}**`,
    RESOLVER["same server"][state].coordinator,
    RESOLVER["same server"][state].bystander,
    RESOLVER["another server"][state].bystander,
  ]),
)}

${list(MOVE)}

## What a node does

About the latest decision of a migration and the last that is committed or opened; and about every decision under
which its own clients wait, however old it is.

${table(
  ["", "its clients do not wait under it", "they do", "a gate refused a statement"],
  DECISION_STATES.map((state) => [
    `**${state}**`,
    NODE[state].free,
    NODE[state].holding,
    NODE[state].stale,
  ]),
)}

${list(DUTY)}

${list(STALE)}

## What \`replicate\` does next

By the first that holds, after each look; else it waits. What became of an attempt at a switch it reads from
\`resolve\`: **committed**, the task ends and the way back has one of its own; **aborted**, it replicates on and tries
again after a back-off that doubles.

| when | next |
| --- | --- |
${NEXT.map(({ next, when }) => `| ${when} | **${next}** |`).join("\n")}

## What may be ordered

What a task takes, and the words with which it refuses. Each order is an update (answered) and a signal of the same
name (it works while no worker is up; out of place, it is dropped). *forward*: before the first switch. *aborting*: what
was made is being undone. *switched*: the switch is committed, the task about to end. *standby*: the way back of a
switch that is not decided yet; *reverse*: of one that is. *finalizing*: the way back is being given up.

${ordersTable().join("\n")}

## What holds this page

\`test/integration/resharding/protocol.pg.test.ts\` runs every cell as SQL on a real PostgreSQL, and
\`test/unit/resharding/switch-model.test.ts\` walks every interleaving of coordinators, resolvers, nodes and a failover over
these very tables: never both sides, never a lost write, no client on a side that does not serve, always one side in the end.
`;
}

const SHOWN: Readonly<Record<DecisionState, string>> = {
  none: "no row",
  planned: "`planned`",
  prepared: "`prepared`, `expires_in_ms` above 0",
  expired: "`prepared`, `expires_in_ms` 0 or below",
  committed: "`committed`, clients still wait",
  opened: "`committed`, clients go on",
  aborted: "`aborted`",
};

const MEANING: Readonly<Record<DecisionState, string>> = {
  none: "no switch was tried, or the control database came back from the past",
  planned: "an attempt is being prepared; nobody waits for it",
  prepared: "the switch is under way; clients wait",
  expired: "its time is over; whoever looks first undoes it",
  committed: "the new side serves; a gate of it has not opened yet",
  opened: "the switch is done",
  aborted: "the switch did not happen; `reason` says why",
};

const ON_CALL: Readonly<Record<DecisionState, string>> = {
  none: "nothing; after a restore bring up every shard of the new side, they are the witnesses",
  planned: "nothing: it blocks no client, and the next attempt replaces it",
  prepared: "nothing: wait for `expires_in_ms`",
  expired: "`RESOLVE CUTOVER <database>`; if it names a server, bring that one up",
  committed: "bring up the shards of the new side; `RESOLVE CUTOVER <database>`",
  opened: "nothing; `CUTOVER` on the reverse task goes back",
  aborted: "if clients still wait: `RESOLVE CUTOVER <database>` on their node",
};

const EVENT: Readonly<Record<DecisionEvent, string>> = {
  plan: "`prepareDecision` inserts the row",
  replace: "`prepareDecision` of a later attempt meets the row",
  prepare: "the coordinator begins the hold",
  timePasses: "`pause_cap_ms` is over, by the control database's clock",
  commit: "the compare-and-set",
  open: "a gate of the side that serves has been opened",
  giveUp: "the coordinator, or a hold past its bound, aborts at once",
  expire: "anybody aborts what has expired",
  failoverWitnessed:
    "the control server is another one, and a shard that will serve has the committed row",
  failoverUnwitnessed: "it is another one, no shard has it, and none can open its gate any more",
};

const MOVE: Readonly<Record<ResolverMove, string>> = {
  giveUp: "aborts, by compare-and-set, and reads again: one of two wins",
  expire: "the same, only when expired",
  wait: "answers that it is still being decided",
  askWitnesses: "takes the tokens of shut gates away, then looks which shard has the committed row",
  driveForward:
    "opens the gates of the new side, tells the old side where to go, ends its stray sessions",
  driveBack: "opens the gates of the side that stays, with a fresh token",
};

const DUTY: Readonly<Record<NodeDuty, string>> = {
  nothing: "nobody waits for anything",
  hold: "clients wait; the node answers when nothing is in flight",
  holdAndResolve: "the same, and it resolves beside its looks",
  holdUntilOpened: "the same; it resolves when no gate opens for half a second",
  adopt: "names mean the new side, then clients go on, then the files are saved",
  resolveThenRelease: "gates first, then clients go on where they were",
};

const STALE: Readonly<Record<StaleDuty, string>> = {
  answer: "the refusal is the client's answer",
  lookAgain: "the statement waits; once the node holds, the release is the reason to try again",
  resolveThenAnswer: "gates first, then it is tried again",
};

/** Every transition that changes something, drawn once. */
function picture(): readonly string[] {
  const shown = DECISION_STATES.filter((state) => state !== "none");
  const arrows = DECISION_STATES.flatMap((from) =>
    DECISION_EVENTS.flatMap((event) => {
      const to = DECISION[from][event];
      // A failover is in the table; here it would hide the way.
      const isDrawn = typeof to === "string" && to !== from && !event.startsWith("failover");
      return isDrawn ? [`  ${from === "none" ? "[*]" : from} --> ${to}: ${event}`] : [];
    }),
  );
  const notes = shown
    .filter((state) => NODE[state].holding !== "nothing")
    .map((state) => `  note right of ${state}: ${NOTE[state]}`);
  return [...arrows, "  opened --> [*]", "  aborted --> [*]", ...notes];
}

const NOTE: Readonly<Record<DecisionState, string>> = {
  none: "",
  planned: "nobody waits",
  prepared: "nodes hold, gates shut, the marker drains",
  expired: "any node undoes it",
  committed: "only forward from here, resolve opens the gates",
  opened: "nodes adopt, clients go on at the new side",
  aborted: "the old side's gates open, clients go on there",
};

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function list(words: Readonly<Record<string, string>>): string {
  return Object.entries(words)
    .map(([word, text]) => `- **${word}**: ${text}`)
    .join("\n");
}
