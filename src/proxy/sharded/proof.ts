import type { ServerConnection } from "../../backend/server-connection.js";
import { encodeBind, encodeDescribe, encodeParseSql, SYNC } from "../../wire/frontend.js";
import type { BindPart } from "../execution/decoded-request.js";
import type { PreparedStatement } from "../execution/prepared-statements.js";
import { type Phase, ShardStatement } from "./scatter/shard-statement.js";

/** What a server makes of a statement, and of values bound to it, without running it. */
export interface Proof {
  /** What Describe tells: one message of a portal, two of a statement. */
  readonly description: Buffer;
  /** An ErrorResponse, and which of the client's messages it answers. */
  readonly failure: { readonly phase: Phase; readonly error: Buffer } | null;
}

export interface Proposition {
  readonly statement: PreparedStatement;
  /** null: the statement alone. */
  readonly bind: BindPart | null;
  /** The portal stays open on the server under this name, "": until another is bound. */
  readonly portal: string;
}

/** Asks one server, which is in the transaction, if there is one. */
export async function prove(
  server: ServerConnection,
  { statement, bind, portal }: Proposition,
): Promise<Proof> {
  const parse = encodeParseSql("", statement.sql, statement.parameterTypes);
  const bound = bind && encodeBind({ portal, statement: "", ...bind.values });
  const target = bind ? "portal" : "statement";
  const describe = encodeDescribe({ target, name: bind ? portal : "" });
  const said: Buffer[] = [];
  const exchange = new ShardStatement(server, {
    description: (frame) => said.push(Buffer.from(frame)),
    rows: () => {},
    notice: () => {},
    copyIn: () => {},
    drained: () => {},
  });
  const end = await exchange.run(Buffer.concat([parse, ...(bound ? [bound] : []), describe, SYNC]));
  const description = Buffer.concat(said);
  if (end.kind === "complete") return { description, failure: null };
  return { description, failure: { phase: end.phase, error: end.error } };
}
