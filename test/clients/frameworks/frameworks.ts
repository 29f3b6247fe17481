import { readFileSync } from "node:fs";
import { type Installed, installNode, installPython } from "./install.js";

export type Phase = "create" | "seed" | "first" | "migrate" | "second";

/** Arguments of the framework's own program, python3 or node. */
type Command = readonly string[];

export interface Framework {
  readonly name: string;
  /** The table that is sharded by `id`; the others by `tenant_id`, where they have it. */
  readonly tenants: string;
  readonly program: "python3" | "node";
  readonly phases: Readonly<Record<Phase, readonly Command[]>>;
  /** Steps that shards refuse, with the SQLSTATE that they give: docs/sql.md says each, with the call. */
  readonly refused: Readonly<Record<string, string>>;
  /** Installs what it needs, once. @returns the folder to run in, and what the environment needs */
  install(): Installed;
}

const manage = (...args: readonly string[]): Command => ["manage.py", ...args];
const alembic = (...args: readonly string[]): Command => ["-m", "alembic", ...args];
const script = (name: string, ...args: readonly string[]): Command => [name, ...args];

const DJANGO: Framework = {
  name: "django",
  tenants: "shop_tenant",
  program: "python3",
  phases: {
    create: [
      manage("migrate", "-v0", "shop", "0001"),
      ...["admin", "auth", "contenttypes", "sessions"].map((app) => manage("migrate", "-v0", app)),
    ],
    seed: [script("seed.py")],
    first: [script("work.py")],
    migrate: [manage("migrate", "-v0")],
    second: [script("work.py")],
  },
  refused: refusedIn("django"),
  install: () => installPython("django"),
};

const SQLALCHEMY: Framework = {
  name: "sqlalchemy",
  tenants: "tenants",
  program: "python3",
  phases: {
    create: [alembic("upgrade", "0001")],
    seed: [script("seed.py")],
    first: [script("work.py")],
    migrate: [alembic("upgrade", "head")],
    second: [script("work.py")],
  },
  refused: refusedIn("sqlalchemy"),
  install: () => installPython("sqlalchemy"),
};

const node = (name: string): Framework => ({
  name,
  tenants: "tenants",
  program: "node",
  phases: {
    create: [script("migrate.mjs", "1")],
    seed: [script("seed.mjs")],
    first: [script("work.mjs")],
    migrate: [script("migrate.mjs", "2")],
    second: [script("work.mjs")],
  },
  refused: refusedIn(name),
  install: () => installNode(name),
});

export const FRAMEWORKS: readonly Framework[] = [DJANGO, SQLALCHEMY, node("knex"), node("drizzle")];

/** `refused.json` beside the framework's scripts: SQLSTATE by step. */
function refusedIn(name: string): Readonly<Record<string, string>> {
  const file = new URL(`./${name}/refused.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")) as Record<string, string>;
}
