import { assertNever } from "../../../core/assert.js";
import type { MergePlan } from "../../../router/route.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import type { ExecuteScatter, ScatterInput, ScatterOutcome } from "./contract.js";
import { CopyIn } from "./dealt-copy.js";
import { DrawnCopyIn } from "./drawn-copy.js";
import { Gather } from "./gather.js";
import { formatsWith } from "./hidden-columns.js";
import { moveRows } from "./move-row.js";
import { statementMessages } from "./shard-messages.js";

/**
 * Runs one statement over several shards and writes description and rows to the client. Every connection that
 * was acquired has seen ReadyForQuery when it returns. After "failed" the transaction must end everywhere: on
 * some shards the statement may have succeeded.
 */
export const executeScatter: ExecuteScatter = async (input) => {
  try {
    return await dispatch(input);
  } catch (error) {
    return { kind: "failed", error: encodeThrown(error) };
  }
};

async function dispatch(input: ScatterInput): Promise<ScatterOutcome> {
  const { route, request, servers } = input;
  switch (route.kind) {
    case "many": {
      const shards = route.shards === "all" ? servers.shards : route.shards;
      const sql = route.rewrittenSql ?? request.sql;
      const { merge, rows, count, isWrite, home } = route;
      const resultFormats = formatsWith(request.resultFormats, merge.hidden ?? 0);
      const messages = statementMessages({ ...request, resultFormats }, sql, null);
      const gather = new Gather(
        input,
        { merge, rows, count, places: null, home, isSequential: isWrite },
        shards.length,
      );
      return await gather.run(shards.map((shard) => ({ shard, messages })));
    }
    case "split": {
      const plan = {
        merge: AS_THEY_COME,
        rows: "merged",
        count: "sum",
        places: route.parts.map(({ rows }) => rows),
        isSequential: true,
      } as const;
      const gather = new Gather(input, plan, route.parts.length);
      return await gather.run(
        route.parts.map(({ shard, sql, parameters }) => ({
          shard,
          messages: statementMessages(request, sql, parameters),
        })),
      );
    }
    case "moveRow":
      return await moveRows(input, route.plan);
    case "copyIn":
      return route.plan.drawn === null
        ? await new CopyIn(input, route.plan).run()
        : await new DrawnCopyIn(input, route.plan, route.plan.drawn).run();
    default:
      return assertNever(route, "route");
  }
}

const AS_THEY_COME: MergePlan = {
  orderBy: [],
  aggregates: null,
  isBytewise: false,
  limit: null,
  offset: 0,
};
