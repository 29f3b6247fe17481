import { join } from "node:path";
import type { EngineContext } from "../../src/resharding/context.js";
import { copyRange } from "../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../src/resharding/copy/plan-copy-step.js";
import { beginMigration } from "../../src/resharding/ends/begin-step.js";
import type { SwitchReport } from "../../src/resharding/model/activities.js";
import type { MigrationRef, Side } from "../../src/resharding/model/migration.js";
import { preflight } from "../../src/resharding/preflight/preflight-step.js";
import { syncSchema } from "../../src/resharding/schema/sync-schema-step.js";
import { createStream } from "../../src/resharding/stream/create-stream-step.js";
import { runStream } from "../../src/resharding/stream/run-stream-step.js";
import { streamStatus } from "../../src/resharding/stream/stream-status.js";
import { installGates } from "../../src/resharding/switch/install-gates-step.js";
import { prepareDecision } from "../../src/resharding/switch/prepare-decision-step.js";
import { awaitReadiness } from "../../src/resharding/switch/readiness-step.js";
import { resolve } from "../../src/resharding/switch/resolve-step.js";
import { advanceSequences } from "../../src/resharding/switch/sequences.js";
import { switchTraffic } from "../../src/resharding/switch/switch-step.js";
import { verifyPass } from "../../src/resharding/verify/verify-pass-step.js";
import { silentLog } from "./copy-fixture.js";
import type { PostgresServer } from "./postgres.js";
import { until } from "./until.js";

export interface CycleOptions {
  readonly server: PostgresServer;
  /** Databases that exist; the tables and the publication `all_tables` are on the source. */
  readonly source: string;
  readonly shards: readonly string[];
  /** 12 hex digits. */
  readonly id: string;
  /** Sharding column of every table that has it. */
  readonly column?: string;
  /** Rules for tables of their own, before it. */
  readonly rules?: readonly { readonly name: string; readonly column: string }[];
  readonly pauseCapMs?: number;
}

export interface RunningStream {
  stop(): Promise<void>;
}

/** The engine without Temporal and without a proxy: what the activities call, in the workflows' order. */
export class EngineCycle {
  readonly ref: MigrationRef;
  readonly #options: CycleOptions;
  #pass = 0;

  constructor(options: CycleOptions) {
    this.#options = options;
    this.ref = {
      id: options.id,
      source: "prod",
      destination: "prod_sharded",
      publication: "all_tables",
    };
  }

  context(overrides: Partial<EngineContext> = {}): EngineContext {
    const { server, source, shards, column = "tenant_id", rules = [] } = this.#options;
    const rule = (name: string | null, by: string) =>
      ({ schema: null, name, column: by, dataType: "bigint" }) as const;
    return {
      cluster: (name) => ({
        name,
        shards: (name === "prod" ? [source] : shards).map((database) => server.address(database)),
        shardedTables:
          name === "prod"
            ? []
            : [...rules.map((one) => rule(one.name, one.column)), rule(null, column)],
        omnishardedTables: [],
      }),
      policy: {
        copyFormat: "binary",
        copyRangeRows: 1_000,
        pauseBudgetMs: 5_000,
        trafficStopThresholdBytes: 1_000_000,
        openTransactions: "wait",
        verifyMaxAgeMs: 60_000,
        replicaIdentity: "auto",
        uniqueWithoutShardingKey: "warn",
        leftBehind: [],
        placementGuard: true,
        pgDumpPath: join(server.binDir, "pg_dump"),
      },
      log: silentLog,
      signal: new AbortController().signal,
      heartbeat: () => {},
      announce: async () => {},
      incarnation: "test",
      ...overrides,
    };
  }

  /** The checks, and what is fixed with them; the lock on the tables and their replica identities. */
  async begin(overrides: Partial<EngineContext> = {}): Promise<void> {
    const { ref } = this;
    const { spec, checks } = await preflight(this.context(), ref);
    const errors = checks.filter((check) => check.severity === "error");
    if (!spec || errors.length > 0) throw new Error(JSON.stringify(errors));
    await beginMigration(this.context(overrides), { ref, spec });
  }

  /** From the checks to the last copied range; schema, gates and slot included. */
  async copy(): Promise<void> {
    const context = this.context();
    const { ref } = this;
    await this.begin();
    await syncSchema(context, { ref, phase: "pre" });
    await installGates(context, ref);
    await createStream(context, { ref, stream: 0 });
    for (const table of await planCopy(context, ref))
      for (let range = 0; range < table.rangeCount; range++)
        await copyRange(context, { ref, ...table, range });
    await syncSchema(context, { ref, phase: "post" });
  }

  /** Runs a stream until `stop`, as the activities would. */
  start(stream: number, overrides: Partial<EngineContext> = {}): RunningStream {
    const controller = new AbortController();
    const fromShards = stream % 2 === 0 ? 1 : this.#options.shards.length;
    const context = this.context({ ...overrides, signal: controller.signal });
    const runs = Array.from({ length: fromShards }, (_, fromShard) =>
      runStream(context, { ref: this.ref, stream, fromShard }),
    );
    const all = Promise.all(runs);
    all.catch(() => {});
    return {
      stop: async () => {
        controller.abort();
        await all;
      },
    };
  }

  /** Stream 0 runs and has caught up; the schema that waited for it is there. */
  async catchUp(): Promise<RunningStream> {
    const running = this.start(0);
    await until(
      async () =>
        (await streamStatus(this.context(), { ref: this.ref, stream: 0 })).lagBytes !== null,
      { timeoutMs: 20_000, what: "the lanes" },
    );
    await syncSchema(this.context(), { ref: this.ref, phase: "cutover" });
    return running;
  }

  /** Everything before the pause; `next` is the way back, in standby. */
  async prepare(
    serving: Side,
    stream: number,
  ): Promise<{ readonly next: RunningStream; attempt(): Promise<SwitchReport> }> {
    const { ref } = this;
    await createStream(this.context(), { ref, stream: stream + 1 });
    const next = this.start(stream + 1);
    await until(
      async () => {
        this.#pass += 1;
        await verifyPass(this.context(), { ref, stream, pass: this.#pass });
        return (await awaitReadiness(this.context(), { ref, stream, waitMs: 0 })).isReady;
      },
      { timeoutMs: 30_000, what: "readiness" },
    );
    await advanceSequences(this.context(), { ref, serving });
    const attempt = async () => {
      const context = this.context();
      const capMs = this.#options.pauseCapMs ?? 8_000;
      const decision = await prepareDecision(context, { ref, stream, serving, capMs });
      const report = await switchTraffic(context, { ref, decision, nodes: [] });
      const result = await resolve(context, { ref, decision, as: "coordinator" });
      if ((result.outcome === "committed") !== (report.outcome === "committed"))
        throw new Error(`the report says ${report.outcome}, the decision ${result.outcome}`);
      return report;
    };
    return { next, attempt };
  }
}
