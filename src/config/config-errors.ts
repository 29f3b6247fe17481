import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";

/** Where in a configuration file a mistake is; what is not known is null. */
export interface Place {
  readonly file: string;
  /** From 1. */
  readonly line: number | null;
  /** "[general] port", "[[databases]] name". */
  readonly key: string | null;
}

/** A configuration file that cannot be used. Nothing has changed: the running configuration stays. */
export class ConfigInvalid extends SluiceError {
  readonly code = "SLUICE_CONFIG_INVALID";
  readonly sqlState = SQLSTATE.configFileError;
  readonly recovery = "operator";
  readonly place: Place;
  constructor(place: Place, problem: string, options: ErrorFields = {}) {
    const line = place.line === null ? "" : `:${place.line}`;
    const key = place.key === null ? "" : `${place.key}: `;
    super(`${place.file}${line}: ${key}${problem}`, {
      hint: "Correct the file and start again, or RELOAD; a running node keeps its configuration.",
      ...options,
    });
    this.place = place;
  }
}

/**
 * The files on this node's disk could not be made to say what the decision says. Traffic is not
 * concerned: a node reads the decision at its start and exchanges the names in memory.
 */
export class ConfigNotSaved extends SluiceError {
  readonly code = "SLUICE_CONFIG_NOT_SAVED";
  readonly sqlState = SQLSTATE.configFileError;
  readonly recovery = "operator";
  constructor(problem: string, options: ErrorFields = {}) {
    super(`configuration not saved: ${problem}`, {
      hint: "Make the folder of pgdog.toml and users.toml writable, or edit the files by hand; then RELOAD.",
      ...options,
    });
  }
}
