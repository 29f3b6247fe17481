import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ServerAddress } from "../../../src/backend/address.js";
import { type EvidenceStatus, readEvidence } from "../../../src/resharding/control/evidence.js";
import { connectEngine, openSides } from "../../../src/resharding/control/sides.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { abortMigration } from "../../../src/resharding/ends/abort-step.js";
import { workflowIds } from "../../../src/resharding/model/tasks.js";
import { syncSchema } from "../../../src/resharding/schema/sync-schema-step.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { emitMarker } from "../../../src/resharding/stream/lane-watch.js";
import { settleAside } from "../../../src/resharding/stream/settle-aside.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { verifyPass } from "../../../src/resharding/verify/verify-pass-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type CopyFixture, copyFixture, type FixtureOptions } from "../../support/copy-fixture.js";
import { engineContext } from "../../support/engine.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { PLANTED, plantedIn, Said } from "../../support/said.js";
import { until } from "../../support/until.js";
import { drain, type LanesFixture, lanesFixture, startStream } from "../lanes/lanes-fixture.js";

/**
 * R56: a value is planted in every kind of failure. It is looked for in everything that leaves the engine, and
 * must be found by the one question that is allowed to show it.
 */

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const BYTES = Buffer.from(PLANTED.bytes).toString("hex");
const PERSON = `CREATE TABLE person (id bigint, email text, note text, doc jsonb, photo bytea,
  PRIMARY KEY (id, email))`;
const PERSON_ROW = `(${PLANTED.number}, '${PLANTED.key}', '${PLANTED.text}', '{"a": "${PLANTED.json}"}',
  '\\x${BYTES}')`;
const INSERT_PERSON = `INSERT INTO person VALUES ${PERSON_ROW}`;
const ALWAYS_RAISES = (raise: string) => `
  CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${raise} END $$;
  CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION spy();
  ALTER TABLE person ENABLE ALWAYS TRIGGER spy`;

interface Shown {
  readonly said: Said;
  readonly rows: readonly EvidenceStatus[];
}

/** Nothing got out, and the question that may show it does. */
function expectKept({ said, rows }: Shown, step: string, values: readonly string[]): void {
  expect(said.leaks()).toEqual([]);
  const shown = rows.filter((row) => row.step === step);
  const told = shown.map(({ evidence: _, ...rest }) => JSON.stringify(rest)).join("\n");
  expect(plantedIn(told)).toEqual([]);
  expect(plantedIn(shown.map((row) => row.evidence).join("\n"))).toEqual(
    expect.arrayContaining([...values]),
  );
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    (result) => {
      throw new Error(`it went through: ${JSON.stringify(result)}`);
    },
    (error: unknown) => error,
  );
}

