import {
  B,
  bytes,
  D,
  DONE,
  data,
  E,
  FAIL,
  H,
  P,
  Q,
  S,
  type Script,
  script,
  to,
  z,
} from "./protocol-script.js";

const COUNT = z(Q("SELECT count(*) FROM t"));
const ALL = "SELECT id, v FROM t ORDER BY id";

/** Rows that are the same in whatever order shards give them. */
const SAME = "SELECT 7 AS n, 'same' AS v FROM t";
const COPY_T = "COPY t FROM STDIN";
const BINARY = "COPY t FROM STDIN (FORMAT binary)";
const HEADER = "50 47 43 4f 50 59 0a ff 0d 0a 00 00 00 00 00 00 00 00 00";
const row = (id: number, value: string) =>
  `0002 00000008 ${id.toString(16).padStart(16, "0")} 00000001 ${Buffer.from(value).toString("hex")}`;

/** COPY, in and out. */
export const COPIES: readonly Script[] = [
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
