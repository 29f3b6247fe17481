import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BINARY_HEADER,
  BINARY_HEADER_BYTES,
  binaryHeaderLength,
  hasCriticalFlags,
  isBinaryHeader,
  withoutEscapes,
} from "../../../src/wire/copy-format.js";

const read = (text: string) => {
  const bytes = Buffer.from(`<${text}>`, "latin1");
  return withoutEscapes(bytes, 1, bytes.length - 1).toString("latin1");
};

describe("escapes of the text format", () => {
  test.each([
    ["plain", "plain"],
    ["\\\\", "\\"],
    ["a\\tb\\nc\\rd\\be\\ff\\vg", "a\tb\nc\rd\be\ff\vg"],
    ["\\a\\.\\N", "a.N"],
    ["\\101\\1011", "AA1"],
    ["\\0", "\0"],
    ["\\8", "8"],
    ["\\777", "\xff"],
    ["\\x41\\x4\\x4g\\x4142", "A\x04\x04gA42"],
    ["\\X41\\xg\\x", "X41xgx"],
    ["\\xaF", "\xaf"],
    // At the field's end a backslash stands for itself.
    ["a\\", "a\\"],
    ["\\10", "\b"],
  ])("%j is %j", (text, value) => {
    expect(read(text)).toBe(value);
  });

  test("as the plain way reads them", () => {
    const letters: Record<string, string> = {
      b: "\b",
      f: "\f",
      n: "\n",
      r: "\r",
      t: "\t",
      v: "\v",
    };
    const plainly = (text: string) =>
      text.replaceAll(/\\(?:([0-7]{1,3})|x([0-9a-f]{1,2})|([\s\S]))/gi, (_, octal, hex, other) => {
        if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 255);
        if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
        return letters[other] ?? other;
      });
    const part = fc.constantFrom("\\", "x", "X", "0", "7", "8", "9", "a", "F", "g", "n", "t", "N");
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const text = parts.join("");
        // "X" begins no number: the expression above is case-blind for the digits' sake.
        fc.pre(!text.includes("\\X"));
        expect(read(text)).toBe(plainly(text));
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("the binary header", () => {
  test("is known by its signature, its critical flags and its extension", () => {
    expect(BINARY_HEADER.length).toBe(BINARY_HEADER_BYTES);
    const stream = Buffer.concat([Buffer.from("zz"), BINARY_HEADER]);
    expect(isBinaryHeader(stream, 2)).toBe(true);
    expect(isBinaryHeader(stream, 0)).toBe(false);
    expect(hasCriticalFlags(stream, 2)).toBe(false);
    expect(binaryHeaderLength(stream, 2)).toBe(19);
    stream.writeUInt32BE(0xffff, 13);
    stream.writeUInt32BE(7, 17);
    expect(hasCriticalFlags(stream, 2)).toBe(false);
    expect(binaryHeaderLength(stream, 2)).toBe(26);
    stream.writeUInt32BE(1 << 16, 13);
    expect(hasCriticalFlags(stream, 2)).toBe(true);
  });
});