describe("R56: a lane", () => {
  interface Case {
    readonly name: string;
    readonly schema?: string;
    /** On the source before the stream; the lane brings it over. */
    readonly before?: string;
    /** On the destination, once that has arrived. */
    readonly spoil: string;
    /** On the source. */
    readonly change: string;
    readonly code: string;
    readonly shows: readonly string[];
    readonly otherUnique?: boolean;
  }

  const KEY = [PLANTED.key, PLANTED.number];
  const CASES: readonly Case[] = [
    {
      name: "updates a row that is not there",
      before: INSERT_PERSON,
      spoil: "DELETE FROM person",
      change: "UPDATE person SET note = 'new'",
      code: "SLUICE_LANE_ROW_MISSING",
      shows: KEY,
    },
    {
      name: "deletes a row that is not there",
      before: INSERT_PERSON,
      spoil: "DELETE FROM person",
      change: "DELETE FROM person",
      code: "SLUICE_LANE_ROW_MISSING",
      shows: KEY,
    },
    {
      name: "deletes a row without a key",
      schema: `${PERSON.replace("PRIMARY KEY (id, email)", "CHECK (true)")};
        ALTER TABLE person REPLICA IDENTITY FULL`,
      before: INSERT_PERSON,
      spoil: "DELETE FROM person",
      change: "DELETE FROM person",
      code: "SLUICE_LANE_ROW_MISSING",
      shows: Object.values(PLANTED),
    },
    {
      name: "inserts a row that is there",
      spoil: INSERT_PERSON,
      change: INSERT_PERSON,
      code: "SLUICE_LANE_ROW_EXISTS",
      shows: KEY,
    },
    {
      name: "meets another row's unique value",
      schema: `${PERSON}; CREATE UNIQUE INDEX person_note ON person (note)`,
      before: "INSERT INTO person VALUES (1, 'a', 'b')",
      spoil: INSERT_PERSON,
      change: `UPDATE person SET note = '${PLANTED.text}'`,
      code: "SLUICE_LANE_ROW_EXISTS",
      shows: [PLANTED.text],
      otherUnique: true,
    },
    {
      name: "brings a row that the destination's constraint refuses",
      spoil: "ALTER TABLE person ADD CHECK (length(note) < 5)",
      change: INSERT_PERSON,
      code: "23514",
      shows: KEY,
    },
    {
      name: "brings a row that a trigger speaks about under a borrowed code",
      spoil: ALWAYS_RAISES(`RAISE EXCEPTION 'not %', NEW.note USING ERRCODE = 'unique_violation',
        CONSTRAINT = NEW.email, HINT = NEW.doc::text, DETAIL = NEW.photo::text;`),
      change: INSERT_PERSON,
      code: "SLUICE_LANE_ROW_EXISTS",
      shows: [PLANTED.text, PLANTED.json, PLANTED.bytes],
    },
    {
      name: "brings a row that a trigger makes SQL of",
      spoil: ALWAYS_RAISES("EXECUTE 'SELECT 1 FROM ' || NEW.note; RETURN NEW;"),
      change: INSERT_PERSON,
      code: "42P01",
      shows: [],
    },
  ];

  test.each(CASES)("$name", async (one) => {
    const fixture = await lanesFixture(server, {
      schema: one.schema ?? PERSON,
      tables: { person: "id" },
      destinations: 1,
      adjust: (plan) => ({ ...plan, otherUnique: one.otherUnique ?? false }),
    });
    const { said, rows } = await runInto(fixture, one);
    expectKept({ said, rows }, "lane", one.shows);
    expect(rows).toMatchObject([{ step: "lane", migration: fixture.ref.id }]);
  });

  async function runInto(fixture: LanesFixture, one: Case): Promise<Shown> {
    const { ref } = fixture;
    const said = new Said();
    const overrides = { log: said.log, heartbeat: said.heartbeat };
    await createStream(fixture.context(overrides), { ref, stream: 0 });
    await fixture.noteEmptyCopy();
    await using running = startStream(fixture, 0, { overrides });
    if (one.before !== undefined) {
      await fixture.sql("source", 0, one.before);
      await drain(fixture, 0);
    }
    await fixture.sql("destination", 0, one.spoil);
    await fixture.sql("source", 0, one.change);
    const error = await running.ended;
    expect(error).toMatchObject({ code: one.code });
    said.note(error);
    said.note(await streamStatus(fixture.context(overrides), { ref, stream: 0 }));
    // Whoever comes next is told why, and nothing more.
    await using successor = startStream(fixture, 0, { overrides });
    said.note(await successor.ended);
    return { said, rows: await ask(fixture) };
  }

  async function ask(fixture: LanesFixture): Promise<readonly EvidenceStatus[]> {
    const clusters = [fixture.ref.source, fixture.ref.destination];
    const servers = clusters.flatMap((name) => fixture.context().cluster(name).shards);
    return (await readEvidence(servers, null)).rows;
  }

  test("forgets the row when it goes on", async () => {
    const fixture = await lanesFixture(server, {
      schema: PERSON,
      tables: { person: "id" },
      destinations: 1,
    });
    const [insert] = CASES.filter((one) => one.code === "23514");
    if (!insert) throw new Error("no case");
    expect((await runInto(fixture, insert)).rows).toHaveLength(1);
    await fixture.sql("destination", 0, "ALTER TABLE person DROP CONSTRAINT person_note_check");
    await using again = startStream(fixture, 0);
    await drain(fixture, 0);
    expect(await ask(fixture)).toEqual([]);
    void again;
  });

  test("R33: sets aside what is on two shards, or meets another unique value", async () => {
    const fixture = await lanesFixture(server, {
      schema: `CREATE TABLE doc (id text PRIMARY KEY, tenant bigint NOT NULL, v text UNIQUE);
        CREATE UNIQUE INDEX doc_move ON doc (id, tenant);
        ALTER TABLE doc REPLICA IDENTITY USING INDEX doc_move`,
      tables: { doc: "tenant" },
      adjust: (plan) => ({ ...plan, otherUnique: true }),
    });
    const { ref } = fixture;
    const said = new Said();
    const overrides = { log: said.log, heartbeat: said.heartbeat };
    const context = fixture.context(overrides);
    await createStream(context, { ref, stream: 1 });
    await using running = startStream(fixture, 1, { overrides });
    for (const address of context.cluster(ref.destination).shards) {
      await using client = await connectEngine(context, address, "test");
      await emitMarker(client, { migration: ref.id, kind: "start", token: "t" });
    }
    const tenant = (shard: number) => {
      for (let id = 1; ; id++) if (shardOfText(String(id), "bigint", 2) === shard) return id;
    };
    for (const shard of [0, 1])
      await fixture.sql(
        "destination",
        shard,
        `INSERT INTO doc VALUES ('${PLANTED.key}', ${tenant(shard)}, 'v${shard}'),
           ('${shard}${PLANTED.text}', ${tenant(shard)}, 'same')`,
      );
    await using sides = await openSides(context, ref);
    await until(
      async () => {
        const settled = await settleAside(context, sides, { ref, stream: 1 });
        said.note(settled);
        return settled.conflicts.length === 2;
      },
      { timeoutMs: 20_000, what: "both conflicts" },
    );
    said.note(await streamStatus(context, { ref, stream: 1 }));
    const rows = await ask(fixture);
    expectKept({ said, rows }, "aside", [PLANTED.key, PLANTED.text]);
    expect(rows.map((row) => row.reason).sort()).toEqual([
      "another row has its value of unique (v)",
      "it is on 2 shards",
    ]);
    void running;
  });
});

