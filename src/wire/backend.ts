import { MessageReader } from "./message-reader.js";
import { MessageWriter } from "./message-writer.js";
import { ProtocolViolation } from "./protocol-violation.js";

/** Letters of the messages that servers send. */
export const BACKEND = {
  authentication: 0x52, // R
  backendKeyData: 0x4b, // K
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  commandComplete: 0x43, // C
  copyBothResponse: 0x57, // W
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  dataRow: 0x44, // D
  emptyQuery: 0x49, // I
  error: 0x45, // E
  functionCallResponse: 0x56, // V
  negotiateProtocolVersion: 0x76, // v
  noData: 0x6e, // n
  notice: 0x4e, // N
  notification: 0x41, // A
  parameterDescription: 0x74, // t
  parameterStatus: 0x53, // S
  parseComplete: 0x31, // 1
  portalSuspended: 0x73, // s
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
} as const;

/** I: idle, T: in a transaction, E: in a failed one. */
export type TransactionStatus = "I" | "T" | "E";

export interface ColumnDescription {
  readonly name: string;
  readonly tableId: number;
  readonly columnNumber: number;
  readonly typeId: number;
  readonly typeSize: number;
  readonly typeModifier: number;
  readonly format: number;
}

export const AUTHENTICATION = {
  ok: 0,
  cleartext: 3,
  md5: 5,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

const bare = (type: string) => new MessageWriter(5).begin(type).end().finish();
const ready = (status: string) => new MessageWriter(6).begin("Z").string(status).end().finish();

export const AUTHENTICATION_OK = authentication(AUTHENTICATION.ok).end().finish();
export const AUTHENTICATION_CLEARTEXT = authentication(AUTHENTICATION.cleartext).end().finish();
export const PARSE_COMPLETE = bare("1");
export const BIND_COMPLETE = bare("2");
export const CLOSE_COMPLETE = bare("3");
export const NO_DATA = bare("n");
/** ParameterDescription of a statement without any. */
export const NO_PARAMETERS = Buffer.from([BACKEND.parameterDescription, 0, 0, 0, 6, 0, 0]);
export const PORTAL_SUSPENDED = bare("s");
export const EMPTY_QUERY = bare("I");
export const READY: Readonly<Record<TransactionStatus, Buffer>> = {
  I: ready("I"),
  T: ready("T"),
  E: ready("E"),
};

function authentication(code: number): MessageWriter {
  return new MessageWriter(64).begin("R").int32(code);
}

export function encodeAuthenticationMd5(salt: Buffer): Buffer {
  return authentication(AUTHENTICATION.md5).bytes(salt).end().finish();
}

export function encodeAuthenticationSasl(mechanisms: readonly string[]): Buffer {
  const writer = authentication(AUTHENTICATION.sasl);
  for (const mechanism of mechanisms) writer.cstring(mechanism);
  return writer.byte(0).end().finish();
}

export function encodeSaslContinue(data: string): Buffer {
  return authentication(AUTHENTICATION.saslContinue).string(data).end().finish();
}

export function encodeSaslFinal(data: string): Buffer {
  return authentication(AUTHENTICATION.saslFinal).string(data).end().finish();
}

export function encodeParameterStatus(name: string, value: string): Buffer {
  return new MessageWriter().begin("S").cstring(name).cstring(value).end().finish();
}

export function encodeBackendKeyData(processId: number, secret: Buffer): Buffer {
  return new MessageWriter(16).begin("K").int32(processId).bytes(secret).end().finish();
}

/** @param newest the whole version, as PostgreSQL sends it (its page says the minor one only) */
export function encodeNegotiateProtocolVersion(
  newest: number,
  unknownOptions: readonly string[],
): Buffer {
  const writer = new MessageWriter().begin("v").int32(newest).int32(unknownOptions.length);
  for (const option of unknownOptions) writer.cstring(option);
  return writer.end().finish();
}

export function encodeCommandComplete(tag: string): Buffer {
  return new MessageWriter(tag.length + 8).begin("C").cstring(tag).end().finish();
}

export function encodeRowDescription(columns: readonly ColumnDescription[]): Buffer {
  const writer = new MessageWriter().begin("T").int16(columns.length);
  for (const column of columns)
    writer
      .cstring(column.name)
      .int32(column.tableId)
      .int16(column.columnNumber)
      .int32(column.typeId)
      .int16(column.typeSize)
      .int32(column.typeModifier)
      .int16(column.format);
  return writer.end().finish();
}

/** CopyInResponse for text and CSV. */
export function encodeCopyInResponse(columnCount: number): Buffer {
  const writer = new MessageWriter().begin("G").byte(0).int16(columnCount);
  for (let column = 0; column < columnCount; column++) writer.int16(0);
  return writer.end().finish();
}

export function encodeDataRow(values: readonly (Uint8Array | null)[]): Buffer {
  const writer = new MessageWriter().begin("D").int16(values.length);
  for (const value of values) writer.value(value);
  return writer.end().finish();
}

export function decodeRowDescription(frame: Buffer): ColumnDescription[] {
  const reader = MessageReader.ofFrame(frame);
  const count = reader.uint16();
  const columns: ColumnDescription[] = [];
  for (let index = 0; index < count; index++)
    columns.push({
      name: reader.cstring(),
      tableId: reader.uint32(),
      columnNumber: reader.int16(),
      typeId: reader.uint32(),
      typeSize: reader.int16(),
      typeModifier: reader.int32(),
      format: reader.int16(),
    });
  return columns;
}

/** Slices of the frame. */
export function decodeDataRow(frame: Buffer): (Buffer | null)[] {
  const reader = MessageReader.ofFrame(frame);
  const count = reader.uint16();
  const values: (Buffer | null)[] = [];
  for (let index = 0; index < count; index++) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length));
  }
  return values;
}

export function decodeCommandTag(frame: Buffer): string {
  return MessageReader.ofFrame(frame).cstring();
}

export function decodeParameterStatus(frame: Buffer): readonly [name: string, value: string] {
  const reader = MessageReader.ofFrame(frame);
  return [reader.cstring(), reader.cstring()];
}

export function decodeBackendKeyData(frame: Buffer): {
  readonly processId: number;
  readonly secret: Buffer;
} {
  const reader = MessageReader.ofFrame(frame);
  return { processId: reader.int32(), secret: Buffer.from(reader.rest()) };
}

export function decodeAuthentication(frame: Buffer): {
  readonly code: number;
  readonly data: Buffer;
} {
  const reader = MessageReader.ofFrame(frame);
  return { code: reader.int32(), data: reader.rest() };
}

export function decodeTransactionStatus(letter: number | undefined): TransactionStatus {
  if (letter === 0x49) return "I";
  if (letter === 0x54) return "T";
  if (letter === 0x45) return "E";
  throw new ProtocolViolation("ReadyForQuery without a known status");
}
