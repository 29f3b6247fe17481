import { assert } from "../../core/assert.js";
import type { Log } from "../../observe/log.js";
import { agreedFacts } from "../../router/agreed-facts.js";
import { createRouter, type Router } from "../../router/router.js";
import { parseSchemaFacts, type SchemaFactsLists, schemaFacts } from "../../router/schema-facts.js";
import { loadParser } from "../../sql/parser.js";
import type { Database } from "../../topology/topology.js";
import type { CatalogSession } from "./catalog-session.js";

/** How old an answer of the servers may be; then they are asked again before a statement is routed by it. */
const LEASE_MS = 1_000;
/** From this age on they are asked beside the statements, so that none waits. */
const RENEWAL_MS = 500;
/** What a statement waits for an answer where the tables are known and only their age is too high. */
const PATIENCE_MS = 1_000;
/** Without statements the sessions are closed. */
const IDLE_MS = 30_000;

/** What one shard said. */
interface Said {
  readonly shard: number;
  readonly session: CatalogSession;
  readonly version: string;
}

interface Known {
  readonly router: Router;
  /** By shard; those that were silent are missing. */
  readonly versions: ReadonlyMap<number, string>;
  /** The texts that the router was made of, each once. */
  readonly texts: readonly string[];
  /** Said of all changes before this one. */
  readonly changes: number;
  /** When the servers were last asked and said the same. */
  readonly askedAtMs: number;
}

/**
 * What the tables of a database with several shards are, by the word of each shard, with the version that it was read at
 * (R53): nobody routes by anything else. Three ways lead to a new look:
 *
 * - DDL that is committed by a session of this process, or told by another plane: before the next statement is routed;
 * - DDL past every proxy: the age of the answer, at most LEASE_MS;
 * - a statement that failed, or is to be refused, as it would if the tables had changed (`newerThan`).
 *
 * What is routed by tables as they were a moment ago names its columns, so that PostgreSQL refuses it or does what it says.
 */
export class KnownTables {
  readonly #database: Database;
  readonly #log: Log;
  readonly #openSessions: () => readonly CatalogSession[];
  readonly #onChange: () => void;
  readonly #onHeard: () => void;
  #sessions: readonly CatalogSession[] = [];
  #known: Known | null = null;
  #asking: Promise<void> | null = null;
  /** What had changed when that began. */
  #askingSince = 0;
  /** Begins when the one under way has ended. */
  #askingNext: Promise<void> | null = null;
  /** Of a database that was served by another name, with the versions of its texts. */
  #inherited: Pick<Known, "texts" | "versions"> | null = null;
  #changes = 0;
  #isLate = false;
  #unlike: readonly string[] = [];
  readonly #toldUnlike = new Set<string>();
  #idle: NodeJS.Timeout | null = null;

  /**
   * @param options.sessions one per shard, in their order
   * @param options.onChange the tables are others than they were
   * @param options.onHeard another plane says that it has changed some
   */
  constructor(
    database: Database,
    options: {
      readonly sessions: () => readonly CatalogSession[];
      readonly onChange: () => void;
      readonly onHeard: () => void;
      readonly log: Log;
    },
  ) {
    this.#database = database;
    this.#openSessions = options.sessions;
    this.#onChange = options.onChange;
    this.#onHeard = options.onHeard;
    this.#log = options.log;
  }

