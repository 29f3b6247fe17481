import { MessageReader } from "./message-reader.js";
import { MessageWriter } from "./message-writer.js";
import { ProtocolViolation } from "./protocol-violation.js";

/** Letters of the messages that clients send. */
export const FRONTEND = {
  bind: 0x42, // B
  close: 0x43, // C
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyFail: 0x66, // f
  describe: 0x44, // D
  execute: 0x45, // E
  flush: 0x48, // H
  functionCall: 0x46, // F
  parse: 0x50, // P
  password: 0x70, // p, also SASL
  query: 0x51, // Q
  sync: 0x53, // S
  terminate: 0x58, // X
} as const;

const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
export const PROTOCOL_3_0 = 0x30000;
export const PROTOCOL_3_2 = 0x30002;

export type StartupPacket =
  | { readonly kind: "ssl" }
  | { readonly kind: "gss" }
  | { readonly kind: "cancel"; readonly processId: number; readonly secret: Buffer }
  | {
      readonly kind: "startup";
      readonly major: number;
      readonly minor: number;
      readonly parameters: ReadonlyMap<string, string>;
    };

export interface ParseMessage {
  readonly name: string;
  /** As sent; the client's encoding may not be UTF-8. */
  readonly sqlBytes: Buffer;
  readonly parameterTypes: readonly number[];
  /** Text and types as bytes: what makes two statements the same. */
  readonly identity: Buffer;
}

export interface BindNames {
  readonly portal: string;
  readonly statement: string;
}

export interface BindValues {
  /** None, one for all, or one each; 0 text, 1 binary. */
  readonly parameterFormats: readonly number[];
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly number[];
}

export interface BindMessage extends BindNames, BindValues {}

/** Of Describe and Close. */
export interface TargetMessage {
  readonly target: "statement" | "portal";
  readonly name: string;
}

export interface ExecuteMessage {
  readonly portal: string;
  /** 0: all. */
  readonly maxRows: number;
}

/** @param packet length included @throws ProtocolViolation */
export function decodeStartup(packet: Buffer): StartupPacket {
  const reader = new MessageReader(packet, 4, packet.length);
  const code = reader.int32();
  if (code === SSL_REQUEST) return { kind: "ssl" };
  if (code === GSS_REQUEST) return { kind: "gss" };
  if (code === CANCEL_REQUEST)
    return { kind: "cancel", processId: reader.int32(), secret: Buffer.from(reader.rest()) };
  const parameters = new Map<string, string>();
  const major = code >>> 16;
  if (major === 3)
    for (let name = reader.cstring(); name !== ""; name = reader.cstring())
      parameters.set(name, reader.cstring());
  return { kind: "startup", major, minor: code & 0xffff, parameters };
}

export function decodeQuery(frame: Buffer): string {
  return MessageReader.ofFrame(frame).cstring();
}

export function decodeParse(frame: Buffer): ParseMessage {
  const reader = MessageReader.ofFrame(frame);
  const name = reader.cstring();
  const identity = frame.subarray(reader.offset);
  const sqlBytes = reader.cstringBytes();
  const parameterTypes = counted(reader, () => reader.uint32());
  return { name, sqlBytes, parameterTypes, identity };
}

/**
 * Bind's two names only, and where its values begin: renaming a statement does not decode parameters.
 * @throws ProtocolViolation
 */
export function decodeBindNames(frame: Buffer): BindNames & { readonly valuesAt: number } {
  const reader = MessageReader.ofFrame(frame);
  const portal = reader.cstring();
  const statement = reader.cstring();
  return { portal, statement, valuesAt: reader.offset };
}

/** The rest of a Bind, from `valuesAt` on; parameters are slices of the frame. @throws ProtocolViolation */
export function decodeBindValues(frame: Buffer, valuesAt: number): BindValues {
  const reader = new MessageReader(frame, valuesAt, frame.length);
  const parameterFormats = counted(reader, () => reader.int16());
  const parameters = counted(reader, () => {
    const length = reader.int32();
    return length === -1 ? null : reader.bytes(length);
  });
  const resultFormats = counted(reader, () => reader.int16());
  return { parameterFormats, parameters, resultFormats };
}

export function decodeTarget(frame: Buffer): TargetMessage {
  const reader = MessageReader.ofFrame(frame);
  const letter = reader.byte();
  if (letter !== 0x53 && letter !== 0x50) throw new ProtocolViolation("target is no S or P");
  return { target: letter === 0x53 ? "statement" : "portal", name: reader.cstring() };
}

