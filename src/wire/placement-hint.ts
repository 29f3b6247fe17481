import { PLACEMENT_GUARD } from "../core/placement-guard.js";
import { SQLSTATE } from "../core/sqlstate.js";
import { decodeErrorFields, encodeErrorFields } from "./error-fields.js";

const HINT =
  "The row belongs to another shard than the one that it was written on, or has no sharding key: a trigger, or the key's own type, makes another value of what the statement says. Give the key as it is stored.";

/** An ErrorResponse as the client gets it: what a placement guard refuses says why. */
export function withPlacementHint(frame: Buffer): Buffer {
  if (!frame.includes(PLACEMENT_GUARD)) return frame;
  const fields = decodeErrorFields(frame);
  const isGuard =
    fields.get("C") === SQLSTATE.checkViolation && fields.get("n") === PLACEMENT_GUARD;
  if (!isGuard || fields.has("H")) return frame;
  return encodeErrorFields("E", new Map(fields).set("H", HINT));
}
