import { SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import { MessageReader } from "./message-reader.js";
import { MessageWriter } from "./message-writer.js";

/**
 * The fields of ErrorResponse and NoticeResponse by their letters: S and V severity, C SQLSTATE, M message,
 * D detail, H hint, R routine, ...
 * @see https://www.postgresql.org/docs/current/protocol-error-fields.html
 */
export type ErrorResponseFields = ReadonlyMap<string, string>;

export type Severity = "ERROR" | "FATAL" | "PANIC" | "WARNING" | "NOTICE";

export interface ErrorDescription {
  readonly severity?: Severity;
  readonly sqlState: string;
  readonly message: string;
  readonly detail?: string | null | undefined;
  readonly hint?: string | null | undefined;
}

/** @throws ProtocolViolation when the frame is malformed */
export function decodeErrorFields(frame: Buffer): ErrorResponseFields {
  const reader = MessageReader.ofFrame(frame);
  const fields = new Map<string, string>();
  for (let letter = reader.byte(); letter !== 0; letter = reader.byte())
    fields.set(String.fromCharCode(letter), reader.cstring());
  return fields;
}

export function encodeErrorFields(type: "E" | "N", fields: ErrorResponseFields): Buffer {
  const writer = new MessageWriter().begin(type);
  for (const [letter, value] of fields) writer.byte(letter.charCodeAt(0)).cstring(value);
  return writer.byte(0).end().finish();
}

export function encodeError(error: ErrorDescription): Buffer {
  return encodeErrorFields("E", fieldsOf(error, error.severity ?? "ERROR"));
}

export function encodeNotice(notice: ErrorDescription): Buffer {
  return encodeErrorFields("N", fieldsOf(notice, notice.severity ?? "NOTICE"));
}

/** An error of ours as a client sees it. What is no SluiceError is a bug and shows no inner text. */
export function encodeThrown(error: unknown, severity: Severity = "ERROR"): Buffer {
  if (!(error instanceof SluiceError))
    return encodeError({ severity, sqlState: SQLSTATE.internalError, message: "internal error" });
  const { sqlState, message, detail, hint } = error;
  return encodeError({ severity, sqlState, message, detail, hint });
}

function fieldsOf(error: ErrorDescription, severity: Severity): Map<string, string> {
  const fields = new Map([
    ["S", severity],
    ["V", severity],
    ["C", error.sqlState],
    ["M", error.message],
  ]);
  if (error.detail) fields.set("D", error.detail);
  if (error.hint) fields.set("H", error.hint);
  return fields;
}
