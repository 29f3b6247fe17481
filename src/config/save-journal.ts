import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

/**
 * Two files cannot be renamed at once. Both new texts are made durable beside the old ones, then this
 * journal: from there on the save has happened. Until the renames are done, readers read through it.
 */
interface Journal {
  readonly files: readonly JournalEntry[];
}

interface JournalEntry {
  readonly path: string;
  readonly newPath: string;
  readonly oldHash: string;
  readonly newHash: string;
}

/** One file to replace. */
export interface Replacement {
  readonly path: string;
  readonly oldText: string;
  readonly newText: string;
}

/** Where the text of `path` stands now: beside it, when a crash cut a save between its renames. */
export function pathToRead(path: string, configPath: string): string {
  const journal = readJournal(configPath);
  const real = realpathOf(path);
  const entry = journal?.files.find((one) => one.path === real);
  return entry && isPending(entry) ? entry.newPath : path;
}

/**
 * Replaces all files or none, as seen by `pathToRead`, whatever crashes. Keeps mode and owner.
 * Second run: the texts are the same, so the same renames happen again.
 */
export function replaceFiles(configPath: string, files: readonly Replacement[]): void {
  const entries = files.map((file): JournalEntry => {
    const path = realpathOf(file.path);
    const newPath = `${path}.new`;
    const { mode, uid, gid } = statSync(path);
    writeDurably(newPath, file.newText, { mode, uid, gid });
    return { path, newPath, oldHash: hashOf(file.oldText), newHash: hashOf(file.newText) };
  });
  for (const folder of foldersOf(entries)) syncFolder(folder);
  const journalPath = journalPathOf(configPath);
  const draft = `${journalPath}.new`;
  writeDurably(draft, JSON.stringify({ files: entries } satisfies Journal), null);
  renameSync(draft, journalPath);
  syncFolder(dirname(journalPath));
  finishSave(configPath);
}

/** Does the renames that a crash left undone. Nothing to do: nothing is done. */
export function finishSave(configPath: string): void {
  const journal = readJournal(configPath);
  if (!journal) return;
  // Who edited the file by hand since the crash wins: `isPending` compares with what stood there.
  for (const entry of journal.files)
    if (isPending(entry)) renameSync(entry.newPath, entry.path);
    else rmSync(entry.newPath, { force: true });
  for (const folder of foldersOf(journal.files)) syncFolder(folder);
  rmSync(journalPathOf(configPath), { force: true });
}

/** Writes `text` so that it is on the disk when we return. */
export function writeDurably(
  path: string,
  text: string,
  like: { readonly mode: number; readonly uid: number; readonly gid: number } | null,
): void {
  rmSync(path, { force: true });
  // Born with the final mode: the text may hold passwords.
  const fd = openSync(path, "wx", like === null ? 0o600 : like.mode & 0o777);
  try {
    writeFileSync(fd, text);
    if (like !== null) {
      // openSync's mode goes through the umask; fchown is root's alone and needed only there.
      fchmodSync(fd, like.mode & 0o777);
      if (process.getuid?.() === 0) fchownSync(fd, like.uid, like.gid);
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export function syncFolder(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export function realpathOf(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}

function isPending(entry: JournalEntry): boolean {
  return hashOfFile(entry.newPath) === entry.newHash && hashOfFile(entry.path) === entry.oldHash;
}

function readJournal(configPath: string): Journal | null {
  const path = journalPathOf(configPath);
  if (!existsSync(path)) return null;
  // Written under another name and renamed: what is here is whole.
  return JSON.parse(readFileSync(path, "utf8")) as Journal;
}

function journalPathOf(configPath: string): string {
  const real = realpathOf(configPath);
  return join(dirname(real), `.${basename(real)}.saving`);
}

function foldersOf(entries: readonly JournalEntry[]): ReadonlySet<string> {
  return new Set(entries.map((entry) => dirname(entry.path)));
}

function hashOfFile(path: string): string | null {
  return existsSync(path) ? hashOf(readFileSync(path, "utf8")) : null;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
