import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";

/** The node is there but could not load what comes after the switch. The attempt is undone, or the node fenced. */
export class NodeNotArmed extends SluiceError {
  readonly code = "SLUICE_NODE_NOT_ARMED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(nodeId: string, reason: string, options: ErrorFields = {}) {
    super(`node ${nodeId} did not arm: ${reason}`, {
      hint: "See that node's log and SHOW CUTOVER there.",
      ...options,
    });
  }
}
