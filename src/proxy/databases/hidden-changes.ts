import type { ServerConnection } from "../../backend/server-connection.js";

/** A function that changes its session: its name, and settings by the names in its source. */
interface Changer {
  readonly name: string;
  readonly settings: readonly string[];
  /** Reached without its name: by a trigger, a view, a default, an operator, ... */
  readonly isHidden: boolean;
}

/** Functions may be made past us. */
const KNOWN_FOR_MS = 10_000;

/**
 * Functions by which a statement changes its session though its text does not tell. Judged by their source: set_config,
 * SET, temporary objects, advisory locks, statements made at run time; languages that cannot be read count as all of it.
 * Where a database has none, which is usual, statements cost nothing.
 */
export class HiddenChanges {
  #generation = -1;
  #learnedAtMs = 0;
  #learning = false;
  #names: RegExp | null = null;
  #changers: readonly Changer[] = [];
  /** null: no statement is safe from none of them. */
  #always: readonly string[] | null = null;

  /**
   * Asks anew after DDL, and every 10 s.
   * @throws ServerConnectionLost
   */
  async learn(server: ServerConnection, generation: number): Promise<void> {
    const isOld = this.#generation !== generation;
    if (!isOld && (this.#learning || Date.now() - this.#learnedAtMs < KNOWN_FOR_MS)) return;
    this.#learning = true;
    try {
      const { rows, error } = await server.query(CHANGERS_SQL);
      // Then the statement will fail as well; until it is known, every one is asked after.
      const json = error ? null : rows[0]?.[0];
      this.#take(json ? (JSON.parse(json) as Changer[]) : [ANY_CHANGER]);
      this.#generation = generation;
      this.#learnedAtMs = Date.now();
    } finally {
      this.#learning = false;
    }
  }

  /** @returns settings that these statements may change by what they call, which may be others as well; null: none */
  of(texts: Iterable<string>): readonly string[] | null {
    if (this.#always) return this.#always;
    const names = this.#names;
    if (!names) return null;
    for (const text of texts)
      if (names.test(text)) {
        const lower = text.toLowerCase();
        const called = this.#changers.filter(({ name }) => lower.includes(name.toLowerCase()));
        return called.flatMap(({ settings }) => settings);
      }
    return null;
  }

  #take(changers: readonly Changer[]): void {
    this.#changers = changers;
    this.#always = changers.some(({ isHidden }) => isHidden)
      ? [...new Set(changers.flatMap(({ settings }) => settings))]
      : null;
    const names = changers.map(({ name }) => name.replaceAll(/[^\w]/g, (each) => `\\${each}`));
    this.#names = names.length > 0 ? new RegExp(`(?:${names.join("|")})`, "i") : null;
  }
}

const ANY_CHANGER: Changer = { name: "", settings: [], isHidden: true };

// `EXECUTE 'INSERT ...'` and `EXECUTE format('UPDATE ...')` do what their first word says.
const HARMLESS_EXECUTE = String.raw`\mexecute\s+((pg_catalog\.)?format\s*\(\s*)?[eE]?''\s*(insert|update|delete|select|with|lock|drop|truncate|analyze|notify|refresh|alter\s+table|create\s+(unique\s+)?(index|schema))\M|\mexecute\s+(function|procedure)\M`;
const CHANGES = String.raw`\mset_config\M|advisory_lock\M|\mpg_settings\M|\m(temp|temporary|pg_temp|setseed|set_limit)\M|\mexecute\M|(^|;|\*/|--[^\n]*\n|>>|\m(begin|then|else|loop)\M)\s*((set|load|listen|prepare)\s+(?!local\M)|reset\M|discard\M)`;

const CHANGERS_SQL = `
WITH RECURSIVE own AS (
  SELECT p.oid, p.proname, l.lanname,
         pg_catalog.regexp_replace(coalesce(p.prosrc, ''), '${HARMLESS_EXECUTE}', ' ', 'gi') AS source,
         EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                   AND d.objid = p.oid AND d.deptype = 'e') AS is_extension
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
   WHERE p.oid >= 16384 AND p.pronamespace <> 'pg_catalog'::regnamespace
     AND p.pronamespace <> coalesce(to_regnamespace('sluice'), 0)
), changing AS (
  SELECT oid, proname, source FROM own
   WHERE CASE WHEN lanname IN ('c', 'internal') THEN NOT is_extension OR proname = 'set_limit'
              WHEN lanname IN ('sql', 'plpgsql') THEN source ~* '${CHANGES}'
              ELSE true END
  UNION
  SELECT o.oid, o.proname, o.source || ' ' || c.source FROM own o JOIN changing c
      ON o.lanname IN ('sql', 'plpgsql') AND o.oid <> c.oid AND strpos(lower(o.source), lower(c.proname)) > 0
     AND strpos(o.source, c.source) = 0 AND length(c.source) < 100000
)
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
  'name', proname,
  'settings', (SELECT coalesce(pg_catalog.json_agg(DISTINCT lower(m[1])), '[]')
                 FROM pg_catalog.regexp_matches(source, 'set_config\\s*\\(\\s*''([\\w.]+)''', 'gi') m),
  'isHidden', EXISTS (SELECT FROM pg_catalog.pg_depend d
                       WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = changing.oid
                         AND d.classid <> 'pg_catalog.pg_proc'::regclass)
)), '[]') FROM changing`;
