import { SQLSTATE } from "../../core/sqlstate.js";
import { encodeClose } from "../../wire/frontend.js";
import type { Expectation } from "../execution/relay.js";
import { StatementRefused } from "../session-errors.js";
import type { Cursor } from "./open-cursors.js";
import type { PipelineAnswers } from "./pipeline-answers.js";
import type { Portal } from "./portal.js";
import type { ShardedStatements } from "./statements.js";

/** The portals of a session by name. They end with their transaction, and share their names with SQL's cursors. */
export class OpenPortals {
  readonly #statements: ShardedStatements;
  readonly #answers: PipelineAnswers;
  readonly #portals = new Map<string, Portal>();

  constructor(statements: ShardedStatements, answers: PipelineAnswers) {
    this.#statements = statements;
    this.#answers = answers;
  }

  /** null: there is none in this transaction. */
  get(name: string): Portal | null {
    const portal = this.#portals.get(name);
    const isOver = portal?.madeIn !== this.#statements.transaction.number;
    if (portal && !isOver && !this.#isClosed(name, portal)) return portal;
    this.#portals.delete(name);
    return null;
  }

  /** By SQL's CLOSE. */
  #isClosed(name: string, { place }: Portal): boolean {
    const isCursor = name !== "" && (place.kind === "held" || place.kind === "server");
    return isCursor && this.cursor(name) === null;
  }

  set(name: string, portal: Portal): void {
    this.#portals.set(name, portal);
  }

  /** It has rows to give from now on, and a name: SQL's FETCH, MOVE and CLOSE know it by that. */
  share({ bind, place, madeIn }: Portal): void {
    const { cursors, transaction } = this.#statements;
    if (bind.portal === "") return;
    if (place.kind === "held") {
      const { rows } = place;
      cursors.set(bind.portal, { kind: "rows", rows, isHeld: false, isForward: true, madeIn });
    } else if (place.kind === "server") {
      const shard = transaction.shardOf(place.server);
      if (shard !== null) cursors.set(bind.portal, { kind: "server", shard, madeIn });
    }
  }

  /** Of one that no server has open. */
  forget(name: string): void {
    this.#portals.delete(name);
  }

  clear(): void {
    this.#portals.clear();
  }

  /** null: it is a cursor. @throws StatementRefused */
  named(name: string): Portal | null {
    const portal = this.get(name);
    if (portal === null && this.cursor(name) === null) throw noPortal(name);
    return portal;
  }

  cursor(name: string): Cursor | null {
    const { cursors, transaction } = this.#statements;
    cursors.forgetOthersThan(transaction.number);
    return cursors.get(name);
  }

  get heldBytes(): number {
    let sum = 0;
    // Those with a name are counted as cursors.
    for (const { place, bind } of this.#portals.values())
      if (place.kind === "held" && bind.portal === "") sum += place.rows.bytes;
    return sum;
  }

  /** A portal, or the cursor that PostgreSQL would have as one; none is fine. */
  async close(name: string): Promise<void> {
    const portal = this.get(name);
    this.#portals.delete(name);
    if (portal !== null) {
      const { place } = portal;
      this.#statements.cursors.delete(name);
      if (place.kind !== "server") return;
      const close = encodeClose({ target: "portal", name: place.name });
      await this.#answers.relay(place.server, close, OUR_CLOSE);
      return;
    }
    const cursor = this.cursor(name);
    if (cursor === null) return;
    this.#statements.cursors.delete(name);
    if (cursor.kind !== "server") return;
    const server = await this.#statements.transaction.acquire(cursor.shard);
    await this.#answers.relay(server, encodeClose({ target: "portal", name }), OUR_CLOSE);
  }
}

const OUR_CLOSE: Expectation = { kind: "close", isOurs: true };

export function noPortal(name: string): StatementRefused {
  return new StatementRefused(SQLSTATE.invalidCursorName, `portal "${name}" does not exist`);
}
