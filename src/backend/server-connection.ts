import type { SluiceError } from "../core/errors.js";
import {
  BACKEND,
  decodeCommandTag,
  decodeDataRow,
  type TransactionStatus,
} from "../wire/backend.js";
import { decodeErrorFields, type ErrorResponseFields } from "../wire/error-fields.js";
import { encodeQuery } from "../wire/frontend.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { ServerConnectionLost } from "./server-errors.js";
import { type ConnectOptions, ServerLink, type ServerReceiver } from "./server-link.js";
import type { ServerOids } from "./server-oids.js";
import { ServerStatements } from "./server-statements.js";

/** What came of a statement of ours. */
export interface QueryOutcome {
  readonly rows: readonly (readonly (string | null)[])[];
  readonly tag: string;
  /** The server's refusal; later statements of the same string were skipped. */
  readonly error: ErrorResponseFields | null;
}

/**
 * A connection to a server as its one user has it, until he gives it back: then it is dead. Whoever still has it
 * in hand sends nothing, hears nothing and changes nothing of the session that somebody else may have by now; who
 * waits for an answer is told that it is lost. What becomes of the session, and when, is its pool's to say.
 */
export class ServerConnection {
  readonly address: ServerAddress;
  readonly processId: number;
  #link: ServerLink | null;
  readonly #takeBack: (link: ServerLink) => Promise<void> | null;
  #settled: Promise<void> | null = null;

  /** @param takeBack what becomes of the link; resolves when it is at rest or closed, null: it is already */
  constructor(link: ServerLink, takeBack: (link: ServerLink) => Promise<void> | null) {
    this.address = link.address;
    this.processId = link.processId;
    this.#link = link;
    this.#takeBack = takeBack;
  }

  /**
   * One of no pool, closed when given back.
   * @throws ServerUnreachable when no connection comes about in time
   * @throws ServerRefused with the server's own SQLSTATE
   */
  static async connect(address: ServerAddress, options: ConnectOptions): Promise<ServerConnection> {
    return new ServerConnection(await ServerLink.connect(address, options), (link) => {
      link.close();
      return null;
    });
  }

  /** It was given back. */
  get isOver(): boolean {
    return this.#link === null;
  }

  /** As the server reported them (ParameterStatus). */
  get parameters(): ReadonlyMap<string, string> {
    return this.#link?.parameters ?? new Map();
  }

  /** As of the last ReadyForQuery. */
  get transactionStatus(): TransactionStatus {
    return this.#link?.transactionStatus ?? "I";
  }

  get isIdleInTransaction(): boolean {
    return this.transactionStatus !== "I";
  }

  get isLost(): boolean {
    return this.#link?.isLost ?? true;
  }

  /** Those that exist in this session, as the server said. */
  get preparedStatements(): ServerStatements {
    return this.#link?.preparedStatements ?? new ServerStatements(1);
  }

