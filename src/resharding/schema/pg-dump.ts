import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { describeAddress, type ServerAddress } from "../../backend/address.js";
import { CONTROL_SCHEMA } from "../model/migration.js";
import { SchemaDumpFailed } from "./schema-failures.js";

const run = promisify(execFile);

const VERSIONED_FOLDER = "/usr/lib/postgresql";
/** pg_dump waits for ACCESS SHARE on every table; a stuck ALTER TABLE must not make it wait for ever. */
const LOCK_WAIT = "30s";
/** A schema of 100,000 tables takes some 100 MB. */
const MAX_DUMP_BYTES = 512 * 1024 * 1024;

/**
 * A pg_dump that is not older than the server: an older one refuses. The configured one if it fits, else the
 * oldest that does from the usual folders and PATH, as a newer one may write what an older server cannot read.
 * @throws SchemaDumpFailed naming the versions that were found
 */
export async function findPgDump(configured: string, serverMajor: number): Promise<string> {
  const first = await majorOf(configured);
  if (first !== null && first >= serverMajor) return configured;
  const others: { path: string; major: number }[] = [];
  for (const path of await candidates()) {
    const major = await majorOf(path);
    if (major !== null) others.push({ path, major });
  }
  const fitting = others
    .filter(({ major }) => major >= serverMajor)
    .toSorted((one, other) => one.major - other.major)[0];
  if (fitting) return fitting.path;
  const found = [
    `${configured} ${first === null ? "cannot be run" : `is ${first}`}`,
    ...others.map(({ path, major }) => `${path} is ${major}`),
  ];
  throw new SchemaDumpFailed(`no pg_dump fits a server of version ${serverMajor}`, {
    detail: `Found: ${found.join("; ")}.`,
    hint: `Install the client programs of PostgreSQL ${serverMajor}, or name their pg_dump in [replication] pg_dump_path of pgdog.toml.`,
  });
}

async function candidates(): Promise<readonly string[]> {
  const versions = await readdir(VERSIONED_FOLDER).catch(() => []);
  const folders = [
    ...versions.map((version) => join(VERSIONED_FOLDER, version, "bin")),
    ...(process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ""),
  ];
  return folders.map((folder) => join(folder, "pg_dump"));
}

async function majorOf(path: string): Promise<number | null> {
  try {
    const { stdout } = await run(path, ["--version"]);
    const match = /(\d+)/.exec(stdout);
    return match ? Number(match[1]) : null;
  } catch {
    // Not there, or not a program: no candidate.
    return null;
  }
}

/**
 * The schema of one database as text, without our own schema, publications and subscriptions.
 * The password travels in the environment only, which other users of the machine cannot read.
 * @throws SchemaDumpFailed with what pg_dump said
 */
export async function dumpSchema(
  pgDump: string,
  address: ServerAddress,
  signal: AbortSignal,
): Promise<string> {
  const args = [
    "--schema-only",
    "--no-publications",
    "--no-subscriptions",
    "--no-tablespaces",
    `--exclude-schema=${CONTROL_SCHEMA}`,
    `--lock-wait-timeout=${LOCK_WAIT}`,
    "--encoding=UTF8",
    "--no-password",
    `--host=${address.host}`,
    `--port=${address.port}`,
    `--username=${address.user}`,
    `--dbname=${address.database}`,
  ];
  try {
    const { stdout } = await run(pgDump, args, {
      env: dumpEnvironment(address),
      maxBuffer: MAX_DUMP_BYTES,
      signal,
    });
    return stdout;
  } catch (cause) {
    signal.throwIfAborted();
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim() : "";
    throw new SchemaDumpFailed(`pg_dump of ${describeAddress(address)} failed`, {
      // Not the cause's message: it repeats the command line.
      detail: said === "" ? `${pgDump} could not be run.` : said,
      hint: "Correct what pg_dump complains about and run the step again.",
    });
  }
}

/** Without libpq's own variables, which would lead to another server or another search path. */
function dumpEnvironment(address: ServerAddress): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("PG"));
  return {
    ...Object.fromEntries(inherited),
    LC_ALL: "C",
    PGAPPNAME: "sluice schema",
    ...(address.password === null ? {} : { PGPASSWORD: address.password }),
  };
}
