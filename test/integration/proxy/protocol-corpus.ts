import {
  COPY_DONE,
  encodeBind,
  encodeCopyData,
  encodeCopyFail,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";

/** What is sent, and the letter of the message that ends PostgreSQL's answer to it. */
export interface Exchange {
  readonly send: readonly Buffer[];
  readonly until: string;
}

export interface Script {
  readonly name: string;
  readonly exchanges: readonly Exchange[];
}

const FLUSH = Buffer.from([0x48, 0, 0, 0, 4]);
const S = SYNC;
const H = FLUSH;
const DONE = COPY_DONE;

const Q = (sql: string) => encodeQuery(sql);
const P = (sql: string, name = "", types: readonly number[] = []) =>
  encodeParseSql(name, sql, types);
const E = (maxRows = 0, portal = "") => encodeExecute({ portal, maxRows });
const D = (name = "") => encodeDescribe({ target: "portal", name });
const DS = (name = "") => encodeDescribe({ target: "statement", name });
const data = (text: string) => encodeCopyData([Buffer.from(text)]);
const bytes = (hex: string) => encodeCopyData([Buffer.from(hex.replaceAll(" ", ""), "hex")]);
const FAIL = encodeCopyFail("the client changed its mind");

function B(
  values: readonly (string | null)[] = [],
  { portal = "", statement = "", results = [] as readonly number[] } = {},
): Buffer {
  const parameters = values.map((value) => (value === null ? null : Buffer.from(value)));
  return encodeBind({
    ...{ portal, statement, parameterFormats: [], parameters, resultFormats: results },
  });
}

function close(target: "statement" | "portal", name: string): Buffer {
  const message = encodeDescribe({ target, name });
  message[0] = 0x43;
  return message;
}

const to = (until: string, ...send: readonly Buffer[]): Exchange => ({ send, until });
const z = (...send: readonly Buffer[]): Exchange => to("Z", ...send);
/** The last thing that each script does: what was owed too much, or too little, shows here. */
const PROOF = z(Q("SELECT 'proof' AS proof"));

const script = (name: string, ...exchanges: readonly Exchange[]): Script => ({
  name,
  exchanges: [...exchanges, PROOF],
});

const ALL = "SELECT id, v FROM t ORDER BY id";
const ONE_SHARD = "SELECT id, v FROM t WHERE id = 1";
const OF_ONE = "SELECT k, v FROM lone WHERE id = 1 ORDER BY k";
const RETURNING = "INSERT INTO t VALUES (101, 'a'), (103, 'b'), (102, 'c') RETURNING id";
const COUNT = z(Q("SELECT count(*) FROM t"));

/** `t(id bigint primary key, v text)` holds 1 to 6, on both shards; `lone(id, k, v)` has 1's rows 1 to 4. */
const PORTALS: readonly Script[] = [
  script("one portal, all rows", z(P(ALL), B(), D(), E(), S)),
  script("a limit that is above the rows", z(P(ALL), B(), D(), E(10), S)),
  script("a limit that is just the rows", z(P(ALL), B(), D(), E(6), E(6), S)),
  script("a limit, the rest is not asked for", z(P(ALL), B(), D(), E(2), S)),
  script("parts in one pipeline", z(P(ALL), B(), D(), E(2), E(3), E(4), E(4), S)),
  script("parts, the last without a limit", z(P(ALL), B(), D(), E(2), E(), S)),
  script("parts by Flush", to("T", P(ALL), B(), D(), H), to("s", E(4), H), to("C", E(4), H), z(S)),
  script(
    "parts across Sync in a transaction",
    z(Q("BEGIN")),
    z(P(ALL), B([], { portal: "p" }), D("p"), E(2, "p"), S),
    z(E(2, "p"), S),
    z(E(2, "p"), S),
    z(E(2, "p"), S),
    z(Q("COMMIT")),
    z(E(2, "p"), S),
  ),
  script(
    "a portal is gone after Sync outside of a transaction",
    z(P(ALL), B([], { portal: "p" }), E(2, "p"), S),
    z(E(2, "p"), S),
  ),
  script(
    "the unnamed portal across Sync in a transaction",
    z(Q("BEGIN")),
    z(P(ALL), B(), E(2), S),
    z(E(2), S),
    z(Q("SELECT 1 AS one")),
    z(E(2), S),
    z(Q("ROLLBACK")),
  ),
  script(
    "two portals in turns",
    z(Q("BEGIN")),
    z(P(ALL, "all"), B([], { portal: "a", statement: "all" }), E(2, "a"), S),
    z(B([], { portal: "b", statement: "all" }), E(1, "b"), E(2, "a"), E(1, "b"), S),
    z(E(3, "a"), E(0, "b"), S),
    z(Q("COMMIT")),
  ),
  script(
    "another statement between two parts",
    z(Q("BEGIN")),
    z(P(ALL), B([], { portal: "p" }), E(2, "p"), S),
    z(Q("SELECT count(*) FROM t")),
    z(P("UPDATE t SET v = 'x' WHERE id = 6"), B(), E(), S),
    z(E(0, "p"), S),
    z(Q("COMMIT")),
    z(Q(ALL)),
  ),
  script(
    "a portal does not see what was written after it began",
    z(Q("BEGIN")),
    z(P(ALL), B([], { portal: "p" }), E(1, "p"), S),
    z(Q("DELETE FROM t WHERE id > 3")),
    z(E(0, "p"), S),
    z(Q("ROLLBACK")),
  ),
  script("a portal of one shard in parts", z(P(OF_ONE), B(), D(), E(2), E(1), E(5), E(5), S)),
  script(
    "a portal of one shard across Sync",
    z(Q("BEGIN")),
    z(P(OF_ONE), B([], { portal: "p" }), E(3, "p"), S),
    z(E(3, "p"), S),
    z(Q("COMMIT")),
  ),
  script(
    "a portal of one shard, run once, asked again in its transaction",
    z(Q("BEGIN")),
    z(P(OF_ONE), B([], { portal: "p" }), E(0, "p"), S),
    z(E(0, "p"), S),
    z(D("p"), S),
    z(close("portal", "p"), S),
    z(E(0, "p"), S),
    z(Q("COMMIT")),
  ),
  script(
    "a portal that is bound now and run later",
    z(Q("BEGIN")),
    z(P(ONE_SHARD), B([], { portal: "p" }), S),
    z(D("p"), S),
    z(E(0, "p"), S),
    z(Q("COMMIT")),
  ),
  script("returned rows in parts", z(P(RETURNING), B(), D(), E(1), E(1), E(1), E(1), S), COUNT),
  script("returned rows, more asked for", z(P(RETURNING), B(), D(), E(2), E(), S), COUNT),
  script("returned rows, the rest is not asked for", z(P(RETURNING), B(), E(1), S), COUNT),
  script(
    "returned rows across Sync",
    z(Q("BEGIN")),
    z(P(RETURNING), B([], { portal: "p" }), E(1, "p"), S),
    z(E(1, "p"), S),
    COUNT,
    z(Q("ROLLBACK")),
    COUNT,
  ),
  script("a write with a limit (JDBC)", z(P("UPDATE t SET v = 'j'"), B(), D(), E(1), S), COUNT),
  script(
    "a write of named rows with a limit (JDBC)",
    z(P("UPDATE t SET v = 'j' WHERE id IN (1, 2, 3, 4)"), B(), D(), E(1), S),
    z(Q(ALL)),
  ),
  script(
    "DELETE and INSERT with a limit",
    z(P("DELETE FROM t WHERE id > 4"), B(), D(), E(1), S),
    z(P("INSERT INTO t VALUES ($1, 'n'), ($2, 'n')"), B(["7", "8"]), D(), E(1), S),
    z(Q(ALL)),
  ),
  script("a write is not run twice", z(P("UPDATE t SET v = v || '!'"), B(), E(), E(), S)),
  script("a SELECT that was done, again", z(P(ALL), B(), E(), E(), E(2), S)),
  script("a returning one that was done, again", z(P(RETURNING), B(), E(), E(), S), COUNT),
  script(
    "aggregates in parts",
    z(P("SELECT v, count(*) FROM t GROUP BY v ORDER BY v"), B(), D(), E(1), E(5), S),
  ),
  script("binary values in parts", z(P(ALL), B([], { results: [1] }), D(), E(4), E(4), S)),
  script(
    "a portal by a name that is taken",
    z(P(ALL), B([], { portal: "p" }), B([], { portal: "p" }), E(0, "p"), S),
  ),
  script(
    "a portal closed and bound again",
    z(
      ...[P(ALL), B([], { portal: "p" }), E(1, "p"), close("portal", "p")],
      ...[B([], { portal: "p" }), E(1, "p"), S],
    ),
  ),
  script("a portal that nobody bound", z(E(0, "none"), S), z(D("none"), S)),
  script("close what nobody made", z(close("portal", "none"), close("statement", "none"), S)),
  script(
    "a portal of a closed statement",
    z(
      ...[P(ALL, "s"), B([], { portal: "p", statement: "s" }), close("statement", "s")],
      ...[E(2, "p"), S],
    ),
  ),
];

const DESCRIBE: readonly Script[] = [
  script("Describe(portal) and Flush", to("T", P(ALL), B(), D(), H), z(E(), S)),
  script("Describe(portal) and Flush, of one shard", to("T", P(OF_ONE), B(), D(), H), z(E(), S)),
  script("Describe(portal) and Sync", z(P(ALL), B(), D(), S)),
  script("Describe(portal) twice", z(P(ALL), B(), D(), D(), E(), S)),
  script("Describe(portal) after the rows", z(P(ALL), B(), E(2), D(), E(), S)),
  script("Describe(statement) and Flush", to("T", P(ALL), DS(), H), z(B(), E(), S)),
  script(
    "Describe(statement) with parameters",
    z(P("SELECT v FROM t WHERE id = $1 OR id = $2 ORDER BY id", "s"), DS("s"), S),
    z(B(["1", "5"], { statement: "s" }), D(), E(), S),
  ),
  script("Describe of what returns nothing", to("n", P("DELETE FROM t"), B(), D(), H), z(E(1), S)),
  script("Describe of SET", to("n", P("SET work_mem = '5MB'"), B(), D(), H), z(E(), S)),
  script("Describe of SHOW", z(P("SHOW work_mem"), B(), D(), S)),
  script("Describe of what is not there", z(DS("none"), S)),
  script("Parse and Flush", to("1", P(ALL), H), to("2", B(), H), to("C", E(), H), z(S)),
  script("Flush with nothing before it", z(H, H, P(ALL), H, B(), H, E(1), H, S)),
  script("Sync, and Sync again", z(S), z(S), z(P(ALL), B(), E(), S)),
];

const ERRORS: readonly Script[] = [
  script("Parse of no SQL", z(P("SELEC nonsense"), B(), D(), E(), S)),
  script("Parse of no SQL and Flush", to("E", P("SELEC nonsense"), H), z(S)),
  script("Parse of a table that is not there", z(P("SELECT * FROM missing"), B(), D(), E(), S)),
  script(
    "Parse of a table that is not there, after a good one",
    z(P(ALL), B(), E(), P("SELECT * FROM missing"), B(), D(), E(), S),
  ),
  script("Parse of a column that is not there", z(P("SELECT nope FROM t"), B(), D(), E(), S)),
  script(
    "a failed Parse leaves no statement",
    z(P("SELECT nope FROM t", "s"), S),
    z(DS("s"), S),
    z(P(ALL, "s"), S),
    z(B([], { statement: "s" }), E(1), S),
  ),
  script(
    "a failed Parse with its Bind and Execute leaves no statement",
    z(P("SELECT nope FROM t", "s"), B([], { statement: "s" }), E(), S),
    z(P(ALL, "s"), B([], { statement: "s" }), E(), S),
  ),
  script("a name twice", z(P(ALL, "s"), S), z(P(ALL, "s"), B([], { statement: "s" }), E(), S)),
  script("Bind of too few values", z(P("SELECT v FROM t WHERE id > $1"), B(), D(), E(), S)),
  script("Bind of what is no number", z(P("SELECT v FROM t WHERE id > $1"), B(["x"]), D(), E(), S)),
  script(
    "Bind of what is no number, then Flush",
    to("E", P("SELECT v FROM t WHERE id > $1"), B(["x"]), H),
    z(S),
  ),
  script("Bind of no statement", z(B([], { statement: "none" }), D(), E(), S)),
  script("Execute fails", z(P("SELECT id / (id - id) FROM t"), B(), D(), E(), S)),
  script(
    "all before an error is undone",
    z(
      ...[P("INSERT INTO t VALUES (201, 'x')"), B(), E()],
      ...[P("INSERT INTO t VALUES (203, 'y')"), B(), E()],
      ...[P("INSERT INTO t VALUES (1, 'again')"), B(), E()],
      ...[P("INSERT INTO t VALUES (204, 'z')"), B(), E(), S],
    ),
    COUNT,
  ),
  script(
    "an error, then Flush, then more, then Sync",
    to("E", P("SELECT nope FROM t"), H),
    z(...[P(ALL), B(), D(), H, E(), H], S),
  ),
  script(
    "an error, then a pipeline with Flush that is skipped",
    to("E", P("SELECT nope FROM t"), H),
    z(P(ALL), H, B(), H, Q("SELECT 2 AS skipped"), S),
  ),
  script(
    "two pipelines at once, the first fails",
    to("ZZ", P("SELECT nope FROM t"), B(), E(), S, P(ALL), B(), E(), S),
  ),
  script(
    "an error in a transaction",
    z(Q("BEGIN")),
    z(P("SELECT nope FROM t"), B(), E(), S),
    z(P(ALL), B(), D(), E(), S),
    z(P("ROLLBACK"), B(), D(), E(), S),
    z(P(ALL), B(), E(1), S),
  ),
  script(
    "a Query behind messages without Sync",
    z(P("INSERT INTO t VALUES (301, 'x')"), B(), E(), Q("SELECT count(*) FROM t")),
    COUNT,
  ),
  script(
    "a Query behind messages without Sync that fail",
    to("E", P("INSERT INTO t VALUES (1, 'x')"), B(), E(), Q("SELECT count(*) FROM t")),
    z(S),
    COUNT,
  ),
];

const TRANSACTIONS: readonly Script[] = [
  script(
    "BEGIN, work, COMMIT by the extended protocol",
    z(P("BEGIN"), B(), D(), E(), S),
    z(P("UPDATE t SET v = 'x'"), B(), E(), S),
    z(P("COMMIT"), B(), D(), E(), S),
  ),
  script(
    "all in one pipeline",
    z(
      ...[P("BEGIN"), B(), E(), P("INSERT INTO t VALUES (401, 'x')"), B(), E()],
      ...[P("INSERT INTO t VALUES (403, 'x')"), B(), E(), P("COMMIT"), B(), E(), S],
    ),
    COUNT,
  ),
  script("BEGIN inside a transaction", z(Q("BEGIN")), z(Q(ALL)), z(Q("BEGIN")), z(Q("COMMIT"))),
  script(
    "BEGIN inside a transaction by the extended protocol",
    z(P("BEGIN"), B(), E(), S),
    z(P(ALL), B(), E(1), S),
    z(P("BEGIN"), B(), E(), S),
    z(P("COMMIT"), B(), E(), S),
  ),
  script("BEGIN twice at once", z(Q("BEGIN")), z(Q("BEGIN")), z(Q(ALL)), z(Q("COMMIT"))),
  script(
    "START TRANSACTION has its tag",
    z(Q("START TRANSACTION")),
    z(Q("ROLLBACK")),
    z(P("START TRANSACTION READ ONLY"), B(), E(), S),
    z(P("DELETE FROM t"), B(), E(), S),
    z(P("ABORT"), B(), E(), S),
  ),
  script(
    "COMMIT and ROLLBACK outside of a transaction",
    z(Q("COMMIT")),
    z(Q("ROLLBACK")),
    z(P("COMMIT"), B(), E(), S),
    z(P("ROLLBACK"), B(), E(), S),
  ),
  script("END is COMMIT", z(Q("BEGIN")), z(Q(ALL)), z(Q("END"))),
  script(
    "SAVEPOINT and back",
    z(Q("BEGIN")),
    z(Q("UPDATE t SET v = 'x'")),
    z(P("SAVEPOINT a"), B(), E(), S),
    z(Q("DELETE FROM t")),
    z(P("ROLLBACK TO a"), B(), E(), S),
    z(P("RELEASE a"), B(), E(), S),
    z(Q("COMMIT")),
    z(Q(ALL)),
  ),
  script("an empty text", z(P(""), B(), D(), E(), S), z(Q("")), z(Q(" ; "))),
];

const CURSORS: readonly Script[] = [
  script(
    "DECLARE, FETCH, MOVE, CLOSE",
    z(Q("BEGIN")),
    z(Q(`DECLARE c CURSOR FOR ${ALL}`)),
    z(Q("FETCH 2 FROM c")),
    z(Q("MOVE 1 FROM c")),
    z(Q("FETCH FORWARD ALL FROM c")),
    z(Q("FETCH c")),
    z(Q("CLOSE c")),
    z(Q("FETCH c")),
    z(Q("ROLLBACK")),
  ),
  script(
    "a SCROLL cursor in all directions",
    z(Q("BEGIN")),
    z(Q(`DECLARE c SCROLL CURSOR FOR ${ALL}`)),
    ...[
      ...["FETCH LAST", "FETCH PRIOR", "FETCH FIRST", "FETCH ABSOLUTE 3", "FETCH RELATIVE 2"],
      ...["FETCH ABSOLUTE -2", "FETCH BACKWARD 2", "FETCH RELATIVE 0", "FETCH FORWARD 0"],
      ...["FETCH BACKWARD ALL", "FETCH FORWARD 2", "MOVE LAST", "MOVE BACKWARD 3", "FETCH NEXT"],
      ...["MOVE ABSOLUTE 2", "FETCH 0", "MOVE BACKWARD ALL", "FETCH 1", "FETCH ABSOLUTE 99"],
      ...["FETCH PRIOR", "FETCH ABSOLUTE 0", "FETCH NEXT", "MOVE ALL", "FETCH BACKWARD 1"],
      ...["FETCH -1", "FETCH BACKWARD -1", "FETCH RELATIVE -1", "MOVE 0", "MOVE RELATIVE 1"],
    ].map((fetch) => z(Q(`${fetch} FROM c`))),
    z(Q("COMMIT")),
  ),
  script(
    "a cursor without scrolling",
    z(Q("BEGIN")),
    z(Q(`DECLARE c NO SCROLL CURSOR FOR ${ALL}`)),
    z(Q("FETCH 2 FROM c")),
    z(Q("FETCH PRIOR FROM c")),
    z(Q("ROLLBACK")),
  ),
  script(
    "a cursor by the extended protocol (psycopg, JDBC)",
    z(P("BEGIN"), B(), E(), S),
    z(P(`DECLARE "c 1" CURSOR FOR ${ALL}`), B(), D(), E(), S),
    z(D("c 1"), S),
    z(P('FETCH FORWARD 4 FROM "c 1"'), B(), D(), E(), S),
    z(P('FETCH FORWARD 4 FROM "c 1"'), B(), D(), E(), S),
    z(P('CLOSE "c 1"'), B(), D(), E(), S),
    z(P("COMMIT"), B(), E(), S),
  ),
  script(
    "a cursor described by Flush",
    z(Q("BEGIN")),
    z(Q(`DECLARE c CURSOR FOR ${ALL}`)),
    to("T", P("FETCH 2 FROM c"), B(), D(), H),
    z(E(), S),
    z(P("FETCH 3 FROM c"), B(), E(2), E(2), S),
    z(Q("COMMIT")),
  ),
  script("a cursor outside of a transaction", z(Q(`DECLARE c CURSOR FOR ${ALL}`))),
  script(
    "a cursor WITH HOLD",
    z(Q(`DECLARE c CURSOR WITH HOLD FOR ${ALL}`)),
    z(Q("FETCH 2 FROM c")),
    z(Q("CLOSE c")),
  ),
  script(
    "a cursor by a portal's name",
    z(Q("BEGIN")),
    z(Q(`DECLARE c CURSOR FOR ${ALL}`)),
    z(P(ALL), B([], { portal: "c" }), S),
    z(Q("ROLLBACK")),
  ),
  script(
    "a cursor executed as a portal",
    z(Q("BEGIN")),
    z(Q(`DECLARE c CURSOR FOR ${ALL}`)),
    z(E(2, "c"), S),
    z(E(9, "c"), S),
    z(close("portal", "c"), S),
    z(E(9, "c"), S),
    z(Q("ROLLBACK")),
  ),
];

/** Rows that are the same in whatever order shards give them. */
const SAME = "SELECT 7 AS n, 'same' AS v FROM t";
const COPY_T = "COPY t FROM STDIN";
const BINARY = "COPY t FROM STDIN (FORMAT binary)";
const HEADER = "50 47 43 4f 50 59 0a ff 0d 0a 00 00 00 00 00 00 00 00 00";
const row = (id: number, value: string) =>
  `0002 00000008 ${id.toString(16).padStart(16, "0")} 00000001 ${Buffer.from(value).toString("hex")}`;

const COPIES: readonly Script[] = [
  script(
    "COPY IN by the simple protocol",
    to("G", Q(COPY_T)),
    z(data("501\ta\n503\tb\n"), DONE),
    COUNT,
  ),
  script("COPY IN, all at once", z(Q(COPY_T), data("501\ta\n503\tb\n"), DONE), COUNT),
  script("COPY IN that the client gives up", to("G", Q(COPY_T)), z(data("501\ta\n"), FAIL), COUNT),
  script("COPY IN of what is no row", to("G", Q(COPY_T)), z(data("501\ta\tb\n"), DONE), COUNT),
  script(
    "an error in COPY IN is told at once",
    to("G", Q(COPY_T)),
    z(data("501\ta\n503\tb\tc\n")),
    z(data("502\ta\n"), DONE, Q("SELECT 2 AS two")),
    COUNT,
  ),
  script(
    "COPY IN by the extended protocol",
    to("G", P(COPY_T), B(), E(), S),
    z(data("501\ta\n503\tb\n"), DONE, S),
    COUNT,
  ),
  script(
    "COPY IN by the extended protocol, described",
    to("G", P(COPY_T), B(), D(), E(), S),
    z(data("501\ta\n"), data("503\tb\n"), DONE, S),
    COUNT,
  ),
  script(
    "COPY IN by Flush",
    to("G", P(COPY_T), B(), D(), E(), H),
    to("C", ...[data("501\ta\n503\tb\n"), DONE, H]),
    z(S),
    COUNT,
  ),
  script(
    "COPY IN by the extended protocol, all at once",
    z(...[P(COPY_T), B(), E(), data("501\ta\n503\tb\n"), DONE, S]),
    COUNT,
  ),
  script(
    "COPY IN with Syncs and Flushes inside",
    to("G", P(COPY_T), B(), E(), S),
    z(...[S, data("501\ta\n"), H, S, data("503\tb\n"), S, DONE, S]),
    COUNT,
  ),
  script(
    "COPY IN by the extended protocol fails",
    to("G", P(COPY_T), B(), E(), S),
    z(...[data("501\ta\tb\n"), DONE, S]),
    COUNT,
  ),
  script(
    "COPY IN by the extended protocol is given up",
    to("G", P(COPY_T), B(), E(), S),
    z(...[data("501\ta\n"), FAIL, S]),
    COUNT,
  ),
  script(
    "an error in COPY IN by the extended protocol is told at once",
    to("G", P(COPY_T), B(), E(), S),
    to("E", data("501\ta\tb\n")),
    z(data("502\ta\n"), DONE, S),
    COUNT,
  ),
  script(
    "COPY IN that fails before it begins",
    z(...[P("COPY t (id, nope) FROM STDIN"), B(), E(), S]),
    z(Q("COPY t (id, nope) FROM STDIN")),
  ),
  script(
    "COPY IN in a transaction, by the extended protocol",
    z(Q("BEGIN")),
    to("G", P(COPY_T), B(), E(), S),
    z(data("501\ta\n503\tb\n"), DONE, S),
    COUNT,
    z(Q("ROLLBACK")),
    COUNT,
  ),
  script(
    "COPY IN between other work",
    to("G", ...[P("UPDATE t SET v = 'x' WHERE id = 1"), B(), E(), P(COPY_T), B(), E(), S]),
    z(data("501\ta\n503\tb\n"), DONE, P("DELETE FROM t WHERE id = 501"), B(), E(), S),
    COUNT,
  ),
  script(
    "COPY IN in binary",
    to("G", P(BINARY), B(), E(), S),
    z(...[bytes(HEADER), bytes(row(501, "a")), bytes(row(503, "b")), bytes("ffff"), DONE, S]),
    z(Q(ALL)),
  ),
  script(
    "COPY IN in binary, by the simple protocol",
    to("G", Q(BINARY)),
    z(...[bytes(`${HEADER} ${row(501, "a")} ${row(503, "b")} ffff`), DONE]),
    COUNT,
  ),
  {
    name: "a Query inside COPY IN",
    exchanges: [to("G", Q(COPY_T)), to("closed", data("501\ta\n"), Q("SELECT 1"))],
  },
  {
    name: "a Parse inside COPY IN by the extended protocol",
    exchanges: [to("G", P(COPY_T), B(), E(), S), to("closed", data("501\ta\n"), P("SELECT 1"), S)],
  },
  script("copy messages when there is no COPY", z(data("x"), DONE, Q("SELECT 1"), FAIL)),
  script("COPY OUT", z(Q("COPY (SELECT id, v FROM t WHERE id = 1) TO STDOUT"))),
  script(
    "COPY OUT by the extended protocol",
    z(...[P("COPY (SELECT id, v FROM t WHERE id = 1) TO STDOUT"), B(), D(), E(), S]),
  ),
  script("COPY OUT over shards", z(Q(`COPY (${SAME}) TO STDOUT`))),
  script(
    "COPY OUT over shards by the extended protocol, with a limit",
    z(...[P(`COPY (${SAME}) TO STDOUT`), B(), D(), E(2), S]),
  ),
  script("COPY OUT in binary", z(Q(`COPY (${SAME}) TO STDOUT (FORMAT binary)`))),
  script(
    "COPY OUT in binary by the extended protocol",
    z(...[P(`COPY (${SAME}) TO STDOUT (FORMAT binary)`), B(), E(), S]),
  ),
  script(
    "COPY OUT in binary, of nothing",
    z(Q("COPY (SELECT id, v FROM t WHERE id < 0) TO STDOUT (FORMAT binary)")),
  ),
];

export const SCRIPTS: readonly Script[] = [
  ...[...PORTALS, ...DESCRIBE, ...ERRORS],
  ...[...TRANSACTIONS, ...CURSORS, ...COPIES],
];
