import type { ServerConnection } from "../../../backend/server-connection.js";
import type { CopyInPlan } from "../../../router/route.js";
import { BACKEND, NO_DATA } from "../../../wire/backend.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import { COPY_DONE, encodeCopyFail, encodeQuery } from "../../../wire/frontend.js";
import type { ScatterInput, ScatterOutcome } from "./contract.js";
import { BinaryCopyRows } from "./copy-binary-rows.js";
import { ALL_SHARDS, type CopyEmit, type CopyRows, UnsplitCopy } from "./copy-rows.js";
import { TextCopyRows } from "./copy-text-rows.js";
import { type AnswerHandler, type ShardEnd, ShardStatement } from "./shard-statement.js";
import { addTags } from "./tags.js";

/** Rows of one shard go out in messages of this size. */
const FRAME_BYTES = 64 * 1024;
const HEADER_BYTES = 5;

/** One shard's end of the copy. */
class CopyTarget implements AnswerHandler {
  readonly #events: () => void;
  readonly #sink: ScatterInput["sink"] | null;
  #statement: ShardStatement | null = null;
  #frame = Buffer.allocUnsafe(HEADER_BYTES + FRAME_BYTES);
  #length = HEADER_BYTES;
  response: Buffer | null = null;
  end: ShardEnd | null = null;
  isFull = false;
  done: Promise<ShardEnd> = Promise.resolve({ kind: "complete", tags: [] });

  /** @param events called when something has changed: response, end, room for more */
  constructor(sink: ScatterInput["sink"] | null, events: () => void) {
    this.#sink = sink;
    this.#events = events;
  }

