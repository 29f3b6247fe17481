/**
 * One shard's part of a transaction over shards that commits in two phases, as the name of its prepared transaction
 * says it. All but one of the shards that were written to prepare theirs. That one, the decider, does not: its plain
 * COMMIT is the decision, and PostgreSQL itself remembers for ever after (`pg_xact_status`) what became of it. So a
 * name is all that anybody needs to end what a killed node has left, and nothing of ours lies in the databases (R58).
 */
export interface PreparedPart {
  /** The same for all parts of one transaction. */
  readonly transaction: string;
  readonly decider: Decider;
  /** Whose part it is. */
  readonly shard: number;
}

/** Whose commit decides, and the history of that server in which its transaction id means this transaction. */
export interface Decider {
  readonly shard: number;
  /** null: the server does not tell us. */
  readonly systemIdentifier: string | null;
  readonly timeline: number;
  /** An xid8 in decimal. */
  readonly xid: string;
}

/** Of the prepared transactions that are ours, old forms of the name as well. */
export const PREPARED_PREFIX = "sluice_";

const NAME =
  /^sluice_([0-9a-f]{32})_(\d{1,9})_by_(\d{1,9})_(\d{1,20}|unknown)_(\d{1,9})_(\d{1,20})$/;

/** What PREPARE TRANSACTION takes: below its 200 bytes, without anything to quote. */
export function preparedName({ transaction, decider, shard }: PreparedPart): string {
  const { systemIdentifier, timeline, xid } = decider;
  const by = [decider.shard, systemIdentifier ?? "unknown", timeline, xid].join("_");
  return `${PREPARED_PREFIX}${transaction}_${shard}_by_${by}`;
}

/** @returns null for a name that `preparedName` did not make */
export function preparedPartOf(name: string): PreparedPart | null {
  const match = NAME.exec(name);
  if (!match) return null;
  const [, transaction = "", shard, decider, systemIdentifier = "", timeline, xid = ""] = match;
  return {
    transaction,
    shard: Number(shard),
    decider: {
      shard: Number(decider),
      systemIdentifier: systemIdentifier === "unknown" ? null : systemIdentifier,
      timeline: Number(timeline),
      xid,
    },
  };
}