  /** What the unnamed statement is, compared by identity; null: none, or somebody else's. */
  get unnamedStatement(): object | null {
    return this.#link?.unnamedStatement ?? null;
  }
  set unnamedStatement(statement: object | null) {
    if (this.#link) this.#link.unnamedStatement = statement;
  }

  /** Settings that differ from the session's defaults because we set them. */
  get appliedSettings(): ReadonlyMap<string, string> {
    return this.#link?.appliedSettings ?? new Map();
  }
  set appliedSettings(settings: ReadonlyMap<string, string>) {
    if (this.#link) this.#link.appliedSettings = settings;
  }

  /** Null: its numbers of types and tables are those that clients know. */
  get oids(): ServerOids | null {
    return this.#link?.oids ?? null;
  }
  set oids(oids: ServerOids | null) {
    if (this.#link) this.#link.oids = oids;
  }

  /** As the server reported them at login: what RESET goes back to. */
  get defaults(): ReadonlyMap<string, string> {
    return this.#link?.defaults ?? new Map();
  }

  /** A statement may have changed settings, and nobody has asked which: not for another client as it is. */
  get areSettingsUnknown(): boolean {
    return this.#link?.areSettingsUnknown ?? false;
  }
  set areSettingsUnknown(areUnknown: boolean) {
    if (this.#link) this.#link.areSettingsUnknown = areUnknown;
  }

  /** Something besides settings may be left in the session: it gets DISCARD ALL before anybody else gets it. */
  get isSoiled(): boolean {
    return this.#link?.isSoiled ?? false;
  }
  set isSoiled(isSoiled: boolean) {
    if (this.#link) this.#link.isSoiled = isSoiled;
  }

  /** The schema that `preparedStatements` were made under, as their owner counts. */
  get schemaGeneration(): number {
    return this.#link?.schemaGeneration ?? 0;
  }
  set schemaGeneration(generation: number) {
    if (this.#link) this.#link.schemaGeneration = generation;
  }

  /** Hands the messages to another receiver; null: they are dropped. */
  use(receiver: ServerReceiver | null): void {
    const link = this.#link;
    if (link) link.receiver = receiver;
    if (receiver && (!link || link.isLost)) receiver.closed(link?.lostBecause ?? this.#givenBack());
  }

  /** @param messages whole ones @returns false when the sender should wait for `drained` before more */
  send(messages: Buffer): boolean {
    return this.#link?.send(messages) ?? true;
  }

  /** Back-pressure: stops reading until `resume`. */
  pause(): void {
    this.#link?.pause();
  }

  resume(): void {
    this.#link?.resume();
  }

  /**
   * Runs statements of ours by the simple protocol and takes their rows as text. The receiver in place is
   * put aside meanwhile. Only while nothing else is in flight.
   * @throws ServerConnectionLost
   */
  async query(sql: string): Promise<QueryOutcome> {
    return await this.ask(encodeQuery(sql));
  }

  /**
   * The same for messages of ours that one ReadyForQuery answers.
   * @throws ServerConnectionLost
   */
  async ask(messages: Buffer): Promise<QueryOutcome> {
    const before = this.#link?.receiver ?? null;
    this.unnamedStatement = null;
    try {
      return await new Promise<QueryOutcome>((resolve, reject) => {
        this.use(new Collector(resolve, reject));
        this.send(messages);
      });
    } finally {
      if (this.#link) this.#link.receiver = before;
    }
  }

  /** What the client hears in the place of the server's 57014 when what runs is cancelled; null: that. */
  set cancelReason(reason: Buffer | null) {
    if (this.#link) this.#link.cancelReason = reason;
  }

  /** Asks the server, over a connection of its own, to cancel what runs here. Never throws. */
  async cancel(): Promise<void> {
    await this.#link?.cancel();
  }

  /** A request to cancel is on its way, and could hit what is sent next; resolves when that cannot be any more. */
  get cancelling(): Promise<void> | null {
    return this.#link?.cancelling ?? null;
  }

  /** After DISCARD ALL: the account of the session begins anew. */
  forgetSession(): void {
    this.#link?.forgetSession();
  }

  /** Ends its use, whatever is in flight. */
  giveBack(): void {
    const link = this.#link;
    if (!link) return;
    this.#link = null;
    const { receiver } = link;
    link.receiver = null;
    if (receiver && !link.isAtRest) receiver.closed(this.#givenBack());
    this.#settled = this.#takeBack(link);
  }

  /** After `giveBack`: resolves when what was in flight is over; null: nothing was. */
  get settled(): Promise<void> | null {
    return this.#settled;
  }

  #givenBack(): ServerConnectionLost {
    return new ServerConnectionLost(describeAddress(this.address), {
      detail: "It was given back.",
    });
  }
}

class Collector implements ServerReceiver {
  readonly #resolve: (outcome: QueryOutcome) => void;
  readonly #reject: (error: SluiceError) => void;
  readonly #rows: (string | null)[][] = [];
  #tag = "";
  #error: ErrorResponseFields | null = null;

  constructor(resolve: (outcome: QueryOutcome) => void, reject: (error: SluiceError) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
  }

  frame(type: number, buffer: Buffer, start: number, end: number): void {
    const frame = buffer.subarray(start, end);
    if (type === BACKEND.dataRow)
      this.#rows.push(decodeDataRow(frame).map((value) => value?.toString("utf8") ?? null));
    else if (type === BACKEND.commandComplete) this.#tag = decodeCommandTag(frame);
    else if (type === BACKEND.error) this.#error = decodeErrorFields(frame);
    else if (type === BACKEND.readyForQuery)
      this.#resolve({ rows: this.#rows, tag: this.#tag, error: this.#error });
  }

  chunkEnd(): void {}
  drained(): void {}
  closed(error: SluiceError): void {
    this.#reject(error);
  }
}