  start(connection: ServerConnection, sql: string): void {
    this.#statement = new ShardStatement(connection, this);
    // The simple protocol, whatever the client's: COPY binds nothing, and no Sync can come too early.
    this.done = this.#statement.run(encodeQuery(sql)).then((end) => {
      this.end = end;
      this.#events();
      return end;
    });
  }

  append(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      const room = Math.min(this.#frame.length - this.#length, bytes.length - at);
      bytes.copy(this.#frame, this.#length, at, at + room);
      this.#length += room;
      at += room;
      if (this.#length === this.#frame.length) this.flush();
    }
  }

  flush(): void {
    if (this.#length === HEADER_BYTES) return;
    this.#frame[0] = BACKEND.copyData;
    this.#frame.writeInt32BE(this.#length - 1, 1);
    this.send(this.#frame.subarray(0, this.#length));
    // The socket may keep what it was given until it can write it.
    this.#frame = Buffer.allocUnsafe(HEADER_BYTES + FRAME_BYTES);
    this.#length = HEADER_BYTES;
  }

  send(bytes: Buffer): void {
    if (this.end !== null) return;
    if (this.#statement?.connection.send(bytes) === false) this.isFull = true;
  }

  description(): void {}
  rows(): void {}

  notice(frame: Buffer): void {
    this.#sink?.write(frame);
  }

  copyIn(frame: Buffer): void {
    this.response = Buffer.from(frame);
    this.#events();
  }

  drained(): void {
    this.isFull = false;
    this.#events();
  }
}

/** COPY ... FROM STDIN over all shards: each row to its shard, at the pace of the slowest. */
export class CopyIn {
  readonly #input: ScatterInput;
  readonly #rows: CopyRows;
  readonly #targets: readonly CopyTarget[];
  readonly #isDealt: boolean;
  /** Once for the whole copy: one per message would pile up. */
  #failed: Promise<null> | null = null;
  readonly #waiters = new Set<() => void>();

  constructor(input: ScatterInput, plan: CopyInPlan) {
    this.#input = input;
    const { shards } = input.servers;
    this.#targets = shards.map(
      (_, index) => new CopyTarget(index === 0 ? input.sink : null, () => this.#wake()),
    );
    this.#isDealt = plan.keyColumn >= 0;
    this.#rows = rowsFor(plan, shards.length, (shard, bytes) => this.#deal(shard, bytes));
  }

  async run(): Promise<ScatterOutcome> {
    const { servers, request, sink } = this.#input;
    const connections: ServerConnection[] = [];
    try {
      for (const shard of servers.shards) connections.push(await servers.acquire(shard));
    } catch (error) {
      return { kind: "failed", error: encodeThrown(error) };
    }
    for (const [index, connection] of connections.entries()) {
      this.#targets[index]?.start(connection, request.sql);
    }
    await this.#until(() =>
      this.#targets.every((one) => one.response !== null || one.end !== null),
    );
    const response = this.#targets[0]?.response;
    if (this.#firstError() === null && response) {
      if (request.protocol === "extended" && request.wantsDescription) sink.write(NO_DATA);
      sink.write(response);
      const failure = await this.#transfer();
      if (failure !== null) return await this.#giveUp(failure);
    }
    return await this.#settle();
  }

  /** @returns why the copy was given up; null: all data was sent, or a shard has failed */
  async #transfer(): Promise<{ readonly reason: string; readonly error: Buffer | null } | null> {
    const { copySource } = this.#input;
    for (;;) {
      await this.#until(
        () => this.#firstError() !== null || !this.#targets.some((one) => one.isFull),
      );
      if (this.#firstError() !== null) return null;
      const next = await this.#unlessFailed(copySource.next());
      if (next === null) return null;
      try {
        if (next.kind === "data") forEachPayload(next.frames, (bytes) => this.#rows.push(bytes));
        else if (next.kind === "failed") return { reason: next.reason, error: null };
        else {
          this.#rows.finish();
          return null;
        }
        // What is wrong with a row is told before the client has sent the rest.
        if (!copySource.hasMore) for (const target of this.#targets) target.flush();
      } catch (error) {
        return { reason: "the proxy could not deal out the rows", error: encodeThrown(error) };
      }
    }
  }

  /** null: a shard failed before the client said more. */
  async #unlessFailed<T>(next: Promise<T>): Promise<T | null> {
    this.#failed ??= this.#until(() => this.#firstError() !== null).then(() => null);
    return await Promise.race([next, this.#failed]);
  }

  async #settle(): Promise<ScatterOutcome> {
    const failed = this.#firstError();
    if (failed !== null)
      return await this.#giveUp({ reason: "another shard failed", error: failed });
    for (const target of this.#targets) {
      target.flush();
      target.send(COPY_DONE);
    }
    const ends = await Promise.all(this.#targets.map((target) => target.done));
    const error = this.#firstError();
    if (error !== null) return { kind: "failed", error };
    const tags = ends.map((end) => (end.kind === "complete" ? (end.tags.at(-1) ?? "") : ""));
    return { kind: "complete", tag: this.#isDealt ? addTags(tags) : (tags[0] ?? "") };
  }

  /** Every shard ends its copy with an error, so nothing of it stays. */
  async #giveUp(failure: {
    readonly reason: string;
    readonly error: Buffer | null;
  }): Promise<ScatterOutcome> {
    const message = encodeCopyFail(failure.reason);
    for (const target of this.#targets) target.send(message);
    const ends = await Promise.all(this.#targets.map((target) => target.done));
    const [first] = ends.flatMap((end) => (end.kind === "failed" ? [end.error] : []));
    const error = failure.error ?? first;
    return error === undefined ? { kind: "complete", tag: "COPY 0" } : { kind: "failed", error };
  }

  #firstError(): Buffer | null {
    for (const { end } of this.#targets) if (end?.kind === "failed") return end.error;
    return null;
  }

  #deal(shard: number, bytes: Buffer): void {
    if (shard !== ALL_SHARDS) this.#targets[shard]?.append(bytes);
    else for (const target of this.#targets) target.append(bytes);
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  async #until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => {
      const waiter = () => {
        if (!condition()) return;
        this.#waiters.delete(waiter);
        resolve();
      };
      this.#waiters.add(waiter);
    });
  }
}

/** One payload per CopyData message; `frames` holds whole ones. */
export function forEachPayload(frames: Buffer, visit: (payload: Buffer) => void): void {
  for (let at = 0; at < frames.length; ) {
    const end = at + 1 + frames.readInt32BE(at + 1);
    visit(frames.subarray(at + HEADER_BYTES, end));
    at = end;
  }
}

export function rowsFor(plan: CopyInPlan, shardCount: number, emit: CopyEmit): CopyRows {
  if (plan.keyColumn < 0 && plan.drawn === null) return new UnsplitCopy(emit);
  const lookup = { plan, shardCount };
  return plan.format === "binary"
    ? new BinaryCopyRows(lookup, emit)
    : new TextCopyRows(lookup, emit);
}
