import { db, plans, pool, projects, tasks, tenants } from "./db.mjs";

const made = await db
  .insert(plans)
  .values([{ name: "free" }, { name: "team", price: "10" }, { name: "all", price: "99" }])
  .returning();
for (let n = 0; n < 20; n++) {
  const [tenant] = await db
    .insert(tenants)
    .values({ slug: `tenant-${n}`, planId: made[n % 3].id, settings: { n } })
    .returning();
  for (let p = 0; p < 2; p++) {
    const [project] = await db
      .insert(projects)
      .values({ tenantId: tenant.id, name: `project ${p}`, position: p })
      .returning();
    await db.insert(tasks).values(
      Array.from({ length: 8 }, (_, t) => ({
        ...{ tenantId: tenant.id, projectId: project.id, title: `task ${t} of ${n}/${p}` },
        ...{ estimate: String(t + 0.25), state: ["open", "doing", "done"][t % 3] },
      })),
    );
  }
}
await pool.end();