export function decodeExecute(frame: Buffer): ExecuteMessage {
  const reader = MessageReader.ofFrame(frame);
  return { portal: reader.cstring(), maxRows: reader.int32() };
}

function counted<T>(reader: MessageReader, read: () => T): T[] {
  const count = reader.uint16();
  const items: T[] = [];
  for (let index = 0; index < count; index++) items.push(read());
  return items;
}

export const SYNC = new MessageWriter(5).begin("S").end().finish();
export const FLUSH = new MessageWriter(5).begin("H").end().finish();
export const TERMINATE = new MessageWriter(5).begin("X").end().finish();
export const COPY_DONE = new MessageWriter(5).begin("c").end().finish();

export function encodeStartup(parameters: ReadonlyMap<string, string>): Buffer {
  const writer = new MessageWriter().begin(null).int32(PROTOCOL_3_0);
  for (const [name, value] of parameters) writer.cstring(name).cstring(value);
  return writer.byte(0).end().finish();
}

export function encodeCancel(processId: number, secret: Buffer): Buffer {
  return new MessageWriter(16)
    .begin(null)
    .int32(CANCEL_REQUEST)
    .int32(processId)
    .bytes(secret)
    .end()
    .finish();
}

export function encodeQuery(sql: string): Buffer {
  return new MessageWriter(sql.length + 16).begin("Q").cstring(sql).end().finish();
}

/** @param identity text, its zero byte, and the types, as in `ParseMessage.identity` */
export function encodeParse(name: string, identity: Uint8Array): Buffer {
  return new MessageWriter(identity.length + name.length + 16)
    .begin("P")
    .cstring(name)
    .bytes(identity)
    .end()
    .finish();
}

export function encodeParseSql(
  name: string,
  sql: string,
  parameterTypes: readonly number[],
): Buffer {
  const writer = new MessageWriter(sql.length + 64).begin("P").cstring(name).cstring(sql);
  writer.int16(parameterTypes.length);
  for (const type of parameterTypes) writer.int32(type);
  return writer.end().finish();
}

export function encodeBind(bind: BindMessage): Buffer {
  const writer = new MessageWriter().begin("B").cstring(bind.portal).cstring(bind.statement);
  writer.int16(bind.parameterFormats.length);
  for (const format of bind.parameterFormats) writer.int16(format);
  writer.int16(bind.parameters.length);
  for (const parameter of bind.parameters) writer.value(parameter);
  writer.int16(bind.resultFormats.length);
  for (const format of bind.resultFormats) writer.int16(format);
  return writer.end().finish();
}

/** The same Bind for another statement's name; parameters are copied as bytes. */
export function encodeRenamedBind(
  frame: Buffer,
  names: BindNames & { readonly valuesAt: number },
): Buffer {
  return new MessageWriter(frame.length + 32)
    .begin("B")
    .cstring(names.portal)
    .cstring(names.statement)
    .bytes(frame.subarray(names.valuesAt))
    .end()
    .finish();
}

export function encodeDescribe({ target, name }: TargetMessage): Buffer {
  const letter = target === "statement" ? 0x53 : 0x50;
  return new MessageWriter(32).begin("D").byte(letter).cstring(name).end().finish();
}

export function encodeClose({ target, name }: TargetMessage): Buffer {
  const letter = target === "statement" ? 0x53 : 0x50;
  return new MessageWriter(32).begin("C").byte(letter).cstring(name).end().finish();
}

export function encodeExecute(message: ExecuteMessage): Buffer {
  return new MessageWriter(32)
    .begin("E")
    .cstring(message.portal)
    .int32(message.maxRows)
    .end()
    .finish();
}

/** One CopyData of these bytes, one behind the other. */
export function encodeCopyData(pieces: readonly Buffer[]): Buffer {
  const header = Buffer.from([FRONTEND.copyData, 0, 0, 0, 0]);
  const message = Buffer.concat([header, ...pieces]);
  message.writeInt32BE(message.length - 1, 1);
  return message;
}

export function encodeCopyFail(reason: string): Buffer {
  return new MessageWriter().begin("f").cstring(reason).end().finish();
}

export function encodePassword(password: string): Buffer {
  return new MessageWriter().begin("p").cstring(password).end().finish();
}

export function encodeSaslInitial(mechanism: string, response: string): Buffer {
  const bytes = Buffer.from(response);
  return new MessageWriter().begin("p").cstring(mechanism).value(bytes).end().finish();
}

export function encodeSaslResponse(response: string): Buffer {
  return new MessageWriter().begin("p").string(response).end().finish();
}
