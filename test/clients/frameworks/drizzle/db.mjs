import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import * as t from "drizzle-orm/pg-core";
import { relations } from "drizzle-orm/relations";
import pg from "pg";
import { CONNECTION, VERSION } from "../steps.mjs";

export const pool = new pg.Pool({ ...CONNECTION, max: 4 });
pool.on("error", () => {});

export const plans = t.pgTable("plans", {
  id: t.serial().primaryKey(),
  name: t.varchar({ length: 80 }).notNull().unique(),
  price: t.numeric({ precision: 10, scale: 2 }).notNull().default("0"),
  createdAt: t.timestamp("created_at", { withTimezone: true }).notNull().defaultNow(),
});
export const tenants = t.pgTable("tenants", {
  id: t.bigserial({ mode: "number" }).primaryKey(),
  slug: t.varchar({ length: 80 }).notNull().unique(),
  planId: t
    .integer("plan_id")
    .notNull()
    .references(() => plans.id),
  settings: t.jsonb().notNull().default({}),
});
export const projects = t.pgTable("projects", {
  id: t.bigint({ mode: "number" }).primaryKey().generatedByDefaultAsIdentity(),
  tenantId: t
    .bigint("tenant_id", { mode: "number" })
    .notNull()
    .references(() => tenants.id),
  name: t.text().notNull(),
  position: t.integer(),
});
export const tasks = t.pgTable("tasks", {
  id: t.bigserial({ mode: "number" }).primaryKey(),
  tenantId: t.bigint("tenant_id", { mode: "number" }).notNull(),
  projectId: t
    .bigint("project_id", { mode: "number" })
    .notNull()
    .references(() => projects.id, { onDelete: "cascade" }),
  state: t.text().notNull().default("open"),
  title: t.text().notNull(),
  body: t.text(),
  estimate: t.numeric({ precision: 8, scale: 2 }),
  token: t.uuid().notNull().defaultRandom(),
  ...(VERSION >= 2 ? { priority: t.integer().notNull().default(3) } : {}),
});
export const milestones = t.pgTable("milestones", {
  id: t.bigserial({ mode: "number" }).primaryKey(),
  tenantId: t.bigint("tenant_id", { mode: "number" }).notNull(),
  name: t.text().notNull(),
});

const schema = {
  ...{ plans, tenants, projects, tasks },
  tenantsRelations: relations(tenants, ({ one, many }) => ({
    plan: one(plans, { fields: [tenants.planId], references: [plans.id] }),
    projects: many(projects),
  })),
  projectsRelations: relations(projects, ({ one, many }) => ({
    tenant: one(tenants, { fields: [projects.tenantId], references: [tenants.id] }),
    tasks: many(tasks),
  })),
  tasksRelations: relations(tasks, ({ one }) => ({
    project: one(projects, { fields: [tasks.projectId], references: [projects.id] }),
  })),
};

export const db = drizzle({ client: pool, schema });
export { sql };
