// What an application does with Knex: each step's result has to be the same on shards.
import { runSteps, VERSION } from "../steps.mjs";
import { knex } from "./db.mjs";

const tenant = async (n = 3) =>
  (
    await knex("tenants")
      .where({ slug: `tenant-${n}` })
      .first("id")
  ).id;
const count = async (query) => Number((await query.count("* as n").first()).n);
const titles = (rows) => rows.map(({ title }) => title);
const code = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
};

const first = {
  first_of_tenant: async () =>
    (
      await knex("tasks")
        .where({ tenant_id: await tenant() })
        .orderBy("title")
        .first()
    ).title,
  select_over_tenants: async () =>
    await knex("tasks").select("title", "estimate").where("state", "doing").orderBy("title"),
  order_by_hidden: async () =>
    titles(
      await knex("tasks")
        .select("title")
        .orderBy([{ column: "estimate", order: "desc" }, "title"])
        .limit(10)
        .offset(5),
    ),
  pluck: async () =>
    await knex("projects")
      .where({ tenant_id: await tenant() })
      .orderBy("name")
      .pluck("name"),
  counts: async () => [
    await count(knex("tasks")),
    await count(knex("plans")),
    await count(knex("tasks").where({ state: "open" })),
  ],
  aggregates: async () =>
    await knex("tasks").sum("estimate as s").min("estimate as low").max("estimate as high").first(),
  average: async () => await knex("tasks").avg("estimate as a").first(),
  group_by: async () =>
    await knex("tasks").select("state").count("* as n").groupBy("state").orderBy("state"),
  distinct: async () => await knex("tasks").distinct("state").orderBy("state"),
  join_of_tenant: async () =>
    await knex("tasks as t")
      .join("projects as p", "p.id", "t.project_id")
      .where("t.tenant_id", await tenant())
      .select("t.title", "p.name")
      .orderBy("t.title"),
  join_over_tenants: async () =>
    await knex("tasks as t")
      .join("projects as p", "p.id", "t.project_id")
      .where("p.name", "project 1")
      .select("t.title", "p.name")
      .orderBy("t.title"),
  where_exists: async () =>
    titles(
      await knex("tasks")
        .whereExists(
          knex("projects")
            .select(1)
            .whereRaw("projects.id = tasks.project_id")
            .where("name", "project 1"),
        )
        .orderBy("title"),
    ),
  where_in: async () => {
    const ids = await knex("tasks").orderBy("title").limit(5).pluck("id");
    return titles(await knex("tasks").whereIn("id", ids).orderBy("title"));
  },
  json: async () => await knex("tenants").whereRaw("settings ->> 'n' = ?", ["7"]).pluck("slug"),
  raw: async () =>
    (
      await knex.raw(
        "SELECT state, count(*) FROM tasks WHERE tenant_id = ? GROUP BY state ORDER BY state",
        [await tenant()],
      )
    ).rows,
  stream: async () => {
    const seen = [];
    const stream = knex("tasks")
      .where({ tenant_id: await tenant() })
      .orderBy("title")
      .stream({ batchSize: 3 });
    for await (const row of stream) seen.push(row.title);
    return seen;
  },
  column_info: async () => Object.keys(await knex("tasks").columnInfo()).sort(),
  has_table: async () => [
    await knex.schema.hasTable("tasks"),
    await knex.schema.hasTable("nobody"),
    await knex.schema.hasColumn("tasks", "title"),
  ],

  insert_tenant: async () => {
    const [row] = await knex("tenants")
      .insert({ slug: "new", plan_id: (await knex("plans").first("id")).id })
      .returning("*");
    const [again] = await knex("tenants").where({ id: row.id });
    return [again.slug, again.settings, row.created_at !== null];
  },
  insert_many_over_tenants: async () => {
    const projects = await knex("projects").orderBy("tenant_id").orderBy("name");
    const rows = projects.map((p) => ({
      tenant_id: p.tenant_id,
      project_id: p.id,
      title: `over ${p.tenant_id} ${p.name}`,
    }));
    const made = await knex("tasks").insert(rows).returning(["id", "title"]);
    return [made.length, made.every(({ title }, index) => title === rows[index].title)];
  },
  insert_lookup: async () => {
    const made = await knex("plans")
      .insert([{ name: "a" }, { name: "b", price: 3 }])
      .returning(["name", "price"]);
    return [made, await count(knex("plans"))];
  },
  batch_insert: async () => {
    const tenant_id = await tenant(4);
    const { id: project_id } = await knex("projects").where({ tenant_id }).first("id");
    const ids = await knex
      .batchInsert(
        "tasks",
        Array.from({ length: 20 }, (_, n) => ({ tenant_id, project_id, title: `batch ${n}` })),
        6,
      )
      .returning("id");
    return [ids.length, await count(knex("tasks").where("title", "like", "batch %"))];
  },
  upsert: async () => {
    const rows = [
      { tenant_id: await tenant(5), name: "project 0", position: 77 },
      { tenant_id: await tenant(6), name: "fresh", position: 77 },
    ];
    await knex("projects").insert(rows).onConflict(["tenant_id", "name"]).merge(["position"]);
    await knex("projects").insert(rows).onConflict(["tenant_id", "name"]).ignore();
    return await count(knex("projects").where({ position: 77 }));
  },
  upsert_lookup: async () => {
    for (const price of [1, 2])
      await knex("plans").insert({ name: "gold", price }).onConflict("name").merge();
    return await knex("plans").where({ name: "gold" }).pluck("price");
  },
  update_of_tenant: async () =>
    await knex("tasks")
      .where({ tenant_id: await tenant(5), state: "open" })
      .update({ body: "x", estimate: knex.raw("estimate + 1") }),
  update_over_tenants: async () =>
    await knex("tasks").where({ state: "done" }).update({ body: "done" }),
  update_returning: async () =>
    titles(await knex("tasks").where({ title: "task 1 of 5/0" }).update({ body: "r" }, ["title"])),
  update_by_subquery: async () =>
    await knex("tasks")
      .whereIn("project_id", knex("projects").select("id").where("name", "project 0"))
      .update({ body: "sub" }),
  update_lookup: async () => await knex("plans").where({ name: "team" }).increment("price", 1),
  delete_of_tenant: async () =>
    await knex("tasks")
      .where({ tenant_id: await tenant(6), state: "open" })
      .del(),
  delete_over_tenants: async () => [
    await knex("tasks").where("title", "like", "task 7 %").del(),
    await count(knex("tasks")),
  ],
  delete_cascade: async () => {
    const tenant_id = await tenant(7);
    await knex("projects").where({ tenant_id, name: "project 1" }).del();
    return await count(knex("tasks").where({ tenant_id }));
  },
  unique_violation: async () =>
    await code(
      knex("members").insert({ tenant_id: await tenant(8), email: "m1@t8.example", name: "again" }),
    ),

  transaction: async () => {
    await knex.transaction(async (trx) => {
      await trx("tasks").where({ state: "doing" }).update({ body: "trx" });
      await trx("plans").insert({ name: "trx" });
    });
    return [
      await count(knex("tasks").where({ body: "trx" })),
      await count(knex("plans").where({ name: "trx" })),
    ];
  },
  transaction_rollback: async () => {
    await knex
      .transaction(async (trx) => {
        await trx("tasks").update({ body: "gone" });
        throw new Error("back");
      })
      .catch(() => {});
    return await count(knex("tasks").where({ body: "gone" }));
  },
  nested_transaction: async () => {
    const one = await tenant(9);
    const other = await tenant(10);
    const failed = await knex.transaction(async (trx) => {
      await trx("projects").insert({ tenant_id: one, name: "outer" });
      const inner = await code(
        trx.transaction(async (nested) => {
          await nested("projects").insert({ tenant_id: other, name: "inner" });
          await nested("projects").insert({ tenant_id: other, name: "inner" });
        }),
      );
      await trx("projects").insert({ tenant_id: other, name: "after" });
      return inner;
    });
    return [
      failed,
      await knex("projects")
        .whereIn("name", ["outer", "inner", "after"])
        .orderBy("name")
        .pluck("name"),
    ];
  },
  isolation: async () =>
    await knex.transaction(async (trx) => (await trx.raw("SHOW transaction_isolation")).rows, {
      isolationLevel: "repeatable read",
    }),
  for_update: async () =>
    await knex.transaction(async (trx) => {
      const row = await trx("tasks")
        .where({ tenant_id: await tenant(9), title: "task 1 of 9/0" })
        .forUpdate()
        .first();
      await trx("tasks").where({ id: row.id }).update({ body: "locked" });
      return (await trx("tasks").where({ id: row.id }).first()).body;
    }),
  for_update_skip_locked: async () =>
    await knex.transaction(async (trx) =>
      titles(
        await trx("tasks")
          .where({ state: "open" })
          .orderBy("title")
          .limit(3)
          .forUpdate()
          .skipLocked(),
      ),
    ),
  truncate: async () => {
    await knex("project_members").truncate();
    return await count(knex("project_members"));
  },
};

const second = {
  new_column: async () =>
    await knex("tasks").select("priority").count("* as n").groupBy("priority").orderBy("priority"),
  new_table: async () => {
    await knex("milestones").insert({ tenant_id: await tenant(13), name: "second" });
    return [
      await count(knex("milestones")),
      await knex("milestones")
        .where({ tenant_id: await tenant(13) })
        .orderBy("name")
        .pluck("name"),
    ];
  },
  recorded: async () => [
    await knex("knex_migrations").orderBy("name").pluck("name"),
    await knex("knex_migrations_lock").pluck("is_locked"),
  ],
};

await runSteps(VERSION === 1 ? first : second, async () => {});
await knex.destroy();
