// Preloaded into every Node process by test-bare.mjs where mount namespaces are forbidden: what installed-postgres.mjs
// finds is neither found nor run. PostgreSQL's own programs look for each other beside themselves only.
import childProcess from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { basename } from "node:path";
import { POSTGRES_FOLDERS, POSTGRES_PROGRAMS } from "./installed-postgres.mjs";

const NOWHERE = "/nonexistent";
const installed = new Set(JSON.parse(process.env.SLUICE_HIDDEN_PROGRAMS ?? "[]"));
const { existsSync, readdirSync, realpathSync } = fs;
const { readdir } = fs.promises;
const { spawnSync, execFileSync } = childProcess;
const { spawn } = childProcess.ChildProcess.prototype;

fs.existsSync = (path) => existsSync(seen(path));
fs.readdirSync = (path, ...rest) => readdirSync(seen(path), ...rest);
fs.promises.readdir = (path, ...rest) => readdir(seen(path), ...rest);
childProcess.spawnSync = (file, ...rest) => spawnSync(seen(file), ...rest);
childProcess.execFileSync = (file, ...rest) => execFileSync(seen(file), ...rest);
childProcess.ChildProcess.prototype.spawn = function spawnSeen(options) {
  return spawn.call(this, { ...options, file: seen(options.file) });
};
syncBuiltinESMExports();

function seen(path) {
  if (typeof path !== "string") return path;
  const isInside = POSTGRES_FOLDERS.some((one) => path === one || path.startsWith(`${one}/`));
  return isInside || isInstalled(path) ? NOWHERE : path;
}

function isInstalled(path) {
  if (!POSTGRES_PROGRAMS.includes(basename(path))) return false;
  // Without a folder it would be looked for on PATH, where only what is installed can be.
  return !path.includes("/") || (existsSync(path) && installed.has(realpathSync(path)));
}
