import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../wire/frontend.js";
import type { StatementRequest } from "./contract.js";

/**
 * A statement as one shard gets it, in the protocol that the client used, up to ReadyForQuery.
 * @param positions of the client's parameters that this text binds, from 0; null: all, as they are
 */
export function statementMessages(
  request: StatementRequest,
  sql: string,
  positions: readonly number[] | null,
): Buffer {
  if (request.protocol === "simple") return encodeQuery(sql);
  const { parameters, parameterTypes, parameterFormats, resultFormats } =
    positions === null ? request : selectParameters(request, positions);
  return Buffer.concat([
    encodeParseSql("", sql, parameterTypes),
    encodeBind({ portal: "", statement: "", parameterFormats, parameters, resultFormats }),
    encodeDescribe({ target: "portal", name: "" }),
    encodeExecute({ portal: "", maxRows: 0 }),
    SYNC,
  ]);
}

/** A request with some of its parameters, in this order. */
export function selectParameters(
  request: StatementRequest,
  positions: readonly number[],
): StatementRequest {
  const { parameterTypes, parameterFormats, parameters } = request;
  const formatOf = (position: number) =>
    (parameterFormats.length === 1 ? parameterFormats[0] : parameterFormats[position]) ?? 0;
  return {
    ...request,
    parameterTypes: positions.map((position) => parameterTypes[position] ?? 0),
    parameterFormats: positions.map(formatOf),
    parameters: positions.map((position) => parameters[position] ?? null),
  };
}
