import { quoteIdentifier } from "./identifier.js";
import { SQLSTATE } from "./sqlstate.js";

/**
 * Triggers of ours on omnisharded tables, so that those of the application have an effect on one shard only and the
 * others are given what came of it. They do nothing unless a transaction says so, by settings that any role may set:
 *
 * - `sluice.capture = 'on'`, on the deciding shard: every row that is written, by whatever trigger or foreign key, is
 *   noted in `sluice.captured`, one JSON array per line, in the order of the writes.
 * - `sluice.replay = 'on'`, on another shard: a row is stored as the statement gives it, whatever BEFORE triggers
 *   make of it, as the first of them keeps it and the last puts it back. What triggers and foreign keys write in
 *   omnisharded tables is left out: it is given as well.
 *
 * A trigger of a sharded table runs on one shard, and nobody would tell the others: it may not write these tables.
 *
 * PostgreSQL fires triggers in the order of the bytes of their names.
 */
export const ROW_GUARDS = {
  keep: "!sluice_replay",
  restore: "~sluice_replay",
  capture: "!sluice_capture",
} as const;

/** What one transaction may have captured; a setting is copied as a whole for each row. */
const LARGEST_CAPTURE_BYTES = 4 * 1024 * 1024;

/** In schema `sluice`, which must be there. Idempotent. */
export const ROW_GUARD_FUNCTIONS: readonly string[] = [
  `CREATE OR REPLACE FUNCTION sluice.replay_keep() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  IF pg_catalog.pg_trigger_depth() > 1 THEN
    IF pg_catalog.current_setting('sluice.replay', true) = 'on' THEN RETURN NULL; END IF;
    RAISE EXCEPTION 'omnisharded table "%.%" is written by a trigger of a table that is not', TG_TABLE_SCHEMA, TG_TABLE_NAME
      USING ERRCODE = '${SQLSTATE.triggeredDataChangeViolation}', HINT = 'The trigger runs on one shard, and the table must be the same on all. Write it by a statement of its own, through Sluice.';
  END IF;
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  PERFORM pg_catalog.set_config('sluice.row', NEW::pg_catalog.text, true);
  RETURN NEW;
END $body$`,
  `CREATE OR REPLACE FUNCTION sluice.replay_restore() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  EXECUTE pg_catalog.format('SELECT (%L::%s).*', pg_catalog.current_setting('sluice.row'), TG_RELID::pg_catalog.regclass)
    INTO NEW;
  RETURN NEW;
END $body$`,
  `CREATE OR REPLACE FUNCTION sluice.replay_capture() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
  captured pg_catalog.text := pg_catalog.current_setting('sluice.captured', true);
BEGIN
  captured := captured || pg_catalog.json_build_array(
    TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, OLD::pg_catalog.text, NEW::pg_catalog.text)::pg_catalog.text || E'\\n';
  IF pg_catalog.octet_length(captured) > ${LARGEST_CAPTURE_BYTES} THEN
    RAISE EXCEPTION 'one statement changes more rows of omnisharded tables with triggers than can be brought to other shards'
      USING ERRCODE = '${SQLSTATE.programLimitExceeded}', HINT = 'Change fewer rows at once.';
  END IF;
  PERFORM pg_catalog.set_config('sluice.captured', captured, true);
  RETURN NULL;
END $body$`,
];

const isOn = (setting: string) =>
  `coalesce(pg_catalog.current_setting('sluice.${setting}', true), '') = 'on'`;

/** @param table quoted */
export function rowGuardTriggers(table: string): readonly string[] {
  const create = (name: string, rest: string) =>
    `CREATE OR REPLACE TRIGGER ${quoteIdentifier(name)} ${rest}`;
  const isStray = `pg_catalog.pg_trigger_depth() > 0 AND NOT ${isOn("capture")}`;
  return [
    create(
      ROW_GUARDS.keep,
      `BEFORE INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW
       WHEN (${isOn("replay")} OR ${isStray}) EXECUTE FUNCTION sluice.replay_keep()`,
    ),
    create(
      ROW_GUARDS.restore,
      `BEFORE INSERT OR UPDATE ON ${table} FOR EACH ROW
       WHEN (${isOn("replay")}) EXECUTE FUNCTION sluice.replay_restore()`,
    ),
    create(
      ROW_GUARDS.capture,
      `AFTER INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW
       WHEN (${isOn("capture")}) EXECUTE FUNCTION sluice.replay_capture()`,
    ),
  ];
}
