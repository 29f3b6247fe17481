/**
 * What SQLSTATEs are called in a message, and what the server's own messages under them say. A table of codes:
 * nothing acts on one here, so they have no names in sqlstate.ts.
 */

/**
 * Conditions whose messages name objects, settings and states, never values. By default a message is withheld:
 * class 22 quotes the value, a user's RAISE says what it likes under any code, and a syntax error quotes the
 * statement, where our literals are bounds of ranges.
 */
const TELLING_CLASSES = ["08", "0A", "25", "28", "3D", "3F", "40", "53", "54", "55", "57", "58"];
const TELLING_STATES = new Set([
  ...["22001", "22012"],
  ...["23001", "23502", "23503", "23505", "23514", "23P01"],
  ...["26000", "2BP01", "34000"],
  ...["42501", "42611", "42701", "42703", "42704", "42710", "42723", "42804", "42809", "42830"],
  ...["42846", "42883", "42939", "42P01", "42P04", "42P06", "42P07", "42P16", "42P17", "42P21"],
  ...["42P22", "XX001", "XX002"],
]);

/** PostgreSQL's condition names, for what is withheld most. */
const CONDITIONS: Readonly<Record<string, string>> = {
  "21000": "cardinality violation",
  "22001": "string data right truncation",
  "22003": "numeric value out of range",
  "22004": "null value not allowed",
  "22007": "invalid datetime format",
  "22008": "datetime field overflow",
  "22012": "division by zero",
  "22021": "character not in repertoire",
  "22023": "invalid parameter value",
  "2202E": "array subscript error",
  "22P02": "invalid text representation",
  "22P03": "invalid binary representation",
  "22P04": "bad copy file format",
  "22P05": "untranslatable character",
  "23502": "not null violation",
  "23503": "foreign key violation",
  "23505": "unique violation",
  "23514": "check violation",
  "23P01": "exclusion violation",
  "42601": "syntax error",
  P0001: "raise exception",
  P0004: "assert failure",
  SL001: "gate closed",
  XX000: "internal error",
};

const CLASSES: Readonly<Record<string, string>> = {
  "22": "data exception",
  "23": "integrity constraint violation",
  "42": "syntax error or access rule violation",
  P0: "PL/pgSQL error",
  XX: "internal error",
};

/** Whether the server's message under this code is known to have no value in it. */
export function isTelling(sqlState: string): boolean {
  return TELLING_STATES.has(sqlState) || TELLING_CLASSES.includes(sqlState.slice(0, 2));
}

export function conditionName(sqlState: string): string {
  return CONDITIONS[sqlState] ?? CLASSES[sqlState.slice(0, 2)] ?? "the server refused";
}
