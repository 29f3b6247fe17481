import { describe, expect, it } from "vitest";
import { type Command, parseCommand } from "../../../src/admin/command.js";
import { AdminSyntaxError } from "../../../src/admin/tokens.js";

const names = { source: "prod", destination: "prod_sharded", publication: "all_tables" };

const CASES: readonly (readonly [sql: string, command: Command])[] = [
  [
    "RESHARD prod prod_sharded all_tables",
    { kind: "startTask", task: "reshard", ...names, slot: null },
  ],
  [
    "  reshard\tprod \n prod_sharded   all_tables my_slot ; ",
    { kind: "startTask", task: "reshard", ...names, slot: "my_slot" },
  ],
  [
    'COPY_DATA Prod "Prod Sharded" \'All"Tables\'',
    {
      kind: "startTask",
      task: "copy_data",
      source: "Prod",
      destination: "Prod Sharded",
      publication: 'All"Tables',
      slot: null,
    },
  ],
  [
    "REPLICATE prod prod_sharded all_tables sluice_0123456789ab",
    { kind: "startTask", task: "replicate", ...names, slot: "sluice_0123456789ab" },
  ],
  [
    "schema_sync Pre prod prod_sharded all_tables",
    { kind: "schemaSync", phase: "pre", ...names, slot: null },
  ],
  [
    "SCHEMA_SYNC CUTOVER prod prod_sharded all_tables unused",
    { kind: "schemaSync", phase: "cutover", ...names, slot: "unused" },
  ],
  ["CUTOVER", { kind: "cutover", taskId: null }],
  ["cutover   12;", { kind: "cutover", taskId: 12 }],
  ["STOP_TASK 0", { kind: "stopTask", taskId: 0 }],
  ["SHOW TASKS;;", { kind: "show", what: "tasks", columns: [] }],
  ["SHOW EVIDENCE", { kind: "show", what: "evidence", columns: [] }],
  ["show evidence 12;", { kind: "show", what: "evidence", columns: [], taskId: 12 }],
  ["show Table_Copies", { kind: "show", what: "table_copies", columns: [] }],
  ["SHOW CLIENTS id, state", { kind: "show", what: "clients", columns: ["id", "state"] }],
  [
    "SHOW SERVERS Application_Name",
    { kind: "show", what: "servers", columns: ["application_name"] },
  ],
  [
    "SHOW standard_conforming_strings",
    { kind: "showSetting", name: "standard_conforming_strings" },
  ],
  [
    "SHOW TRANSACTION ISOLATION LEVEL",
    { kind: "showSetting", name: "TRANSACTION_ISOLATION_LEVEL" },
  ],
  ["SHOW PREPARED", { kind: "unsupported", name: "SHOW PREPARED" }],
  ["MAINTENANCE ON", { kind: "maintenance", isOn: true, database: null }],
  ["maintenance off Prod", { kind: "maintenance", isOn: false, database: "Prod" }],
  ["PAUSE", { kind: "pause", isPaused: true, user: null, database: null }],
  ["PAUSE prod", { kind: "pause", isPaused: true, user: null, database: "prod" }],
  ["RESUME app prod", { kind: "pause", isPaused: false, user: "app", database: "prod" }],
  ["RELOAD", { kind: "reload" }],
  ["RECONNECT", { kind: "reconnect" }],
  ["SHUTDOWN", { kind: "shutdown" }],
  ["SET checkout_timeout TO 250", { kind: "set", name: "checkout_timeout", value: "250" }],
  ["set session DateStyle = 'ISO, MDY'", { kind: "set", name: "datestyle", value: "ISO, MDY" }],
  ["RESOLVE CUTOVER prod", { kind: "resolveCutover", database: "prod" }],
  ["UNFENCE prod", { kind: "unfence", database: "prod", isConfirmed: false }],
  ['UNFENCE "confirm" CONFIRM', { kind: "unfence", database: "confirm", isConfirmed: true }],
  ["BAN 1", { kind: "unsupported", name: "BAN" }],
  ["", { kind: "empty" }],
  [" ; ", { kind: "empty" }],
  ["/* psql */ RELOAD -- now", { kind: "reload" }],
  ["SHOW/**/VERSION", { kind: "show", what: "version", columns: [] }],
];

describe("commands of the admin database", () => {
  it.each(CASES)("%j", (sql, command) => {
    expect(parseCommand(sql)).toEqual(command);
  });
});

const REFUSED: readonly (readonly [sql: string, hint: RegExp])[] = [
  ["RESHARD prod prod_sharded", /Usage: RESHARD <source> <destination> <publication> \[<slot>\]/],
  ["RESHARD a b c d e", /Usage: RESHARD/],
  ['RESHARD a "" c', /Usage: RESHARD/],
  ["SCHEMA_SYNC prod a b c", /Usage: SCHEMA_SYNC PRE\|POST\|CUTOVER/],
  ["CUTOVER x", /Usage: CUTOVER \[<task_id>\]/],
  ["CUTOVER -1", /Usage: CUTOVER/],
  ["CUTOVER 1 2", /Usage: CUTOVER/],
  ["STOP_TASK", /Usage: STOP_TASK <task_id>/],
  ["STOP_TASK 1.5", /Usage: STOP_TASK/],
  ["SHOW", /Usage: SHOW/],
  ["SHOW TASKS now", /Usage: SHOW TASKS/],
  ["SHOW EVIDENCE x", /Usage: SHOW EVIDENCE \[<task_id>\]/],
  ["SHOW EVIDENCE 1 2", /Usage: SHOW EVIDENCE/],
  ["MAINTENANCE", /Usage: MAINTENANCE ON\|OFF/],
  ["MAINTENANCE maybe", /Usage: MAINTENANCE/],
  ["PAUSE a b c", /Usage: PAUSE/],
  ["RELOAD now", /Usage: RELOAD/],
  ["SET checkout_timeout 5", /Usage: SET <name> TO <value>/],
  ["SET checkout_timeout TO", /Usage: SET/],
  ["RESOLVE prod", /Usage: RESOLVE CUTOVER/],
  ["UNFENCE prod yes", /Usage: UNFENCE <database> CONFIRM/],
  ["SELECT 1", /admin-commands/],
  ['"RELOAD"', /admin-commands/],
  ["RELOAD; RELOAD", /one at a time/],
  ['RESHARD "a b c', /Close the name/],
  ["RELOAD /* open", /Close the comment/],
];

describe("what the admin database does not understand", () => {
  it.each(REFUSED)("%j", (sql, hint) => {
    const refused = () => parseCommand(sql);
    expect(refused).toThrow(AdminSyntaxError);
    expect(refused).toThrow("syntax error in admin command");
    try {
      refused();
    } catch (error) {
      expect(error instanceof AdminSyntaxError && error.hint).toMatch(hint);
    }
  });
});
