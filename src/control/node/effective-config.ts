import type { Config } from "../../config/model.js";
import { swapDatabases } from "../../config/swap.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { otherSide, type Side } from "../../resharding/model/migration.js";
import { servingOf, stateOf } from "../../resharding/model/protocol.js";
import type { Decision } from "../../resharding/switch/decision.js";

/** The files, with the names exchanged as the committed decisions say. */
export interface EffectiveConfig {
  readonly config: Config;
  /**
   * By database name; missing: 0. Never goes down: each migration counts its own switches, so the epochs of all
   * migrations that had this name add up.
   */
  readonly epochs: Readonly<Record<string, number>>;
  /** By migration: the highest committed epoch that this configuration expresses. */
  readonly adopted: Readonly<Record<string, number>>;
}

/** A migration as the servers tell it, all shards' decisions together. */
export interface KnownMigration {
  readonly id: string;
  readonly source: string;
  readonly destination: string;
  readonly publication: string;
  readonly state: "active" | "aborted" | "finalized";
  readonly createdAtMs: number;
  readonly decisions: readonly Decision[];
  /** Addresses ("host:port/database") that hold a shard of each side. */
  readonly places: Readonly<Record<Side, readonly string[]>>;
}

/** The files send a name to the side that a committed switch left, and the side that serves is not in them. */
export class ConfigContradictsDecision extends SluiceError {
  readonly code = "SLUICE_CONFIG_CONTRADICTS_DECISION";
  readonly sqlState = SQLSTATE.configFileError;
  readonly recovery = "operator";
  constructor(migration: KnownMigration, options: ErrorFields = {}) {
    super(
      `pgdog.toml sends "${migration.source}" to servers that a committed cutover has left, and ` +
        `"${migration.destination}" does not lead to those that serve`,
      {
        hint:
          `In pgdog.toml, give [[databases]] "${migration.source}" or "${migration.destination}" the ` +
          `servers that serve: the gate's message on the old side names them.`,
        ...options,
      },
    );
  }
}

/** "host:port/database": what tells two servers apart in the configuration. */
export function placeOf(server: {
  readonly host: string;
  readonly port: number;
  readonly databaseName: string;
}): string {
  return `${server.host}:${server.port}/${server.databaseName}`;
}

/**
 * R32: what each name means now. Pure: the same files and decisions give the same answer on every node and
 * after every restart, whether the files were saved after the cutover or not, because sides are told by what
 * the servers hold and not by counting swaps.
 * @throws ConfigContradictsDecision
 */
export function effectiveConfig(
  files: Config,
  migrations: readonly KnownMigration[],
  silent: ReadonlySet<string>,
): EffectiveConfig {
  let config = files;
  const epochs: Record<string, number> = {};
  const adopted: Record<string, number> = {};
  const inOrder = [...migrations].sort((a, b) => a.createdAtMs - b.createdAtMs);
  for (const migration of inOrder) {
    const { epoch, side: serving } = servingOf(inForce(migration));
    if (epoch === 0) continue;
    adopted[migration.id] = epoch;
    const sides = sidesOfNames(config, migration, { serving, silent });
    // A name that leads to neither side belongs to a later migration, or a person has moved on.
    if (sides.source === otherSide(serving)) {
      if (sides.destination !== serving) throw new ConfigContradictsDecision(migration);
      config = swapDatabases(config, migration.source, migration.destination);
    }
    for (const name of namesOf(config, migration)) epochs[name] = (epochs[name] ?? 0) + epoch;
  }
  return { config, epochs, adopted };
}

/**
 * Decisions that names may express. While no gate of the new side has opened a failover can still lose the
 * commit, and epochs never go down: until then a node waits in the hold, also one that boots just then.
 */
function inForce(migration: KnownMigration): readonly Decision[] {
  if (migration.state !== "active") return migration.decisions;
  return migration.decisions.filter((decision) => stateOf(decision) === "opened");
}

interface Told {
  readonly serving: Side;
  /** Places that have never answered. */
  readonly silent: ReadonlySet<string>;
}

/**
 * Which side each of the two names leads to; null: neither. A server that is gone tells nothing, as after a
 * migration whose old side was taken down: a name that leads to such servers only is the other side when
 * its counterpart leads to the side that serves.
 */
function sidesOfNames(
  config: Config,
  migration: KnownMigration,
  told: Told,
): { readonly source: Side | null; readonly destination: Side | null } {
  const placesOf = (name: string) =>
    config.databases.filter((one) => one.name === name).map(placeOf);
  const sideOf = (name: string): Side | null => {
    const places = placesOf(name);
    if (places.some((place) => migration.places.source.includes(place))) return "source";
    if (places.some((place) => migration.places.destination.includes(place))) return "destination";
    return null;
  };
  const source = sideOf(migration.source);
  const destination = sideOf(migration.destination);
  const isSourceGone = placesOf(migration.source).every((place) => told.silent.has(place));
  if (source === null && destination === told.serving && isSourceGone) {
    return { source: otherSide(told.serving), destination };
  }
  return { source, destination };
}

/** Every configured name of the same physical databases: a hold covers them all. */
export function namesOf(config: Config, migration: KnownMigration): readonly string[] {
  const places = new Set([...migration.places.source, ...migration.places.destination]);
  const names = config.databases.filter((one) => places.has(placeOf(one))).map((one) => one.name);
  return [...new Set(names)];
}
