import { type Connection, isGrpcServiceError } from "@temporalio/client";
import type { NativeConnection } from "@temporalio/worker";
import { searchAttributes } from "../../../workflows/task/messages.js";

/** temporal.api.enums.v1.IndexedValueType, of the types that we use. */
const INDEXED = { INT: 3, KEYWORD: 2 } as const;
const ALREADY_EXISTS = 6;

/**
 * Registers ours in the namespace. A second time, or beside another node, changes nothing.
 * @throws a gRPC error when the server does not answer or does not let us
 */
export async function registerSearchAttributes(
  connection: Connection | NativeConnection,
  namespace: string,
): Promise<void> {
  for (const { name, type } of Object.values(searchAttributes)) {
    const indexed = type === "INT" ? INDEXED.INT : INDEXED.KEYWORD;
    try {
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: { [name]: indexed },
      });
    } catch (error) {
      if (!isGrpcServiceError(error) || Number(error.code) !== ALREADY_EXISTS) throw error;
    }
  }
}
