// Our codecs against the packages that do the same: pg-protocol (messages), pg-logical-replication (pgoutput) and
// pg-copy-streams (COPY). One JSON line each. `npm run bench -- decoders [rows] [rounds]`.
// The figure is this process's CPU time, the best of the rounds: the machine may be busy with something else.
import { EventEmitter } from "node:events";
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import copyStreams from "pg-copy-streams";
import { PgoutputPlugin } from "pg-logical-replication";
import { parse } from "pg-protocol";
import { connectSql } from "../../src/backend/sql-client.js";
import { openCopyIn } from "../../src/replication/copy-in.js";
import { copyOut } from "../../src/replication/copy-out.js";
import { decodePgoutput } from "../../src/replication/pgoutput.js";
import { tupleTexts } from "../../src/replication/tuple.js";
import { encodeDataRow } from "../../src/wire/backend.js";
import { Framer } from "../../src/wire/framer.js";
import { startPostgres } from "../support/postgres.js";

const [rows = 200_000, rounds = 5] = process.argv.slice(2).map(Number);
const CHUNK_BYTES = 64 * 1024;
/** Of the same bytes, so that a small table is a long stream. */
const REPEATS = 5;

interface Contender {
  readonly name: string;
  /** @returns what was seen, the same for every contender: nobody may skip work. */
  readonly run: () => number | Promise<number>;
}

async function compare(
  what: string,
  of: { readonly count: number; readonly bytes: number },
  contenders: readonly Contender[],
): Promise<void> {
  const best = new Map<string, number>();
  const seen = new Set<number>();
  for (let round = 0; round < rounds; round++)
    for (const { name, run } of contenders) {
      const before = process.cpuUsage();
      seen.add(await run());
      const { user, system } = process.cpuUsage(before);
      best.set(name, Math.min(best.get(name) ?? Number.POSITIVE_INFINITY, (user + system) / 1e6));
    }
  if (seen.size !== 1) throw new Error(`${what}: contenders saw ${[...seen].join(", ")}`);
  for (const [name, seconds] of best)
    console.log(
      JSON.stringify({
        what,
        name,
        nsPerRow: Math.round((seconds / of.count) * 1e9),
        rowsPerCpuSecond: Math.round(of.count / seconds),
        megabytesPerCpuSecond: Math.round(of.bytes / seconds / 1e6),
      }),
    );
}

await using server = await startPostgres();
await server.createDatabase("bench");
await server.sql(
  "bench",
  `CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint, amount numeric, note text, at timestamptz);
   CREATE TABLE taken (LIKE orders);
   CREATE PUBLICATION p FOR TABLE orders`,
);
await server.sql("bench", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
await server.sql(
  "bench",
  `INSERT INTO orders SELECT g, g % 1000, g / 7.0, md5(g::text), now() FROM generate_series(1, ${rows / 10}) g`,
);

await dataRows();
await pgoutput();
await copies();

async function dataRows(): Promise<void> {
  const values = ["4711", "17", "671.5714", "9b04d152845ec0a378394003c96da594"];
  const row = encodeDataRow([...values.map((value) => Buffer.from(value)), null]);
  const stream = Buffer.concat(Array.from({ length: rows }, () => row));
  const chunks: Buffer[] = [];
  for (let at = 0; at < stream.length; at += CHUNK_BYTES)
    chunks.push(stream.subarray(at, at + CHUNK_BYTES));
  await compare("DataRow messages", { count: rows, bytes: stream.length }, [
    {
      name: "ours (src/wire/framer.ts: cut into messages, values stay bytes)",
      run: () => {
        const framer = new Framer();
        let count = 0;
        for (const chunk of chunks) {
          framer.push(chunk);
          while (framer.next()) count += 1;
        }
        return count;
      },
    },
    {
      name: "pg-protocol (an object per message, a string per value)",
      run: () => {
        const socket = new EventEmitter();
        let count = 0;
        void parse(socket as unknown as NodeJS.ReadableStream, () => {
          count += 1;
        });
        for (const chunk of chunks) socket.emit("data", chunk);
        return count;
      },
    },
  ]);
}

async function pgoutput(): Promise<void> {
  const changes = (
    await server.sql(
      "bench",
      `SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,
         'proto_version', '1', 'publication_names', 'p')`,
    )
  ).map((row) => row.data as Buffer);
  const bytes = changes.reduce((sum, change) => sum + change.length, 0) * REPEATS;
  const times = async (run: () => number) => {
    let count = 0;
    for (let repeat = 0; repeat < REPEATS; repeat++) count += run();
    return count;
  };
  const ours = (onInsert: (change: Buffer, at: number) => void) => () => {
    let count = 0;
    const none = () => {};
    for (const change of changes)
      decodePgoutput(change, 0, change.length, {
        begin: none,
        commit: none,
        origin: none,
        relation: none,
        insert: (_id, source, at) => {
          count += 1;
          onInsert(source, at);
        },
        update: none,
        delete: none,
        truncate: none,
        message: none,
      });
    return count;
  };
  await compare("pgoutput", { count: (changes.length - 3) * REPEATS, bytes }, [
    { name: "ours, values stay bytes", run: () => times(ours(() => {})) },
    {
      name: "ours, every value as text",
      run: () => times(ours((source, at) => void tupleTexts({ bytes: source, at }))),
    },
    {
      name: "pg-logical-replication",
      run: () => {
        const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["p"] });
        return times(() => {
          let count = 0;
          for (const change of changes) if (plugin.parse(change).tag === "insert") count += 1;
          return count;
        });
      },
    },
  ]);
}

async function copies(): Promise<void> {
  await using client = await connectSql(server.address("bench"), { applicationName: "bench" });
  const out = `COPY (SELECT o.* FROM public.orders o, generate_series(1, ${REPEATS})) TO STDOUT (FORMAT binary)`;
  let bytes = 0;
  const parts: Buffer[] = [];
  await copyOut(client, out, {
    push: (source, start, end) => {
      bytes += end - start;
      parts.push(Buffer.from(source.subarray(start, end)));
    },
    pressure: () => null,
  });
  const count = (rows / 10) * REPEATS;
  await compare("COPY TO STDOUT", { count, bytes }, [
    {
      name: "ours",
      run: async () => {
        let seen = 0;
        await copyOut(client, out, {
          push: (_source, start, end) => {
            seen += end - start;
          },
          pressure: () => null,
        });
        return seen;
      },
    },
    {
      name: "pg-copy-streams",
      run: async () => {
        let seen = 0;
        const count = new Writable({
          write: (chunk: Buffer, _encoding, done) => {
            seen += chunk.length;
            done();
          },
        });
        await pipeline(client.query(copyStreams.to(out)), count);
        return seen;
      },
    },
  ]);
  const into = "COPY public.taken FROM STDIN (FORMAT binary)";
  await compare("COPY FROM STDIN, row by row", { count, bytes }, [
    {
      name: "ours",
      run: async () => {
        await client.query("TRUNCATE public.taken");
        const copy = await openCopyIn(client, into);
        for (const part of parts) {
          copy.append(part, 0, part.length);
          await copy.pressure();
        }
        return await copy.finish();
      },
    },
    {
      name: "pg-copy-streams",
      run: async () => {
        await client.query("TRUNCATE public.taken");
        const copy = client.query(copyStreams.from(into));
        await pipeline(parts, copy);
        return copy.rowCount;
      },
    },
  ]);
}
