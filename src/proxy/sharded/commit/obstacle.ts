import { describeAddress } from "../../../backend/address.js";
import type { ServerConnection } from "../../../backend/server-connection.js";
import { TwoPhaseUnavailable } from "../../../backend/server-errors.js";
import { SQLSTATE } from "../../../core/sqlstate.js";
import { FIRST_SHARD } from "../../../topology/topology.js";
import { StatementRefused } from "../../session-errors.js";
import { type AskedPart, type CommitInput, must } from "./commit-part.js";

/** What a server is, which does not change while a connection to it lasts. */
export interface ServerFacts {
  readonly canPrepare: boolean;
  readonly timeline: number;
  /** null: it does not tell us. */
  readonly systemIdentifier: string | null;
}

const known = new WeakMap<ServerConnection, ServerFacts>();

/**
 * Why a transaction that has written on several shards is not committed in two phases; null: it is.
 * @throws where it must be, and cannot: nothing has been committed
 */
export async function obstacleOf(
  { served, mode }: CommitInput,
  written: readonly AskedPart[],
): Promise<string | null> {
  if (mode === false) return "two_phase_commit is false";
  const facts = await Promise.all(written.map(async ({ server }) => await factsOf(server)));
  const unable = written.find((_, index) => facts[index]?.canPrepare === false);
  if (unable && mode === true)
    throw new TwoPhaseUnavailable(unable.shard, describeAddress(unable.server.address));
  if (unable) return `shard ${unable.shard} has max_prepared_transactions = 0`;
  if (!deciderOf(written)) {
    const reason = "temporary objects were used, and what used them cannot be prepared";
    if (mode === "auto") return reason;
    throw new StatementRefused(
      SQLSTATE.featureNotSupported,
      `with two_phase_commit = true this transaction cannot be committed on several shards: ${reason}`,
      { hint: "It was rolled back on all shards. Do without, or write to one shard at a time." },
    );
  }
  return mode === "auto" ? served.onePhaseBecause : null;
}

/**
 * Whose own COMMIT decides: a shard that could not be prepared, else the last but the first shard, which must not show
 * anything before the others do.
 * @returns null where two would have to
 */
export function deciderOf(written: readonly AskedPart[]): AskedPart | null {
  const temporary = written.filter(({ usesTemporary }) => usesTemporary);
  const [only] = temporary;
  if (!only) return written.findLast(({ shard }) => shard !== FIRST_SHARD) ?? null;
  return temporary.length === 1 && only.shard !== FIRST_SHARD ? only : null;
}

export async function factsOf(server: ServerConnection): Promise<ServerFacts> {
  const before = known.get(server);
  if (before) return before;
  const { rows } = await must(
    server,
    `SELECT pg_catalog.current_setting('max_prepared_transactions') <> '0',
       ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::integer,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')`,
  );
  const [canPrepare, timeline, isTold] = rows[0] ?? [];
  const told =
    isTold === "t"
      ? await must(server, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()")
      : null;
  const facts = {
    canPrepare: canPrepare === "t",
    timeline: Number(timeline),
    systemIdentifier: told?.rows[0]?.[0] ?? null,
  };
  known.set(server, facts);
  return facts;
}