/** Of a fixture's databases. */
function serversOf(fixture: CopyFixture): readonly ServerAddress[] {
  return [...fixture.sources, ...fixture.destinations].map((name) => server.address(name));
}

async function personFixture(name: string, options: Partial<FixtureOptions> = {}) {
  return await copyFixture(server, {
    name,
    destinations: 1,
    schema: PERSON,
    tables: [{ name: "person", shardBy: "id" }],
    ...options,
  });
}

describe("R56: the copy", () => {
  const CASES = {
    "a type that does not take the value": "ALTER TABLE person ALTER note TYPE int USING 0",
    "a number that is out of range":
      "ALTER TABLE person DROP CONSTRAINT person_pkey, ALTER id TYPE smallint",
    "a check": "ALTER TABLE person ADD CHECK (length(note) < 5)",
    "a column that is not null": "ALTER TABLE person ADD extra text NOT NULL",
    "a unique index": `${INSERT_PERSON}; ALTER TABLE person DROP CONSTRAINT person_pkey;
      CREATE UNIQUE INDEX ON person (note)`,
    "an exclusion constraint": `${INSERT_PERSON}; ALTER TABLE person DROP CONSTRAINT person_pkey,
      ADD EXCLUDE (note WITH =)`,
    "a domain": `CREATE DOMAIN short AS text CHECK (length(value) < 5);
      ALTER TABLE person ALTER note TYPE short USING 'x'`,
    "an enum": `CREATE TYPE mood AS ENUM ('good'); ALTER TABLE person ALTER note TYPE mood USING NULL`,
    "no partition for the row": `DROP TABLE person; ${PERSON} PARTITION BY LIST (email)`,
    "a generated column": "ALTER TABLE person ADD size int GENERATED ALWAYS AS (note::int) STORED",
    "a trigger that tells the row": ALWAYS_RAISES("RAISE EXCEPTION 'no %', NEW;"),
    "a trigger that fails with it": ALWAYS_RAISES("PERFORM NEW.note::int; RETURN NEW;"),
    "an index on an expression": "CREATE INDEX ON person ((note::int))",
  } as const;

  test.each(Object.entries(CASES))("%s", async (name, spoil) => {
    const fixture = await personFixture(`copy_${name.replaceAll(/\W+/gu, "_")}`.slice(0, 40));
    const [source = "", destination = ""] = [fixture.sources[0], fixture.destinations[0]];
    await server.sql(source, INSERT_PERSON);
    const said = new Said();
    const context = fixture.context(
      { log: said.log, heartbeat: said.heartbeat },
      { copyFormat: "text" },
    );
    const [plan] = await planCopy(context, fixture.ref);
    if (!plan) throw new Error("no plan");
    await server.sql(destination, spoil);
    const input = { ...plan, ref: fixture.ref, range: 0 };
    const error = await failureOf(copyRange(context, input));
    said.note(error);
    expect(said.leaks()).toEqual([]);
    expect(error).toMatchObject({
      code: "SLUICE_COPY_FAILED",
      // Enough to find the place without the row.
      message: expect.stringMatching(
        /^copy of public\.person range 0 failed: [a-zA-Z ]+ \(SQLSTATE [0-9A-Z]{5}\)/,
      ),
      hint: expect.stringContaining("SHOW EVIDENCE"),
    });
    const { rows } = await readEvidence(serversOf(fixture), null);
    expect(rows).toMatchObject([{ step: "copy", table: "person", code: "SLUICE_COPY_FAILED" }]);
    expect(plantedIn(JSON.stringify(rows)).length).toBeGreaterThan(0);
  });

  test("an error of the past is forgotten with the next attempt, with the migration, and per task", async () => {
    const fixture = await personFixture("copy_forgets");
    const [source = "", destination = ""] = [fixture.sources[0], fixture.destinations[0]];
    const { ref } = fixture;
    await server.sql(source, INSERT_PERSON);
    const [plan] = await planCopy(fixture.context(), ref);
    if (!plan) throw new Error("no plan");
    const attempt = async () => await copyRange(fixture.context(), { ...plan, ref, range: 0 });
    const ask = async (id: string | null) => (await readEvidence(serversOf(fixture), id)).rows;
    const check = "ALTER TABLE person ADD CONSTRAINT c CHECK (length(note) < 5)";
    await server.sql(destination, check);
    await failureOf(attempt());
    expect(await ask(workflowIds.reshard(ref))).toHaveLength(1);
    expect(await ask(`${workflowIds.reshard(ref)}_other`)).toEqual([]);
    await server.sql(destination, "ALTER TABLE person DROP CONSTRAINT c");
    await attempt();
    expect(await ask(null)).toEqual([]);
    await server.sql(destination, `DELETE FROM person; ${check}`);
    await server.sql(destination, "UPDATE sluice.copy_chunk SET snapshot = NULL, copied_at = NULL");
    await failureOf(attempt());
    expect(await ask(null)).toHaveLength(1);
    await abortMigration(fixture.context(), ref);
    expect(await ask(null)).toEqual([]);
  });
});

