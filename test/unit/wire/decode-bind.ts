import { type BindMessage, decodeBindNames, decodeBindValues } from "../../../src/wire/frontend.js";

/** The whole message; the proxy decodes names and values where it needs each. */
export function decodeBind(frame: Buffer): BindMessage {
  const { portal, statement, valuesAt } = decodeBindNames(frame);
  return { portal, statement, ...decodeBindValues(frame, valuesAt) };
}
