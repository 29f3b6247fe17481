import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheFolder } from "../../support/binaries.js";

export interface Installed {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The packages of `requirements.txt`, from PyPI into our cache. @throws Error with what pip says */
export function installPython(name: string): Installed {
  const folder = folderOf(name);
  const requirements = join(folder, "requirements.txt");
  const packages = cached(name, requirements, (draft) => {
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    run("python3", [...pip, "--target", draft, "--requirement", requirements], tmpdir());
  });
  return { folder, env: { PYTHONPATH: `${packages}:${folder}`, PYTHONDONTWRITEBYTECODE: "1" } };
}

/**
 * The packages of `package-lock.json`, from npm into our cache; the scripts run in a copy beside them, as modules
 * are looked for from where a script is. @throws Error with what npm says
 */
export function installNode(name: string): Installed {
  const source = folderOf(name);
  const packages = cached(name, join(source, "package-lock.json"), (draft) => {
    for (const file of ["package.json", "package-lock.json"])
      cpSync(join(source, file), join(draft, file));
    run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], draft);
  });
  const folder = mkdtempSync(join(tmpdir(), `sluice-${name}-`));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(source, join(folder, name), { recursive: true });
  cpSync(join(source, "../steps.mjs"), join(folder, "steps.mjs"));
  symlinkSync(join(packages, "node_modules"), join(folder, "node_modules"));
  return { folder: join(folder, name), env: {} };
}

function folderOf(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url));
}

/** Beside another process: one of both wins. */
function cached(name: string, list: string, fill: (draft: string) => void): string {
  const key = createHash("sha256").update(readFileSync(list)).digest("hex").slice(0, 16);
  const target = join(cacheFolder(), `client-${name}-${key}`);
  if (existsSync(target)) return target;
  const draft = mkdtempSync(`${target}.`);
  try {
    fill(draft);
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(target)) throw error;
  }
  return target;
}

function run(program: string, args: readonly string[], folder: string): void {
  const { status, stderr, stdout, error } = spawnSync(program, [...args], {
    cwd: folder,
    encoding: "utf8",
    timeout: 300_000,
  });
  if (status === 0) return;
  throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? `${stdout}${stderr}`.trim()}`);
}
