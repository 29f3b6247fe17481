import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export interface PostgresBinaries {
  readonly binDir: string;
  readonly major: number;
}

/** Finds initdb, postgres and pg_dump of one version. */
export async function findPostgres(major?: number): Promise<PostgresBinaries> {
  const candidates: string[] = [];
  if (process.env.SLUICE_POSTGRES_BIN) candidates.push(process.env.SLUICE_POSTGRES_BIN);
  if (existsSync("/usr/lib/postgresql")) {
    for (const version of readdirSync("/usr/lib/postgresql").sort().reverse())
      candidates.push(join("/usr/lib/postgresql", version, "bin"));
  }
  for (const binDir of candidates) {
    const found = versionIn(binDir);
    if (found !== null && (major === undefined || major === found)) return { binDir, major: found };
  }
  throw new Error("no PostgreSQL found");
}

function versionIn(binDir: string): number | null {
  for (const tool of ["initdb", "postgres", "pg_dump"])
    if (!existsSync(join(binDir, tool))) return null;
  const out = spawnSync(join(binDir, "postgres"), ["--version"], { encoding: "utf8" }).stdout;
  const match = /(\d+)/.exec(out);
  return match ? Number(match[1]) : null;
}
