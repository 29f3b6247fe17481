import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BinaryCopySplitter,
  CopyBroadcast,
  type CopyOutput,
  type CopySplitter,
  CopyStreamMalformed,
  type KeyRouter,
} from "../../../src/replication/copy-splitter.js";
import { TextCopySplitter } from "../../../src/replication/copy-text-splitter.js";
import { BINARY_HEADER, BINARY_TRAILER } from "../../../src/wire/copy-format.js";

type Field = Buffer | null;

class Collected implements CopyOutput {
  bytes = Buffer.alloc(0);
  wait: Promise<void> | null = null;
  append(bytes: Buffer, start: number, end: number): void {
    this.bytes = Buffer.concat([this.bytes, bytes.subarray(start, end)]);
  }
  pressure(): Promise<void> | null {
    return this.wait;
  }
}

function binaryRow(fields: readonly Field[]): Buffer {
  const parts: Buffer[] = [int16(fields.length)];
  for (const field of fields) {
    parts.push(int32(field === null ? -1 : field.length));
    if (field) parts.push(field);
  }
  return Buffer.concat(parts);
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** By the last byte of the key; NULL to output 0. */
const byLastByte: KeyRouter = (bytes, start, end) => (start < 0 ? 0 : (bytes[end - 1] ?? 0) % 2);

const ROWS: readonly (readonly Field[])[] = [
  [Buffer.from("a"), int32(2), null],
  [Buffer.alloc(0), int32(3), Buffer.from("long value")],
  [null, null, null],
  [Buffer.from("\n\t\\"), int32(255), Buffer.alloc(0)],
];
const OTHER_OUTPUT = [1, 3];

function feed(splitter: CopySplitter, pieces: readonly Buffer[]): void {
  for (const piece of pieces) splitter.push(piece, 0, piece.length);
  splitter.finish();
}

function expectedOf(rows: readonly (readonly Field[])[], indexes: readonly number[]): Buffer {
  return Buffer.concat([
    BINARY_HEADER,
    ...rows.filter((_, index) => indexes.includes(index)).map(binaryRow),
    BINARY_TRAILER,
  ]);
}

const STREAM = Buffer.concat([BINARY_HEADER, ...ROWS.map(binaryRow), BINARY_TRAILER]);

describe("binary COPY splitter", () => {
  test("deals whole rows however the stream is cut, at every byte", () => {
    for (let at = 0; at <= STREAM.length; at++) {
      const outputs = [new Collected(), new Collected()];
      const splitter = new BinaryCopySplitter(outputs, 1, byLastByte);
      feed(splitter, [STREAM.subarray(0, at), STREAM.subarray(at)]);
      expect(outputs[0]?.bytes, `cut at ${at}`).toEqual(expectedOf(ROWS, [0, 2]));
      expect(outputs[1]?.bytes, `cut at ${at}`).toEqual(expectedOf(ROWS, OTHER_OUTPUT));
      expect(splitter.rowCount).toBe(4);
      expect(splitter.byteCount).toBe(STREAM.length);
    }
  });

  test("a row may come in many chunks, byte by byte", () => {
    const outputs = [new Collected(), new Collected()];
    const splitter = new BinaryCopySplitter(outputs, 1, byLastByte);
    feed(
      splitter,
      Array.from(STREAM, (_, index) => STREAM.subarray(index, index + 1)),
    );
    expect(outputs[0]?.bytes).toEqual(expectedOf(ROWS, [0, 2]));
    expect(outputs[1]?.bytes).toEqual(expectedOf(ROWS, OTHER_OUTPUT));
  });

  test("reads only the part of the buffer that it is given", () => {
    const padded = Buffer.concat([Buffer.from("xxx"), STREAM, Buffer.from("yyyy")]);
    const outputs = [new Collected(), new Collected()];
    const splitter = new BinaryCopySplitter(outputs, 1, byLastByte);
    splitter.push(padded, 3, 3 + STREAM.length);
    splitter.finish();
    expect(outputs[0]?.bytes).toEqual(expectedOf(ROWS, [0, 2]));
  });

  test("property: any rows, any cuts", () => {
    const field = fc.option(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      { nil: null },
    );
    const rows = fc.array(fc.array(field, { minLength: 3, maxLength: 3 }), { maxLength: 12 });
    fc.assert(
      fc.property(rows, fc.array(fc.nat(), { maxLength: 10 }), (fields, cuts) => {
        const stream = Buffer.concat([BINARY_HEADER, ...fields.map(binaryRow), BINARY_TRAILER]);
        const at = [0, ...cuts.map((cut) => cut % stream.length).sort((a, b) => a - b)];
        const outputs = [new Collected(), new Collected()];
        feed(
          new BinaryCopySplitter(outputs, 2, byLastByte),
          at.map((cut, index) => stream.subarray(cut, at[index + 1] ?? stream.length)),
        );
        for (const [number, output] of outputs.entries()) {
          const indexes = fields.flatMap((row, index) => {
            const key = row[2] ?? null;
            return byLastByte(key ?? stream, key ? 0 : -1, key?.length ?? 0) === number
              ? [index]
              : [];
          });
          expect(output.bytes).toEqual(expectedOf(fields, indexes));
        }
      }),
    );
  });

  test("skips the header's extension", () => {
    const extension = Buffer.from("whatever");
    const header = Buffer.concat([
      BINARY_HEADER.subarray(0, 15),
      int32(extension.length),
      extension,
    ]);
    const stream = Buffer.concat([header, ...ROWS.map(binaryRow), BINARY_TRAILER]);
    for (let at = 0; at <= header.length + 3; at++) {
      const outputs = [new Collected(), new Collected()];
      feed(new BinaryCopySplitter(outputs, 1, byLastByte), [
        stream.subarray(0, at),
        stream.subarray(at),
      ]);
      expect(outputs[1]?.bytes).toEqual(expectedOf(ROWS, OTHER_OUTPUT));
    }
  });

  test.each([
    ["no signature", Buffer.alloc(30)],
    ["critical flag", Buffer.concat([BINARY_HEADER.subarray(0, 11), int32(1 << 16), int32(0)])],
    ["negative length", Buffer.concat([BINARY_HEADER, int16(2), int32(-2), int32(0)])],
    ["too few fields", Buffer.concat([BINARY_HEADER, int16(1), int32(0)])],
    ["bytes after the trailer", Buffer.concat([STREAM, Buffer.from("x")])],
  ])("malformed: %s", (_, bytes) => {
    const splitter = new BinaryCopySplitter([new Collected()], 1, () => 0);
    expect(() => splitter.push(bytes, 0, bytes.length)).toThrow(CopyStreamMalformed);
  });

  test("a stream that ends without its trailer, at any byte, is not taken for whole", () => {
    for (let at = 0; at < STREAM.length; at++) {
      const splitter = new BinaryCopySplitter([new Collected(), new Collected()], 1, byLastByte);
      splitter.push(STREAM, 0, at);
      expect(() => splitter.finish(), `ended at ${at}`).toThrow(CopyStreamMalformed);
    }
  });

  test("the slowest output holds back the source", async () => {
    const outputs = [new Collected(), new Collected()];
    const splitter = new BinaryCopySplitter(outputs, 1, byLastByte);
    expect(splitter.pressure()).toBeNull();
    let release = () => {};
    const slow = outputs[1];
    if (slow)
      slow.wait = new Promise((resolve) => {
        release = resolve;
      });
    const pressure = splitter.pressure();
    expect(pressure).not.toBeNull();
    release();
    await pressure;
  });
});

test("broadcast: all bytes to all outputs", () => {
  const outputs = [new Collected(), new Collected()];
  feed(new CopyBroadcast(outputs), [STREAM.subarray(0, 7), STREAM.subarray(7)]);
  for (const output of outputs) expect(output.bytes).toEqual(STREAM);
});

describe("text COPY splitter", () => {
  const lines = ["a\t2\t\\N\n", "\t3\tlong value\n", "x\t\\N\ty\n", "tab\\tnewline\\n\t5\t\\\\\n"];
  const text = Buffer.from(lines.join(""));
  const byDigit: KeyRouter = (bytes, start, end) =>
    start < 0 ? 0 : Number(bytes.toString("utf8", start, end)) % 2;

  test("deals whole rows however the stream is cut, at every byte", () => {
    for (let at = 0; at <= text.length; at++) {
      const outputs = [new Collected(), new Collected()];
      const splitter = new TextCopySplitter(outputs, 1, byDigit);
      feed(splitter, [text.subarray(0, at), text.subarray(at)]);
      expect(outputs[0]?.bytes.toString()).toBe(`${lines[0]}${lines[2]}`);
      expect(outputs[1]?.bytes.toString()).toBe(`${lines[1]}${lines[3]}`);
      expect(splitter.rowCount).toBe(4);
    }
  });

  test("the key is routed without its escapes", () => {
    const keys: string[] = [];
    const splitter = new TextCopySplitter([new Collected()], 0, (bytes, start, end) => {
      keys.push(start < 0 ? "NULL" : bytes.toString("utf8", start, end));
      return 0;
    });
    feed(splitter, [
      Buffer.from("a\\tb\\\\c\\n\\r\\b\\f\\v\t1\n\\N\t2\n\\\\N\t3\n日本語\t4\n\t5\n"),
    ]);
    expect(keys).toEqual(["a\tb\\c\n\r\b\f\v", "NULL", "\\N", "日本語", ""]);
  });

  test("a stream that ends within a row is not taken for whole", () => {
    const splitter = new TextCopySplitter([new Collected(), new Collected()], 1, byDigit);
    splitter.push(text, 0, text.length - 1);
    expect(() => splitter.finish()).toThrow(CopyStreamMalformed);
  });

  test("a row without the key's field is malformed", () => {
    const splitter = new TextCopySplitter([new Collected()], 3, () => 0);
    expect(() => splitter.push(text, 0, text.length)).toThrow(CopyStreamMalformed);
  });
});
