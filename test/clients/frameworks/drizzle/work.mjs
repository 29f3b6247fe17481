// What an application does with Drizzle: each step's result has to be the same on shards.
import { and, asc, avg, count, desc, eq, exists, gte, inArray, like, max, sum } from "drizzle-orm";
import { runSteps, VERSION } from "../steps.mjs";
import { db, milestones, plans, pool, projects, sql, tasks, tenants } from "./db.mjs";

const tenant = async (n = 3) =>
  (
    await db
      .select({ id: tenants.id })
      .from(tenants)
      .where(eq(tenants.slug, `tenant-${n}`))
  )[0].id;
const titles = (rows) => rows.map(({ title }) => title);
const code = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error.code ?? error.cause?.code;
  }
};

const first = {
  select_of_tenant: async () =>
    titles(
      await db
        .select()
        .from(tasks)
        .where(and(eq(tasks.tenantId, await tenant()), eq(tasks.state, "open")))
        .orderBy(tasks.title),
    ),
  select_over_tenants: async () =>
    await db
      .select({ title: tasks.title, estimate: tasks.estimate })
      .from(tasks)
      .where(gte(tasks.estimate, "6"))
      .orderBy(tasks.title),
  order_by_hidden: async () =>
    titles(
      await db
        .select({ title: tasks.title })
        .from(tasks)
        .orderBy(desc(tasks.estimate), asc(tasks.title))
        .limit(10)
        .offset(5),
    ),
  counts: async () => [
    await db.$count(tasks),
    await db.$count(plans),
    await db.$count(tasks, eq(tasks.state, "open")),
  ],
  aggregates: async () =>
    await db.select({ n: count(), s: sum(tasks.estimate), m: max(tasks.estimate) }).from(tasks),
  average: async () => await db.select({ a: avg(tasks.estimate) }).from(tasks),
  group_by: async () =>
    await db
      .select({ state: tasks.state, n: count() })
      .from(tasks)
      .groupBy(tasks.state)
      .orderBy(tasks.state),
  distinct: async () =>
    await db.selectDistinct({ state: tasks.state }).from(tasks).orderBy(tasks.state),
  inner_join: async () =>
    await db
      .select({ title: tasks.title, name: projects.name })
      .from(tasks)
      .innerJoin(projects, eq(projects.id, tasks.projectId))
      .where(eq(projects.name, "project 1"))
      .orderBy(tasks.title),
  left_join_of_tenant: async () =>
    await db
      .select({ name: projects.name, n: count(tasks.id) })
      .from(projects)
      .leftJoin(tasks, eq(tasks.projectId, projects.id))
      .where(eq(projects.tenantId, await tenant()))
      .groupBy(projects.name)
      .orderBy(projects.name),
  exists_subquery: async () =>
    (
      await db
        .select({ name: projects.name })
        .from(projects)
        .where(
          exists(
            db
              .select()
              .from(tasks)
              .where(and(eq(tasks.projectId, projects.id), eq(tasks.title, "task 3 of 3/0"))),
          ),
        )
    ).length,
  in_array: async () =>
    titles(
      await db
        .select()
        .from(tasks)
        .where(inArray(tasks.title, ["task 1 of 3/0", "task 1 of 4/0"]))
        .orderBy(tasks.title),
    ),
  relational_find_first: async () => {
    const found = await db.query.tenants.findFirst({
      where: eq(tenants.slug, "tenant-3"),
      with: { plan: true, projects: { with: { tasks: true } } },
    });
    return [
      found.slug,
      found.plan.name,
      found.projects.map((p) => [p.name, p.tasks.length]).sort(),
    ];
  },
  relational_find_many: async () => {
    const id = await tenant();
    const found = await db.query.projects.findMany({
      where: eq(projects.tenantId, id),
      with: { tasks: { columns: { title: true } } },
      orderBy: projects.name,
    });
    return found.map((p) => [p.name, titles(p.tasks).sort()]);
  },
  prepared: async () => {
    const query = db
      .select({ title: tasks.title })
      .from(tasks)
      .where(eq(tasks.tenantId, sql.placeholder("t")))
      .orderBy(tasks.title)
      .limit(2)
      .prepare("of_tenant");
    return [
      titles(await query.execute({ t: await tenant(1) })),
      titles(await query.execute({ t: await tenant(2) })),
    ];
  },
  raw: async () =>
    (await db.execute(sql`SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state`)).rows,

  insert_tenant: async () => {
    const [{ id: planId }] = await db.select().from(plans).limit(1);
    const [row] = await db.insert(tenants).values({ slug: "new", planId }).returning();
    return [
      row.slug,
      row.settings,
      (await db.select().from(tenants).where(eq(tenants.id, row.id))).length,
    ];
  },
  insert_many_over_tenants: async () => {
    const all = await db.select().from(projects).orderBy(projects.tenantId, projects.name);
    const rows = all.map((p) => ({
      tenantId: p.tenantId,
      projectId: p.id,
      title: `over ${p.tenantId} ${p.name}`,
    }));
    const made = await db
      .insert(tasks)
      .values(rows)
      .returning({ id: tasks.id, title: tasks.title });
    return [made.length, made.every(({ title }, index) => title === rows[index].title)];
  },
  insert_lookup: async () =>
    await db
      .insert(plans)
      .values([{ name: "a" }, { name: "b", price: "3" }])
      .returning({ name: plans.name, price: plans.price }),
  upsert: async () => {
    const rows = [
      { tenantId: await tenant(5), name: "project 0", position: 77 },
      { tenantId: await tenant(6), name: "fresh", position: 77 },
    ];
    await db
      .insert(projects)
      .values(rows)
      .onConflictDoUpdate({
        target: [projects.tenantId, projects.name],
        set: { position: sql`excluded.position` },
      });
    await db.insert(projects).values(rows).onConflictDoNothing();
    return await db.$count(projects, eq(projects.position, 77));
  },
  upsert_lookup: async () => {
    for (const price of ["1", "2"])
      await db
        .insert(plans)
        .values({ name: "gold", price })
        .onConflictDoUpdate({ target: plans.name, set: { price } });
    return await db.select({ price: plans.price }).from(plans).where(eq(plans.name, "gold"));
  },
  update_of_tenant: async () =>
    (
      await db
        .update(tasks)
        .set({ body: "x" })
        .where(and(eq(tasks.tenantId, await tenant(5)), eq(tasks.state, "open")))
    ).rowCount,
  update_over_tenants: async () =>
    (await db.update(tasks).set({ body: "done" }).where(eq(tasks.state, "done"))).rowCount,
  update_returning: async () =>
    await db
      .update(tasks)
      .set({ body: "r" })
      .where(eq(tasks.title, "task 1 of 5/0"))
      .returning({ title: tasks.title }),
  delete_over_tenants: async () => [
    (await db.delete(tasks).where(like(tasks.title, "task 7 %"))).rowCount,
    await db.$count(tasks),
  ],
  unique_violation: async () =>
    await code(db.insert(projects).values({ tenantId: await tenant(8), name: "project 0" })),
  transaction: async () => {
    await db.transaction(async (tx) => {
      await tx.update(tasks).set({ body: "tx" }).where(eq(tasks.state, "doing"));
      await tx.insert(plans).values({ name: "tx" });
    });
    return [
      await db.$count(tasks, eq(tasks.body, "tx")),
      await db.$count(plans, eq(plans.name, "tx")),
    ];
  },
  transaction_rollback: async () => {
    await db
      .transaction(async (tx) => {
        await tx.update(tasks).set({ body: "gone" });
        tx.rollback();
      })
      .catch(() => {});
    return await db.$count(tasks, eq(tasks.body, "gone"));
  },
  nested_transaction: async () => {
    const [one, other] = [await tenant(9), await tenant(10)];
    const failed = await db.transaction(async (tx) => {
      await tx.insert(projects).values({ tenantId: one, name: "outer" });
      const inner = await code(
        tx.transaction(async (nested) => {
          await nested.insert(projects).values({ tenantId: other, name: "inner" });
          await nested.insert(projects).values({ tenantId: other, name: "inner" });
        }),
      );
      await tx.insert(projects).values({ tenantId: other, name: "after" });
      return inner;
    });
    return [
      failed,
      await db
        .select({ name: projects.name })
        .from(projects)
        .where(inArray(projects.name, ["outer", "inner", "after"]))
        .orderBy(projects.name),
    ];
  },
  isolation: async () =>
    await db.transaction(async (tx) => (await tx.execute(sql`SHOW transaction_isolation`)).rows, {
      isolationLevel: "repeatable read",
      accessMode: "read only",
    }),
  for_update: async () =>
    await db.transaction(async (tx) => {
      const [row] = await tx
        .select()
        .from(tasks)
        .where(eq(tasks.title, "task 1 of 9/0"))
        .for("update");
      await tx.update(tasks).set({ body: "locked" }).where(eq(tasks.id, row.id));
      return (await tx.select().from(tasks).where(eq(tasks.id, row.id)))[0].body;
    }),
};

const second = {
  new_column: async () =>
    await db
      .select({ priority: tasks.priority, n: count() })
      .from(tasks)
      .groupBy(tasks.priority)
      .orderBy(tasks.priority),
  new_table: async () => {
    const [row] = await db
      .insert(milestones)
      .values({ tenantId: await tenant(13), name: "second" })
      .returning();
    return [await db.$count(milestones), await db.$count(milestones, eq(milestones.id, row.id))];
  },
  recorded: async () => (await db.execute(sql`SELECT count(*) FROM __drizzle_migrations`)).rows,
};

await runSteps(VERSION === 1 ? first : second, async () => {});
await pool.end();
