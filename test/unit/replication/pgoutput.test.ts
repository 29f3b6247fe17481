import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SluiceError } from "../../../src/core/errors.js";
import { decodePgoutput, type PgoutputHandler } from "../../../src/replication/pgoutput.js";
import { tupleTexts } from "../../../src/replication/tuple.js";
import { cases } from "../../support/cases.js";

/**
 * As PostgreSQL 15.18 wrote them, protocol 1 with messages: t (id int PRIMARY KEY, m mood, body text with
 * STORAGE EXTERNAL), f (a int, b text) under REPLICA IDENTITY FULL.
 */
const CAPTURED: Readonly<Record<string, string>> = {
  begin: "4200000000015336d0000303e08d0a62b6000002d6",
  type: "59000040017075626c6963006d6f6f6400",
  relation:
    "52000040037075626c69630074006400030169640000000017ffffffff006d0000004001ffffffff00626f64790000000019ffffffff",
  insert: `49000040034e0003740000000131740000000568617070797400000bb8${"78".repeat(3000)}`,
  insertWithNull: "49000040034e00037400000001326e7400000002c3a9",
  updateUnchanged: "55000040034e00037400000001316e75",
  updateKey: "55000040034b00037400000001326e6e4e00037400000001336e7400000002c3a9",
  delete: "44000040034b00037400000001336e6e",
  commit: "430000000000015336d00000000001533700000303e08d0a62b6",
  relationFull: "520000400a7075626c696300660066000201610000000017ffffffff01620000000019ffffffff",
  updateFull: "550000400a4f00027400000001317400000001784e0002740000000131740000000179",
  deleteFull: "440000400a4f0002740000000131740000000179",
  origin: "4f0000000000000000736c756963655f6f00",
  message: "4d0100000000015338d8736c75696365000000000568656c6c6f",
  truncate: "540000000200000040030000400a",
};

/** Writes down what the decoder says. */
function recorder(): { readonly said: unknown[]; readonly handler: PgoutputHandler } {
  const said: unknown[] = [];
  const texts = (bytes: Buffer, at: number) => (at < 0 ? null : tupleTexts({ bytes, at }));
  return {
    said,
    handler: {
      begin: (finalLsn, _time, xid) => said.push(["begin", finalLsn, xid]),
      commit: (endLsn) => said.push(["commit", endLsn]),
      origin: (name) => said.push(["origin", name]),
      relation: (relation) => said.push(["relation", relation]),
      insert: (id, bytes, at) => said.push(["insert", id, texts(bytes, at)]),
      update: (id, bytes, oldAt, isOldWhole, at) =>
        said.push(["update", id, texts(bytes, oldAt), isOldWhole, texts(bytes, at)]),
      delete: (id, bytes, at) => said.push(["delete", id, texts(bytes, at)]),
      truncate: (ids) => said.push(["truncate", ids]),
      message: (message) => said.push(["message", message]),
    },
  };
}

function decode(hex: string): unknown {
  const { said, handler } = recorder();
  // Not at the buffer's edges: a decoder that reads past its message would find bytes there.
  const bytes = Buffer.concat([
    Buffer.alloc(7, 0xff),
    Buffer.from(hex, "hex"),
    Buffer.alloc(64, 1),
  ]);
  decodePgoutput(bytes, 7, bytes.length - 64, handler);
  return said[0] ?? null;
}

describe("pgoutput, as a server wrote it", () => {
  it.each([
    ["begin", ["begin", 0x15336d0n, 0x2d6]],
    ["type", null],
    ["insert", ["insert", 0x4003, ["1", "happy", "x".repeat(3000)]]],
    ["insertWithNull", ["insert", 0x4003, ["2", null, "é"]]],
    ["updateUnchanged", ["update", 0x4003, null, false, ["1", null, undefined]]],
    ["updateKey", ["update", 0x4003, ["2", null, null], false, ["3", null, "é"]]],
    ["delete", ["delete", 0x4003, ["3", null, null]]],
    ["commit", ["commit", 0x1533700n]],
    ["updateFull", ["update", 0x400a, ["1", "x"], true, ["1", "y"]]],
    ["deleteFull", ["delete", 0x400a, ["1", "y"]]],
    ["origin", ["origin", "sluice_o"]],
    ["truncate", ["truncate", [0x4003, 0x400a]]],
  ])("%s", (name, expected) => {
    expect(decode(CAPTURED[name] ?? "")).toEqual(expected);
  });

  it("relation", () => {
    expect(decode(CAPTURED.relation ?? "")).toEqual([
      "relation",
      {
        id: 0x4003,
        schema: "public",
        name: "t",
        identity: "d",
        columns: [
          { name: "id", isKey: true, typeOid: 23, typeModifier: -1 },
          { name: "m", isKey: false, typeOid: 0x4001, typeModifier: -1 },
          { name: "body", isKey: false, typeOid: 25, typeModifier: -1 },
        ],
      },
    ]);
    expect(decode(CAPTURED.relationFull ?? "")).toMatchObject(["relation", { identity: "f" }]);
  });

  it("message", () => {
    expect(decode(CAPTURED.message ?? "")).toEqual([
      "message",
      { isTransactional: true, lsn: 0x15338d8n, prefix: "sluice", content: "hello" },
    ]);
  });
});

describe("what no server writes", () => {
  it.each(Object.keys(CAPTURED))("%s cut short, or too long, is a typed error", (name) => {
    const hex = CAPTURED[name] ?? "";
    for (const length of [0, 1, 2, 5, 9, 12, hex.length / 2 - 1])
      if (length < hex.length / 2)
        expect(() => decode(hex.slice(0, length * 2))).toThrow(SluiceError);
    expect(() => decode(`${hex}00`)).toThrow(SluiceError);
  });

  it("streamed and two-phase transactions are refused, not skipped", () => {
    expect(() => decode("53000002d601")).toThrow(
      expect.objectContaining({ code: "SLUICE_STREAM_UNSUPPORTED_CHANGE" }),
    );
    expect(() => decode("7a")).toThrow(
      expect.objectContaining({ code: "SLUICE_STREAM_MALFORMED" }),
    );
  });

  it("changed bytes never crash it and never make it read past the message", () => {
    const messages = Object.values(CAPTURED).filter((hex) => hex.length < 300);
    fc.assert(
      fc.property(
        fc.constantFrom(...messages),
        fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (hex, changes) => {
          const bytes = Buffer.from(hex, "hex");
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          try {
            decode(bytes.toString("hex"));
          } catch (error) {
            if (!(error instanceof SluiceError)) throw error;
          }
        },
      ),
      { numRuns: cases(5_000) },
    );
  });
});
