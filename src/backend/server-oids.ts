import { BACKEND } from "../wire/backend.js";
import { FRONTEND } from "../wire/frontend.js";

/** FirstNormalObjectId: from here on each server has numbers of its own. */
const FIRST_OWN = 16_384;

/** Numbers of what an application has made, by its names. */
export interface NamedOids {
  readonly types: ReadonlyMap<string, number>;
  readonly relations: ReadonlyMap<string, number>;
}

/**
 * The numbers of types and tables on one server, and what clients know them by: those of the first shard. Drivers
 * remember types by number, so that a session must see one server's numbers whichever answers.
 */
export class ServerOids {
  readonly #types: ReadonlyMap<number, number>;
  readonly #relations: ReadonlyMap<number, number>;
  readonly #ownTypes: ReadonlyMap<number, number>;

  constructor(own: NamedOids, known: NamedOids) {
    this.#types = matched(own.types, known.types);
    this.#relations = matched(own.relations, known.relations);
    this.#ownTypes = new Map([...this.#types].map(([here, there]) => [there, here]));
  }

  /** In place: RowDescription and ParameterDescription as the first shard would give them. */
  received(type: number, buffer: Buffer, start: number): void {
    const count = buffer.readUInt16BE(start + 5);
    let at = start + 7;
    if (type === BACKEND.parameterDescription) {
      for (let index = 0; index < count; index++, at += 4) replace(buffer, at, this.#types);
      return;
    }
    for (let index = 0; index < count; index++) {
      at = buffer.indexOf(0, at) + 1;
      replace(buffer, at, this.#relations);
      replace(buffer, at + 6, this.#types);
      at += 18;
    }
  }

  /** Whole messages to the server: a copy where a Parse names types that have other numbers there. */
  sent(messages: Buffer): Buffer {
    let own: Buffer | null = null;
    for (let at = 0; at + 5 <= messages.length; at += 1 + messages.readInt32BE(at + 1)) {
      if (messages[at] !== FRONTEND.parse) continue;
      const types = messages.indexOf(0, messages.indexOf(0, at + 5) + 1) + 1;
      const count = messages.readUInt16BE(types);
      for (let index = 0; index < count; index++) {
        const place = types + 2 + index * 4;
        const here = this.#ownTypes.get(messages.readUInt32BE(place));
        if (here === undefined) continue;
        own ??= Buffer.from(messages);
        own.writeUInt32BE(here, place);
      }
    }
    return own ?? messages;
  }
}

/** What both have and number differently. */
function matched(
  own: ReadonlyMap<string, number>,
  known: ReadonlyMap<string, number>,
): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  for (const [name, here] of own) {
    const there = known.get(name);
    if (there !== undefined && there !== here) found.set(here, there);
  }
  return found;
}

function replace(buffer: Buffer, at: number, numbers: ReadonlyMap<number, number>): void {
  const here = buffer.readUInt32BE(at);
  if (here < FIRST_OWN) return;
  const there = numbers.get(here);
  if (there !== undefined) buffer.writeUInt32BE(there, at);
}

const NAMED = (catalog: string, prefix: string, filter: string) => `
  (SELECT coalesce(pg_catalog.json_object_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(x.${prefix}name), x.oid), '{}')
     FROM pg_catalog.${catalog} x JOIN pg_catalog.pg_namespace n ON n.oid = x.${prefix}namespace
    WHERE x.oid >= ${FIRST_OWN} AND n.nspname !~ '^pg_(toast|temp)'${filter})`;

/** One row of two columns: `namedOids` reads it. */
export const NAMED_OIDS_SQL = `SELECT ${NAMED("pg_type", "typ", "")}, ${NAMED("pg_class", "rel", " AND x.relkind IN ('r', 'p', 'v', 'm', 'f')")}`;

export function namedOids(row: readonly (string | null)[] | undefined): NamedOids {
  const [types, relations] = [row?.[0], row?.[1]].map(
    (json) => new Map(Object.entries(JSON.parse(json ?? "{}") as Record<string, number>)),
  );
  return { types: types ?? new Map(), relations: relations ?? new Map() };
}
