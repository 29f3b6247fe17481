import fc from "fast-check";
import { serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { SluiceError } from "../../../src/core/errors.js";
import {
  decodeDataRow,
  decodeRowDescription,
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  READY,
} from "../../../src/wire/backend.js";
import { decodeErrorFields, encodeErrorFields } from "../../../src/wire/error-fields.js";
import { Framer } from "../../../src/wire/framer.js";
import {
  decodeBindNames,
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeStartup,
  decodeTarget,
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  encodeRenamedBind,
  encodeStartup,
  SYNC,
} from "../../../src/wire/frontend.js";
import { ProtocolViolation } from "../../../src/wire/protocol-violation.js";
import { cases } from "../../support/cases.js";
import { decodeBind } from "./decode-bind.js";

const bind = {
  portal: "p",
  statement: "näme",
  parameterFormats: [0, 1],
  parameters: [Buffer.from("text"), null, Buffer.from([0, 1, 2])],
  resultFormats: [1],
};
const stream = Buffer.concat([
  encodeParseSql("näme", "SELECT $1, $2, $3", [25, 0, 17]),
  encodeBind(bind),
  encodeDescribe({ target: "portal", name: "p" }),
  encodeExecute({ portal: "p", maxRows: 7 }),
  serialize.close({ type: "S", name: "näme" }),
  encodeQuery("SELECT 'ü'"),
  encodeDataRow([Buffer.from("x"), null]),
  encodeCommandComplete("SELECT 1"),
  READY.I,
  SYNC,
]);

function frames(chunks: readonly Buffer[]): string[] {
  const framer = new Framer();
  const found: string[] = [];
  for (const chunk of chunks) {
    framer.push(chunk);
    while (framer.next())
      found.push(framer.buffer.subarray(framer.start, framer.end).toString("hex"));
  }
  expect(framer.unread).toBe(0);
  return found;
}

describe("framer", () => {
  const whole = frames([stream]);

  test("messages joined", () => {
    expect(whole.join("")).toBe(stream.toString("hex"));
    expect(whole.length).toBe(10);
  });

  test("split at every byte", () => {
    for (let at = 1; at < stream.length; at++)
      expect(frames([stream.subarray(0, at), stream.subarray(at)])).toEqual(whole);
    expect(frames([...stream].map((byte) => Buffer.from([byte])))).toEqual(whole);
  });

  test("lengths that cannot be are a typed error", () => {
    for (const length of [-1, 0, 3, 0x7fffffff]) {
      const framer = new Framer();
      const header = Buffer.alloc(5, 0x51);
      header.writeInt32BE(length, 1);
      framer.push(header);
      expect(() => framer.next()).toThrow(ProtocolViolation);
    }
    const small = new Framer(20);
    small.push(encodeQuery("x".repeat(20)));
    expect(() => small.next()).toThrow(ProtocolViolation);
  });

  test("a start-up packet is followed by messages", () => {
    const framer = new Framer();
    const startup = encodeStartup(
      new Map([
        ["user", "me"],
        ["database", "mine"],
      ]),
    );
    framer.push(Buffer.concat([startup, SYNC]));
    expect(framer.nextStartup()).toBe(true);
    expect(decodeStartup(framer.buffer.subarray(framer.start, framer.end))).toEqual({
      kind: "startup",
      major: 3,
      minor: 0,
      parameters: new Map([
        ["user", "me"],
        ["database", "mine"],
      ]),
    });
    expect(framer.next()).toBe(true);
    expect(framer.type).toBe(0x53);
  });
});

describe("messages", () => {
  test("what is encoded is decoded", () => {
    expect(decodeBind(encodeBind(bind))).toEqual(bind);
    const parse = decodeParse(encodeParseSql("näme", "SELECT 1", [25]));
    expect([parse.name, parse.sqlBytes.toString(), parse.parameterTypes]).toEqual([
      "näme",
      "SELECT 1",
      [25],
    ]);
    expect(decodeQuery(encodeQuery("SELECT 'ü'"))).toBe("SELECT 'ü'");
    expect(decodeExecute(encodeExecute({ portal: "p", maxRows: 7 }))).toEqual({
      portal: "p",
      maxRows: 7,
    });
    expect(decodeTarget(encodeDescribe({ target: "portal", name: "p" }))).toEqual({
      target: "portal",
      name: "p",
    });
    expect(decodeDataRow(encodeDataRow([Buffer.from("x"), null]))).toEqual([
      Buffer.from("x"),
      null,
    ]);
    const column = {
      name: "c",
      tableId: 4_000_000_000,
      columnNumber: 1,
      typeId: 25,
      typeSize: -1,
      typeModifier: -1,
      format: 0,
    };
    expect(decodeRowDescription(encodeRowDescription([column]))).toEqual([column]);
    const fields = new Map([
      ["S", "ERROR"],
      ["C", "42P01"],
      ["M", "möglich"],
    ]);
    expect(decodeErrorFields(encodeErrorFields("E", fields))).toEqual(fields);
  });

  test("a renamed Bind keeps all but the name", () => {
    const frame = encodeBind(bind);
    const renamed = encodeRenamedBind(frame, { ...decodeBindNames(frame), statement: "sluice_1" });
    expect(decodeBind(renamed)).toEqual({ ...bind, statement: "sluice_1" });
  });

  test("any bytes give a message or a typed error, never a crash", () => {
    const decoders = [
      decodeBind,
      decodeParse,
      decodeQuery,
      decodeExecute,
      decodeTarget,
      decodeDataRow,
      decodeRowDescription,
      decodeErrorFields,
      decodeStartup,
      decodeBindNames,
    ];
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 5, maxLength: 60 }),
        fc.nat(decoders.length - 1),
        (bytes, which) => {
          try {
            decoders[which]?.(Buffer.from(bytes));
          } catch (error) {
            expect(error).toBeInstanceOf(SluiceError);
          }
        },
      ),
      { numRuns: cases(3_000) },
    );
  });
});
