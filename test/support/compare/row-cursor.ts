import type { SqlClient } from "../../../src/backend/sql-client.js";
import { quoteIdentifier } from "../../../src/core/identifier.js";
import {
  type SessionUse,
  type Sides,
  shardAddress,
} from "../../../src/resharding/control/sides.js";
import { tableName } from "../../../src/resharding/copy/range-sql.js";
import { openSnapshot } from "../../../src/resharding/copy/snapshot-reader.js";
import type { Side, TablePlan } from "../../../src/resharding/model/migration.js";
import { placeOf } from "../../../src/resharding/verify/row-sql.js";

/** A row as text, in the order of `sort`. */
export interface TextRow {
  /** Hex of the key, or a digest of the row where it has none: sorts alike in PostgreSQL and in JavaScript. */
  readonly sort: string;
  /** For people. */
  readonly name: string;
  readonly place: number | null;
  readonly text: string;
}

const COMPARE: SessionUse = { purpose: "compare" };
const FETCH_ROWS = 2000;

/** Reads a table of one shard in order, a batch at a time; one at a time per shard. */
export class RowCursor implements AsyncDisposable {
  readonly shard: number;
  readonly #client: SqlClient;
  #batch: readonly TextRow[] = [];
  #next = 0;
  #isAtEnd = false;
  rowCount = 0;

  static async open(
    sides: Sides,
    side: Side,
    of: { readonly table: TablePlan; readonly shard: number; readonly shardCount: number },
  ): Promise<RowCursor> {
    const client = await sides.session(side, of.shard, COMPARE);
    const cursor = new RowCursor(of.shard, client);
    try {
      const address = shardAddress(sides[side], of.shard);
      await openSnapshot(client, { address, table: of.table });
      await client.query(
        `DECLARE compared NO SCROLL CURSOR FOR ${orderedRows(of.table, of.shardCount)}`,
      );
      await cursor.#fetch();
    } catch (error) {
      await cursor[Symbol.asyncDispose]();
      throw error;
    }
    return cursor;
  }

  private constructor(shard: number, client: SqlClient) {
    this.shard = shard;
    this.#client = client;
  }

  /** null at the end. */
  get current(): TextRow | null {
    return this.#batch[this.#next] ?? null;
  }

  /** @returns a promise only when a batch must be fetched, so that rows cost none */
  advance(): Promise<void> | null {
    this.#next++;
    this.rowCount++;
    return this.#next < this.#batch.length || this.#isAtEnd ? null : this.#fetch();
  }

  async #fetch(): Promise<void> {
    const result = await this.#client.query<TextRow>(`FETCH ${FETCH_ROWS} FROM compared`);
    this.#batch = result.rows;
    this.#next = 0;
    this.#isAtEnd = result.rows.length < FETCH_ROWS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.query("ROLLBACK").catch(() => {});
  }
}

function orderedRows(table: TablePlan, shardCount: number): string {
  const text = arrayOfTexts(table.columns.map((column) => column.name));
  const name = table.keyColumns === null ? `md5(${text})` : arrayOfTexts(table.keyColumns);
  return `SELECT sort, name, place, text
    FROM (SELECT encode(convert_to(name, 'UTF8'), 'hex') AS sort, name, place, text
            FROM (SELECT ${name} AS name, ${placeOf(table, shardCount)} AS place, ${text} AS text
                    FROM ONLY ${tableName(table)}) AS named) AS keyed
   ORDER BY sort COLLATE "C"`;
}

/** The text of an array tells NULL from 'NULL' and quotes what needs it. */
function arrayOfTexts(columns: readonly string[]): string {
  return `ARRAY[${columns.map((column) => `${quoteIdentifier(column)}::text`).join(", ")}]::text`;
}