test("R56: verification: keys that differ", async () => {
  const fixture = await personFixture("verify_differs", {
    schema: "CREATE TABLE person (id bigint, email text PRIMARY KEY)",
  });
  const { ref } = fixture;
  const [source = "", destination = ""] = [fixture.sources[0], fixture.destinations[0]];
  await server.sql(source, `INSERT INTO person VALUES (1, '${PLANTED.key}')`);
  // Lanes that have nothing to do: every marker counts as passed.
  await server.sql(
    destination,
    `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
       system_identifier, timeline, state, applied_lsn)
     VALUES ('${ref.id}', 0, 0, 0, 's', 'o', '1', 1, 'applying', 'FFFFFFFF/FFFFFFFF')`,
  );
  const said = new Said();
  const context = fixture.context({ log: said.log, heartbeat: said.heartbeat });
  const result = await verifyPass(context, { ref, stream: 0, pass: 1 });
  expect(result.isClean).toBe(false);
  said.note(result);
  const { rows } = await readEvidence(serversOf(fixture), null);
  expectKept({ said, rows }, "verify", [PLANTED.key]);
  // A clean pass takes it back.
  await server.sql(destination, `INSERT INTO person VALUES (1, '${PLANTED.key}')`);
  expect(await verifyPass(context, { ref, stream: 0, pass: 2 })).toMatchObject({ isClean: true });
  expect((await readEvidence(serversOf(fixture), null)).rows).toEqual([]);
});

