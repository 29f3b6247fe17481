import { type DecisionFacts, nodeDuty, stateOf } from "../../resharding/model/protocol.js";

/** What the follower reads of a decision, and of a migration. */
export interface FollowedDecision extends DecisionFacts {
  readonly epoch: number;
  readonly token: string;
}
export interface FollowedMigration<D extends FollowedDecision> {
  readonly id: string;
  readonly state: "active" | "aborted" | "finalized";
  /** By epoch. */
  readonly decisions: readonly D[];
}

/** A migration with one of its decisions. */
export interface Subject<M, D> {
  readonly migration: M;
  readonly decision: D;
}

/** What the node has done so far. */
export interface NodeMemory<M, D> {
  /** By token: under which decisions its clients wait. */
  readonly holds: ReadonlyMap<string, Subject<M, D>>;
  /** By migration: the epoch that its names express; missing: 0. */
  readonly adopted: Readonly<Record<string, number>>;
  /** By token: since when a committed decision is seen whose gates are shut. */
  readonly shutSinceMs: ReadonlyMap<string, number>;
}

export type NodeEffect<M, D> =
  /** Names mean the new side from now on. */
  | ({ readonly kind: "adopt" } & Subject<M, D>)
  /** Clients wait from now on. */
  | ({ readonly kind: "hold" } & Subject<M, D>)
  /** Beside the looks, one run at a time per decision; what it ends with goes into `afterResolve`. */
  | ({ readonly kind: "resolve" } & Subject<M, D>)
  /** Clients that wait under this token go on. */
  | { readonly kind: "release"; readonly token: string }
  /** The adoption is reported, the files are saved, and that is reported too. */
  | ({ readonly kind: "record" } & Subject<M, D>);

export interface Followed<M, D> {
  readonly effects: readonly NodeEffect<M, D>[];
  readonly shutSinceMs: ReadonlyMap<string, number>;
}

/** A committed decision whose gates do not open for this long has lost its coordinator. */
const OPENING_MS = 500;

/**
 * What the decisions ask of this node. Pure: no clock, no I/O; the tables are in `model/protocol.ts`. Three
 * kinds of decision count: the latest of each migration, its last committed and its last opened one (an attempt
 * after it may have been aborted), and each under whose token clients wait here, however old: a node that was frozen meanwhile
 * finds it among many.
 *
 * In this order, so that no client goes on by old names or between two holds, or waits for a disk: adopt, hold,
 * resolve, release, record.
 */
export function follow<D extends FollowedDecision, M extends FollowedMigration<D>>(
  seen: readonly M[],
  memory: NodeMemory<M, D>,
  nowMs: number,
): Followed<M, D> {
  const effects: NodeEffect<M, D>[] = [];
  const shutSinceMs = new Map<string, number>();
  for (const migration of seen) {
    effects.push(...ofEnded(migration, memory));
    for (const decision of decisionsOf(migration, memory)) {
      const subject = { migration, decision };
      const isHolding = memory.holds.has(decision.token);
      switch (nodeDuty(stateOf(decision), isHolding)) {
        case "nothing":
          break;
        case "hold":
        case "holdAndResolve":
          if (!isHolding) effects.push({ kind: "hold", ...subject });
          if (stateOf(decision) === "expired") effects.push({ kind: "resolve", ...subject });
          break;
        case "holdUntilOpened": {
          if (!isHolding) effects.push({ kind: "hold", ...subject });
          const sinceMs = memory.shutSinceMs.get(decision.token) ?? nowMs;
          shutSinceMs.set(decision.token, sinceMs);
          if (nowMs - sinceMs > OPENING_MS) effects.push({ kind: "resolve", ...subject });
          break;
        }
        case "adopt":
          if (decision === inForce(migration) && isNew(subject, memory))
            effects.push({ kind: "adopt", ...subject }, { kind: "record", ...subject });
          if (isHolding) effects.push({ kind: "release", token: decision.token });
          break;
        case "resolveThenRelease":
          effects.push({ kind: "resolve", ...subject });
          break;
      }
    }
  }
  return { effects: inOrder([...effects, ...ofLost(seen, memory)]), shutSinceMs };
}

/** What a resolve that has ended asks of the node: an abort lets its clients go on where they were. */
export function afterResolve(
  outcome: "committed" | "aborted",
  token: string,
): readonly { readonly kind: "release"; readonly token: string }[] {
  return outcome === "aborted" ? [{ kind: "release", token }] : [];
}

function decisionsOf<D extends FollowedDecision, M extends FollowedMigration<D>>(
  migration: M,
  memory: NodeMemory<M, D>,
): readonly D[] {
  const { decisions } = migration;
  const committed = decisions.findLast((decision) => decision.state === "committed");
  if (migration.state !== "active") return [];
  const asked = new Set([decisions.at(-1), committed, inForce(migration)]);
  return decisions.filter((decision) => asked.has(decision) || memory.holds.has(decision.token));
}

/** What names may express: the last one whose gates have opened. */
function inForce<D extends FollowedDecision>(migration: FollowedMigration<D>): D | undefined {
  return migration.decisions.findLast((decision) => stateOf(decision) === "opened");
}

/** A migration that has ended left the gates of the side that serves open: nobody waits for it any more. */
function ofEnded<D extends FollowedDecision, M extends FollowedMigration<D>>(
  migration: M,
  memory: NodeMemory<M, D>,
): readonly NodeEffect<M, D>[] {
  if (migration.state === "active") return [];
  const committed = migration.decisions.findLast((decision) => decision.state === "committed");
  if (!committed || !isNew({ migration, decision: committed }, memory)) return [];
  const subject = { migration, decision: committed };
  return [
    { kind: "adopt", ...subject },
    { kind: "record", ...subject },
  ];
}

/** R27: an epoch not above the node's own is not adopted again. */
function isNew<D extends FollowedDecision, M extends FollowedMigration<D>>(
  { migration, decision }: Subject<M, D>,
  memory: NodeMemory<M, D>,
): boolean {
  return (memory.adopted[migration.id] ?? 0) < decision.epoch;
}

/** Holds whose decision the servers do not show any more. */
function ofLost<D extends FollowedDecision, M extends FollowedMigration<D>>(
  seen: readonly M[],
  memory: NodeMemory<M, D>,
): readonly NodeEffect<M, D>[] {
  return [...memory.holds].flatMap(([token, held]): readonly NodeEffect<M, D>[] => {
    const migration = seen.find((one) => one.id === held.migration.id);
    // Its servers answer and know nothing of it, or it has ended: there is no gate to wait for.
    if (migration?.state !== "active") return [{ kind: "release", token }];
    if (migration.decisions.some((decision) => decision.token === token)) return [];
    const duty = nodeDuty("none", true);
    return duty === "resolveThenRelease"
      ? [{ kind: "resolve", migration, decision: held.decision }]
      : [];
  });
}

const ORDER = { adopt: 0, hold: 1, resolve: 2, release: 3, record: 4 } as const;

function inOrder<M, D>(effects: readonly NodeEffect<M, D>[]): readonly NodeEffect<M, D>[] {
  const releases = new Set<string>();
  return [...effects]
    .sort((a, b) => ORDER[a.kind] - ORDER[b.kind])
    .filter((effect) => {
      if (effect.kind !== "release") return true;
      if (releases.has(effect.token)) return false;
      releases.add(effect.token);
      return true;
    });
}
