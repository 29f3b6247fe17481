import { quoteIdentifier, quoteLiteral } from "../../../core/identifier.js";
import { renumberParameters, type Span, textOf } from "../../../router/clauses.js";
import { withTexts } from "../../../router/computed-selects.js";
import {
  BACKEND,
  type ColumnDescription,
  decodeDataRow,
  decodeRowDescription,
} from "../../../wire/backend.js";
import type { ClientSink, StatementRequest } from "../scatter/contract.js";
import { frameEnd } from "../scatter/mergers.js";
import { ScatterLimitExceeded } from "../scatter/scatter-errors.js";
import { selectParameters } from "../scatter/shard-messages.js";

/** Rows of subqueries that become a part of the statement. */
const LARGEST_SELECT_BYTES = 4 * 1024 * 1024;

export interface SelectRunner {
  /** Runs a statement where its route says. @throws StatementFailed, SluiceError */
  run(request: StatementRequest, sink: ClientSink): Promise<void>;
  /** Names of types as a cast takes them; null: one that may be another on each server. */
  typeNames(columns: readonly ColumnDescription[]): Promise<readonly (string | null)[]>;
}

/** The statement with the rows of its selects in their place, and the parameters that are left. */
export async function withComputedSelects(
  request: StatementRequest,
  spans: readonly Span[],
  runner: SelectRunner,
): Promise<StatementRequest> {
  const texts: string[] = [];
  for (const span of spans) {
    const sink = new SelectedRows();
    await runner.run(partOf(request, textOf(request.sql, span)), sink);
    texts.push(valuesText(sink, await runner.typeNames(sink.columns)));
  }
  return partOf(request, withTexts(request.sql, spans, texts));
}

/** With the parameters that a text has left, numbered anew. */
function partOf(request: StatementRequest, text: string): StatementRequest {
  const { sql, parameters } = renumberParameters(text);
  return { ...selectParameters(request, parameters), sql };
}

function valuesText({ columns, rows }: SelectedRows, types: readonly (string | null)[]): string {
  const cast = (value: string, index: number) => {
    const type = types[index];
    return type ? `CAST(${value} AS ${type})` : value;
  };
  const names = columns.map(({ name }) => quoteIdentifier(name)).join(", ");
  const tuples = rows.map(
    (row) =>
      `(${row.map((value, index) => cast(value === null ? "NULL" : quoteLiteral(value), index)).join(", ")})`,
  );
  if (tuples.length === 0) {
    const nulls = columns.map(({ name }, at) => `${cast("NULL", at)} AS ${quoteIdentifier(name)}`);
    return `SELECT ${nulls.join(", ")} WHERE false`;
  }
  return `SELECT * FROM (VALUES ${tuples.join(", ")}) AS "sluice_rows"(${names})`;
}

/** Takes what a client would see. */
class SelectedRows implements ClientSink {
  columns: readonly ColumnDescription[] = [];
  readonly rows: (readonly (string | null)[])[] = [];
  #bytes = 0;

  write(frames: Buffer): boolean {
    this.#bytes += frames.length;
    if (this.#bytes > LARGEST_SELECT_BYTES)
      throw new ScatterLimitExceeded(
        "rows of a subquery over several shards",
        LARGEST_SELECT_BYTES,
      );
    for (let at = 0; at < frames.length; ) {
      const next = frameEnd(frames, at);
      this.#take(frames.subarray(at, next));
      at = next;
    }
    return true;
  }

  #take(frame: Buffer): void {
    if (frame[0] === BACKEND.rowDescription) this.columns = decodeRowDescription(frame);
    else if (frame[0] === BACKEND.dataRow)
      this.rows.push(decodeDataRow(frame).map((value) => value?.toString("utf8") ?? null));
  }

  async drained(): Promise<void> {}
}