  /** @throws ServerUnreachable where no shard says what its tables are */
  async router(): Promise<Router> {
    const known = this.#known;
    if (known === null || known.changes !== this.#changes) {
      const isAsking = this.#asking !== null && this.#askingSince === this.#changes;
      await (isAsking ? this.#asking : this.#ask());
      return this.#expected();
    }
    const ageMs = performance.now() - known.askedAtMs;
    if (ageMs < RENEWAL_MS) return known.router;
    const asked = this.#asking ?? this.#ask();
    // Nobody minds: the old ones are right, or a statement says so.
    asked.catch(() => {});
    if (ageMs >= LEASE_MS && !this.#isLate) await this.#inTime(asked);
    return this.#expected();
  }

  /**
   * By what the servers say from now on. @returns null: it is the same as `router`, or they say nothing
   */
  async newerThan(router: Router): Promise<Router | null> {
    try {
      await this.#ask();
    } catch {
      return null;
    }
    const found = this.#expected();
    return found === router ? null : found;
  }

  /** The same by other tables, as a transaction that has changed some sees them. @param facts its answer to SCHEMA_FACTS_SQL */
  async routerOf(facts: string): Promise<Router> {
    await loadParser();
    return createRouter(this.#database, parseSchemaFacts(facts));
  }

  /** Somebody has changed some: the servers are asked before a statement is routed. */
  changed(): void {
    this.#changes++;
  }

  /** Somebody has failed as if some had changed: as `changed`. */
  doubt(): void {
    this.#changes++;
  }

  /** Tells the planes of other nodes, which listen. Never throws. */
  async tellOthers(): Promise<void> {
    await this.#use()[0]?.notify();
  }

  /** Takes over what `other` knows of the same servers, where they are under another name now. */
  inherit(other: KnownTables): void {
    this.#inherited = other.#known;
    this.#sessions = other.#sessions;
    other.#sessions = [];
    this.#sessions[0]?.listen(() => this.#onHeard());
  }

  close(): void {
    if (this.#idle) clearTimeout(this.#idle);
    this.#idle = null;
    for (const session of this.#sessions) session.close();
    this.#sessions = [];
  }

  #expected(): Router {
    assert(this.#known !== null, "the tables are known");
    return this.#known.router;
  }

  async #inTime(asked: Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), PATIENCE_MS);
    });
    const came = await Promise.race([asked.then(() => "asked" as const).catch(() => "late"), late]);
    clearTimeout(timer);
    // From then on nobody waits until an answer has come.
    if (came === "late") this.#isLate = true;
  }

  /** Resolves when the servers have answered a question that was asked after the call. */
  async #ask(): Promise<void> {
    if (this.#asking === null) return await this.#begin();
    this.#askingNext ??= this.#asking
      .catch(() => {})
      .then(async () => {
        this.#askingNext = null;
        await this.#begin();
      });
    await this.#askingNext;
  }

  async #begin(): Promise<void> {
    const asking = this.#look().finally(() => {
      if (this.#asking === asking) this.#asking = null;
    });
    this.#asking = asking;
    this.#askingSince = this.#changes;
    await asking;
  }

  async #look(): Promise<void> {
    const askedAtMs = performance.now();
    const changes = this.#changes;
    const sessions = this.#use();
    const said = await answers(sessions.entries(), async ([shard, session]) => ({
      ...{ shard, session, version: await session.version() },
    }));
    const before = this.#known;
    if (before && isSaid(said, before)) this.#known = { ...before, changes, askedAtMs };
    else await this.#read(said, { changes, askedAtMs });
    // One that is silent is not waited for again and again.
    if (said.length === sessions.length) this.#isLate = false;
    // A first look may fall between two shards of one change.
    if (this.#known?.router === before?.router) this.#tellUnlike();
  }

  /** The version came first: what is changed between it and the facts is read once more. */
  async #read(said: readonly Said[], look: Pick<Known, "changes" | "askedAtMs">): Promise<void> {
    const before = this.#known;
    const inherited = this.#inherited;
    this.#inherited = null;
    const found = inherited !== null && isSaid(said, inherited) ? inherited : await readFacts(said);
    const { texts } = found;
    const isSame = before !== null && before.texts.join("\0") === texts.join("\0");
    const router = isSame ? before.router : await this.#made(texts);
    this.#known = { ...look, ...found, router };
    if (before && !isSame) this.#onChange();
  }

  async #made(texts: readonly string[]): Promise<Router> {
    await loadParser();
    const lists = texts.map((text) => JSON.parse(text) as SchemaFactsLists);
    const agreed = agreedFacts(lists);
    this.#unlike = agreed.unlike;
    return createRouter(this.#database, schemaFacts(agreed.lists));
  }

  #tellUnlike(): void {
    const fresh = this.#unlike.filter((table) => !this.#toldUnlike.has(table));
    if (fresh.length === 0) return;
    for (const table of fresh) this.#toldUnlike.add(table);
    this.#log.warn("tables are not the same on every shard", { tables: fresh.join(", ") });
  }

  #use(): readonly CatalogSession[] {
    if (this.#sessions.length === 0) {
      this.#sessions = this.#openSessions();
      this.#sessions[0]?.listen(() => this.#onHeard());
    }
    if (this.#idle) this.#idle.refresh();
    else this.#idle = setTimeout(() => this.close(), IDLE_MS).unref();
    return this.#sessions;
  }
}

function isSaid(said: readonly Said[], { versions }: Pick<Known, "versions">): boolean {
  return said.every(({ shard, version }) => versions.get(shard) === version);
}

async function readFacts(said: readonly Said[]): Promise<Pick<Known, "texts" | "versions">> {
  const read = await answers(said, async ({ session, shard, version }) => ({
    ...{ shard, version, text: await session.facts() },
  }));
  return {
    texts: [...new Set(read.map(({ text }) => text))],
    versions: new Map(read.map(({ shard, version }) => [shard, version])),
  };
}

/** Of those that answer. @throws what the first one threw where none does */
async function answers<A, T>(
  asked: Iterable<A>,
  question: (one: A) => Promise<T>,
): Promise<readonly T[]> {
  const settled = await Promise.allSettled([...asked].map(question));
  const answered = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  if (answered.length > 0) return answered;
  throw settled.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []))[0];
}
