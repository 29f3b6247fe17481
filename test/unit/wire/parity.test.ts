import { PassThrough } from "node:stream";
import fc from "fast-check";
import { parse, serialize } from "pg-protocol";
import { describe, expect, it } from "vitest";
import {
  BIND_COMPLETE,
  encodeAuthenticationMd5,
  encodeBackendKeyData,
  encodeCommandComplete,
  encodeDataRow,
  encodeParameterStatus,
  encodeRowDescription,
  PARSE_COMPLETE,
  READY,
} from "../../../src/wire/backend.js";
import {
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeTarget,
  encodeBind,
  encodeExecute,
} from "../../../src/wire/frontend.js";
import { cases } from "../../support/cases.js";
import { decodeBind } from "./decode-bind.js";

/** Our codecs against another implementation of the protocol: the one that node-postgres uses. */

// Names and statements end at a zero byte, so they hold none.
const text = fc.string({ unit: "grapheme" }).filter((it) => !it.includes("\0"));
const values = fc.array(fc.option(text, { nil: null }), { maxLength: 20 });

describe("what pg-protocol writes for a server, we read", () => {
  it("Query, Parse, Bind, Execute, Describe", () => {
    fc.assert(
      fc.property(text, text, values, fc.nat(1_000), (name, sql, parameters, rows) => {
        expect(decodeQuery(serialize.query(sql))).toBe(sql);
        const parsed = decodeParse(serialize.parse({ name, text: sql, types: [20, 25] }));
        expect([parsed.name, parsed.sqlBytes.toString(), parsed.parameterTypes]).toEqual([
          name,
          sql,
          [20, 25],
        ]);
        const bind = { portal: "p", statement: name, values: parameters };
        const bound = decodeBind(serialize.bind(bind));
        expect(bound.statement).toBe(name);
        expect(bound.parameters.map((it) => it?.toString() ?? null)).toEqual(parameters);
        expect(decodeExecute(serialize.execute({ portal: name, rows }))).toEqual({
          portal: name,
          maxRows: rows,
        });
        for (const message of [serialize.describe, serialize.close])
          expect(decodeTarget(message({ type: "S", name }))).toEqual({ target: "statement", name });
      }),
    );
  });

  it("and we write the same bytes", () => {
    fc.assert(
      fc.property(text, values, (statement, parameters) => {
        const bytes = serialize.bind({ portal: "", statement, values: parameters });
        expect(encodeBind(decodeBind(bytes)).equals(bytes)).toBe(true);
        const execute = serialize.execute({ portal: statement, rows: 5 });
        expect(encodeExecute(decodeExecute(execute)).equals(execute)).toBe(true);
      }),
    );
  });
});

describe("what we write for a client, pg-protocol reads", () => {
  it("rows and their description, status and keys, however the bytes are cut", async () => {
    await fc.assert(
      fc.asyncProperty(values, fc.integer({ min: 1, max: 50 }), async (row, cut) => {
        const columns = row.map((_, index) => ({
          name: `c${index}`,
          tableId: 7,
          columnNumber: index,
          typeId: 25,
          typeSize: -1,
          typeModifier: -1,
          format: 0,
        }));
        const bytes = Buffer.concat([
          encodeAuthenticationMd5(Buffer.from("salt")),
          encodeParameterStatus("server_version", "17.0"),
          encodeBackendKeyData(42, Buffer.from([0, 0, 0, 9])),
          PARSE_COMPLETE,
          BIND_COMPLETE,
          encodeRowDescription(columns),
          encodeDataRow(row.map((value) => (value === null ? null : Buffer.from(value)))),
          encodeCommandComplete("SELECT 1"),
          READY.I,
        ]);
        const read = await readAll(bytes, cut);
        expect(read.map((message) => message.name)).toEqual([
          "authenticationMD5Password",
          "parameterStatus",
          "backendKeyData",
          "parseComplete",
          "bindComplete",
          "rowDescription",
          "dataRow",
          "commandComplete",
          "readyForQuery",
        ]);
        expect(read[1]).toMatchObject({ parameterName: "server_version", parameterValue: "17.0" });
        expect(read[2]).toMatchObject({ processID: 42, secretKey: 9 });
        expect(read[5]).toMatchObject({ fieldCount: row.length });
        expect(read[6]).toMatchObject({ fields: row });
      }),
      { numRuns: cases(50) },
    );
  });
});

type Message = Parameters<Parameters<typeof parse>[1]>[0] & { readonly name: string };

async function readAll(bytes: Buffer, cut: number): Promise<readonly Message[]> {
  const stream = new PassThrough();
  const messages: Message[] = [];
  const ended = parse(stream, (message) => messages.push(message as Message));
  for (let at = 0; at < bytes.length; at += cut) stream.write(bytes.subarray(at, at + cut));
  stream.end();
  await ended;
  return messages;
}
