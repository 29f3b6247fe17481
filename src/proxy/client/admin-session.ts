import { SQLSTATE } from "../../core/sqlstate.js";
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  type ColumnDescription,
  EMPTY_QUERY,
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  NO_DATA,
  PARSE_COMPLETE,
  READY,
} from "../../wire/backend.js";
import { encodeError, encodeNotice, encodeThrown } from "../../wire/error-fields.js";
import type { Framer } from "../../wire/framer.js";
import {
  decodeBindNames,
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeTarget,
  FRONTEND,
} from "../../wire/frontend.js";
import { MessageWriter } from "../../wire/message-writer.js";
import { ProtocolViolation } from "../../wire/protocol-violation.js";
import type { AdminResult, AdminType, AdminValue, MainCalls } from "../channel.js";
import type { ClientConnection, ClientReceiver } from "./client-connection.js";

const TYPES: Readonly<Record<AdminType, { readonly id: number; readonly size: number }>> = {
  text: { id: 25, size: -1 },
  bigint: { id: 20, size: 8 },
  numeric: { id: 1700, size: -1 },
  bool: { id: 16, size: 1 },
};

const NO_PARAMETERS = new MessageWriter(8).begin("t").int16(0).end().finish();
const MOST_QUEUED = 100;

/** One client of the admin database. Statements go to the main process; errors never end the connection. */
export class AdminSession implements ClientReceiver {
  /** What drivers look at before they talk. */
  static readonly parameters: ReadonlyMap<string, string> = new Map([
    ["server_version", "16.0"],
    ["server_encoding", "UTF8"],
    ["client_encoding", "UTF8"],
    ["DateStyle", "ISO, MDY"],
    ["TimeZone", "UTC"],
    ["integer_datetimes", "on"],
    ["standard_conforming_strings", "on"],
  ]);
  readonly #client: ClientConnection;
  readonly #user: string;
  readonly #run: MainCalls["admin"];
  readonly #queue: { readonly type: number; readonly frame: Buffer }[] = [];
  readonly #statements = new Map<string, string>();
  readonly #portals = new Map<string, { readonly sql: string; result: AdminResult | null }>();
  #isPumping = false;
  #isSkipping = false;
  #isClosed = false;

  constructor(client: ClientConnection, user: string, run: MainCalls["admin"]) {
    this.#client = client;
    this.#user = user;
    this.#run = run;
  }

  read(framer: Framer): void {
    try {
      while (framer.next()) {
        const { type, buffer, start, end } = framer;
        this.#queue.push({ type, frame: buffer.subarray(start, end) });
      }
    } catch (error) {
      this.#client.end(encodeThrown(error, "FATAL"));
      return;
    }
    if (this.#queue.length > MOST_QUEUED) this.#client.socket.pause();
    if (!this.#isPumping) void this.#pump();
  }

  drained(): void {}

  closed(): void {
    this.#isClosed = true;
    this.#queue.length = 0;
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    for (let next = this.#queue.shift(); next && !this.#isClosed; next = this.#queue.shift()) {
      this.#client.socket.resume();
      try {
        await this.#message(next.type, next.frame);
      } catch (error) {
        this.#isSkipping = next.type !== FRONTEND.query;
        this.#client.write(encodeThrown(error));
        if (next.type === FRONTEND.query) this.#client.write(READY.I);
      }
    }
    this.#isPumping = false;
  }

  async #message(type: number, frame: Buffer): Promise<void> {
    if (type === FRONTEND.sync) {
      this.#isSkipping = false;
      this.#client.write(READY.I);
      return;
    }
    if (type === FRONTEND.terminate) {
      this.#client.end();
      return;
    }
    if (this.#isSkipping) return;
    if (type === FRONTEND.query) await this.#simple(decodeQuery(frame));
    else await this.#extended(type, frame);
  }

  async #simple(sql: string): Promise<void> {
    if (sql.replaceAll(/[;\s]/g, "") === "") {
      this.#client.write(Buffer.concat([EMPTY_QUERY, READY.I]));
      return;
    }
    const result = await this.#run(this.#user, sql);
    this.#client.write(Buffer.concat([...encodeResult(result, true), READY.I]));
  }

  async #extended(type: number, frame: Buffer): Promise<void> {
    switch (type) {
      case FRONTEND.parse: {
        const { name, sqlBytes } = decodeParse(frame);
        this.#statements.set(name, sqlBytes.toString("utf8"));
        this.#client.write(PARSE_COMPLETE);
        return;
      }
      case FRONTEND.bind: {
        const { portal, statement } = decodeBindNames(frame);
        const sql = this.#statements.get(statement);
        if (sql === undefined) throw new ProtocolViolation(`no statement "${statement}"`);
        this.#portals.set(portal, { sql, result: null });
        this.#client.write(BIND_COMPLETE);
        return;
      }
      case FRONTEND.describe: {
        const { target, name } = decodeTarget(frame);
        await this.#describe(target, name);
        return;
      }
      case FRONTEND.execute:
        await this.#execute(decodeExecute(frame).portal);
        return;
      case FRONTEND.close:
        this.#client.write(CLOSE_COMPLETE);
        return;
      case FRONTEND.flush:
        return;
      default:
        throw new ProtocolViolation(`message type ${type} in the admin database`);
    }
  }

  /** The columns are known from the answer only, so a portal is run when it is described. */
  async #describe(target: "statement" | "portal", name: string): Promise<void> {
    if (target === "statement") {
      this.#client.write(Buffer.concat([NO_PARAMETERS, NO_DATA]));
      return;
    }
    const portal = this.#portals.get(name);
    if (!portal) throw new ProtocolViolation(`no portal "${name}"`);
    portal.result ??= await this.#run(this.#user, portal.sql);
    const { result } = portal;
    this.#client.write(
      result.kind === "rows" ? encodeRowDescription(result.columns.map(describe)) : NO_DATA,
    );
  }

  async #execute(name: string): Promise<void> {
    const portal = this.#portals.get(name);
    if (!portal) throw new ProtocolViolation(`no portal "${name}"`);
    const result = portal.result ?? (await this.#run(this.#user, portal.sql));
    portal.result = null;
    this.#client.write(Buffer.concat(encodeResult(result, false)));
    if (result.kind === "error") this.#isSkipping = true;
  }
}

function encodeResult(result: AdminResult, withDescription: boolean): Buffer[] {
  if (result.kind === "error") return [encodeError(result)];
  const out = (result.notices ?? []).map((message) =>
    encodeNotice({ sqlState: SQLSTATE.successfulCompletion, message }),
  );
  if (result.kind === "rows") {
    if (withDescription) out.push(encodeRowDescription(result.columns.map(describe)));
    for (const row of result.rows) out.push(encodeDataRow(row.map(encodeValue)));
  }
  out.push(encodeCommandComplete(result.tag));
  return out;
}

function describe(column: { readonly name: string; readonly type: AdminType }): ColumnDescription {
  const { id, size } = TYPES[column.type];
  return {
    name: column.name,
    tableId: 0,
    columnNumber: 0,
    typeId: id,
    typeSize: size,
    typeModifier: -1,
    format: 0,
  };
}

function encodeValue(value: AdminValue): Buffer | null {
  if (value === null) return null;
  if (typeof value === "boolean") return Buffer.from(value ? "t" : "f");
  return Buffer.from(String(value));
}