describe("R56: the schema", () => {
  test.each([
    {
      name: "a unique index over values that are twice there",
      schema: "CREATE TABLE person (note text); CREATE UNIQUE INDEX ON person (note)",
      rows: `INSERT INTO person VALUES ('${PLANTED.text}'), ('${PLANTED.text}')`,
    },
    {
      name: "a foreign key to rows that are missing",
      schema: `CREATE TABLE parent (id bigint PRIMARY KEY);
        CREATE TABLE person (note bigint REFERENCES parent)`,
      rows: `INSERT INTO person VALUES (${PLANTED.number})`,
    },
    {
      name: "an index on an expression that fails",
      schema: "CREATE TABLE person (note text); CREATE INDEX ON person ((note::int))",
      rows: `INSERT INTO person VALUES ('${PLANTED.text}')`,
    },
    {
      name: "an exclusion constraint that is not kept",
      schema: "CREATE TABLE person (note text, EXCLUDE (note WITH =))",
      rows: `INSERT INTO person VALUES ('${PLANTED.text}'), ('${PLANTED.text}')`,
    },
  ])("$name", async ({ name, schema, rows: inserted }) => {
    const base = name.replaceAll(/\W+/gu, "_").slice(0, 30);
    const [source, destination] = [`${base}_src`, `${base}_dst`];
    for (const database of [source, destination]) await server.createDatabase(database);
    await server.sql(source, schema);
    const ref = { id: "0000000e0001", source: "prod", destination: "sharded", publication: "p" };
    const clusters = [
      [ref.source, source],
      [ref.destination, destination],
    ].map(([cluster = "", database = ""]) => ({
      ...{ name: cluster, shards: [server.address(database)] },
      ...{ shardedTables: [], omnishardedTables: [] },
    }));
    const said = new Said();
    const policy = { pgDumpPath: join(server.binDir, "pg_dump") };
    const context = engineContext(clusters, policy, {
      ...{ log: said.log, heartbeat: said.heartbeat },
    });
    await syncSchema(context, { ref, phase: "pre" });
    await server.sql(destination, inserted);
    const error = await failureOf(
      (async () => {
        said.note(await syncSchema(context, { ref, phase: "post" }));
        said.note(await syncSchema(context, { ref, phase: "cutover" }));
      })(),
    );
    expect(error).toMatchObject({ code: "SLUICE_SCHEMA_STATEMENT_FAILED" });
    said.note(error);
    const servers = [server.address(source), server.address(destination)];
    const { rows } = await readEvidence(servers, workflowIds.schemaSync(ref, "post"));
    expect(said.leaks()).toEqual([]);
    expect(rows).toMatchObject([{ step: "schema", table: "person" }]);
    expect(plantedIn(JSON.stringify(rows)).length).toBe(1);
    // Corrected, the next attempt has nothing to show.
    await server.sql(destination, "DELETE FROM person");
    await syncSchema(context, { ref, phase: "post" });
    await syncSchema(context, { ref, phase: "cutover" });
    expect((await readEvidence(servers, null)).rows).toEqual([]);
  });
});
