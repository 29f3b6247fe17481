import type { ServerConnection } from "../../backend/server-connection.js";
import {
  NAMED_OIDS_SQL,
  type NamedOids,
  namedOids,
  ServerOids,
} from "../../backend/server-oids.js";
import type { ShardId } from "../../topology/topology.js";

/** The numbers of types and tables on each shard, as the schema was read last. */
export class ShardOids {
  #generation = -1;
  #first: Promise<NamedOids> | null = null;
  readonly #byShard = new Map<ShardId, Promise<ServerOids>>();

  /**
   * @param server of that shard, idle @param first a connection to the first shard, which is given back
   * @throws ServerUnreachable, ServerRefused, ServerConnectionLost
   */
  async of(
    shard: ShardId,
    generation: number,
    ask: { readonly server: ServerConnection; readonly first: () => Promise<ServerConnection> },
  ): Promise<ServerOids> {
    if (this.#generation !== generation) {
      this.#generation = generation;
      this.#first = null;
      this.#byShard.clear();
    }
    let oids = this.#byShard.get(shard);
    if (!oids) {
      this.#first ??= askFirst(ask.first);
      oids = compare(ask.server, this.#first);
      this.#byShard.set(shard, oids);
      // Whoever comes next tries again.
      oids.catch(() => {
        this.#byShard.delete(shard);
        this.#first = null;
      });
    }
    return await oids;
  }
}

async function askFirst(connect: () => Promise<ServerConnection>): Promise<NamedOids> {
  const server = await connect();
  try {
    return namedOids((await server.query(NAMED_OIDS_SQL)).rows[0]);
  } finally {
    server.giveBack();
  }
}

async function compare(server: ServerConnection, first: Promise<NamedOids>): Promise<ServerOids> {
  const { rows } = await server.query(NAMED_OIDS_SQL);
  return new ServerOids(namedOids(rows[0]), await first);
}
