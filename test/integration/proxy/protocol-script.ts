import {
  COPY_DONE,
  encodeBind,
  encodeCopyData,
  encodeCopyFail,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";

/** What is sent, and the letter of the message that ends PostgreSQL's answer to it. */
export interface Exchange {
  readonly send: readonly Buffer[];
  readonly until: string;
}

export interface Script {
  readonly name: string;
  readonly exchanges: readonly Exchange[];
}

const FLUSH = Buffer.from([0x48, 0, 0, 0, 4]);
export const S = SYNC;
export const H = FLUSH;
export const DONE = COPY_DONE;

export const Q = (sql: string) => encodeQuery(sql);
export const P = (sql: string, name = "", types: readonly number[] = []) =>
  encodeParseSql(name, sql, types);
export const E = (maxRows = 0, portal = "") => encodeExecute({ portal, maxRows });
export const D = (name = "") => encodeDescribe({ target: "portal", name });
export const DS = (name = "") => encodeDescribe({ target: "statement", name });
export const data = (text: string) => encodeCopyData([Buffer.from(text)]);
export const bytes = (hex: string) => encodeCopyData([Buffer.from(hex.replaceAll(" ", ""), "hex")]);
export const FAIL = encodeCopyFail("the client changed its mind");

export function B(
  values: readonly (string | null)[] = [],
  { portal = "", statement = "", results = [] as readonly number[] } = {},
): Buffer {
  const parameters = values.map((value) => (value === null ? null : Buffer.from(value)));
  return encodeBind({
    ...{ portal, statement, parameterFormats: [], parameters, resultFormats: results },
  });
}

export function close(target: "statement" | "portal", name: string): Buffer {
  const message = encodeDescribe({ target, name });
  message[0] = 0x43;
  return message;
}

export const to = (until: string, ...send: readonly Buffer[]): Exchange => ({ send, until });
export const z = (...send: readonly Buffer[]): Exchange => to("Z", ...send);
/** The last thing that each script does: what was owed too much, or too little, shows here. */
const PROOF = z(Q("SELECT 'proof' AS proof"));

export const script = (name: string, ...exchanges: readonly Exchange[]): Script => ({
  name,
  exchanges: [...exchanges, PROOF],
});
