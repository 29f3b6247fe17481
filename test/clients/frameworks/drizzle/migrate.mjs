// Drizzle's own migrator over the files that drizzle-kit writes: `node migrate.mjs 1` makes the first version.
import { fileURLToPath } from "node:url";
import { migrate } from "drizzle-orm/node-postgres/migrator";
import { db, pool } from "./db.mjs";

const migrationsFolder = fileURLToPath(new URL(`./migrations/${process.argv[2]}`, import.meta.url));
await migrate(db, { migrationsFolder, migrationsSchema: "public" });
await pool.end();
