import { spawnSync } from "node:child_process";

/** PostgreSQL refuses to run as root: the user to start it as, or null when we are not root. */
export function unprivilegedUser(): { readonly uid: number; readonly gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  for (const name of ["postgres", "nobody"]) {
    const uid = Number(spawnSync("id", ["-u", name], { encoding: "utf8" }).stdout);
    const gid = Number(spawnSync("id", ["-g", name], { encoding: "utf8" }).stdout);
    if (Number.isInteger(uid) && uid > 0) return { uid, gid };
  }
  return { uid: 65534, gid: 65534 };
}
