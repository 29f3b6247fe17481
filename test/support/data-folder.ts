import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheFolder } from "./binaries.js";
import { unprivilegedUser } from "./unprivileged.js";

const INITDB = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
/** xlp_sysid in the long header of a segment's first page; the server compares it with pg_control's. */
const SEGMENT_IDENTITY_AT = 24;

/**
 * Makes the data folder of a new server. initdb takes a second of a core and the suite starts some fifty servers,
 * so it runs once for each build of PostgreSQL, into the cache, and every server gets a copy with an identity of
 * its own.
 * @param dataDir must not exist yet
 */
export function makeDataFolder(binDir: string, dataDir: string): void {
  copyFolder(templateOf(binDir), dataDir);
  giveIdentity(dataDir);
}

/** Where two processes make it at the same time, one of both wins. */
function templateOf(binDir: string): string {
  const user = unprivilegedUser();
  const version = spawnSync(join(binDir, "postgres"), ["--version"], { encoding: "utf8" }).stdout;
  const key = createHash("sha256").update(JSON.stringify([binDir, version, INITDB, user]));
  const template = join(cacheFolder(), `data-${key.digest("hex").slice(0, 16)}`);
  if (existsSync(template)) return template;
  const base = mkdtempSync(join(tmpdir(), "sluice-initdb-"));
  const draft = `${template}.${process.pid}`;
  try {
    if (user) chownSync(base, user.uid, user.gid);
    const made = join(base, "data");
    const init = spawnSync(join(binDir, "initdb"), ["-D", made, ...INITDB], {
      cwd: "/",
      encoding: "utf8",
      ...(user ?? {}),
    });
    if (init.status !== 0) throw new Error(`initdb failed: ${init.stderr}${init.stdout}`);
    copyFolder(made, draft);
    renameSync(draft, template);
  } catch (error) {
    if (!existsSync(template)) throw error;
  } finally {
    for (const folder of [base, draft]) rmSync(folder, { recursive: true, force: true });
  }
  return template;
}

/** With owners and modes, which the server checks. Not every cp can share blocks. */
function copyFolder(from: string, to: string): void {
  const shared = spawnSync("cp", ["-a", "--reflink=auto", from, to]);
  if (shared.status === 0) return;
  rmSync(to, { recursive: true, force: true });
  const copied = spawnSync("cp", ["-a", from, to], { encoding: "utf8" });
  if (copied.status !== 0) throw new Error(`cannot copy ${from}: ${copied.stderr}`);
}

/**
 * A system identifier of its own, as pg_createsubscriber gives one: two servers with the same would be one server
 * to whoever asks for it, and so to Sluice.
 */
function giveIdentity(dataDir: string): void {
  const identity = randomBytes(8);
  // Positive in SQL's bigint.
  identity.writeUInt8(identity.readUInt8(7) & 0x7f, 7);
  const path = join(dataDir, "global", "pg_control");
  const control = readFileSync(path);
  // Where the checksum is differs between versions: it is the word that is the checksum of what is before it.
  const at = checksumAt(control);
  identity.copy(control, 0);
  control.writeUInt32LE(crc32c(control.subarray(0, at)), at);
  writeFileSync(path, control);
  const folder = join(dataDir, "pg_wal");
  for (const name of readdirSync(folder).filter((one) => /^[0-9A-F]{24}$/u.test(one))) {
    const segment = readFileSync(join(folder, name));
    identity.copy(segment, SEGMENT_IDENTITY_AT);
    writeFileSync(join(folder, name), segment);
  }
}

function checksumAt(control: Buffer): number {
  for (let at = 64; at < 512; at += 4)
    if (control.readUInt32LE(at) === crc32c(control.subarray(0, at))) return at;
  throw new Error("pg_control has no checksum where one was expected");
}

/** CRC-32C (Castagnoli), as PostgreSQL computes it. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
