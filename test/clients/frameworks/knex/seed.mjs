import { knex } from "./db.mjs";

const plans = await knex("plans").insert(
  [
    { name: "free", price: 0 },
    { name: "team", price: 10 },
    { name: "all", price: 99 },
  ],
  ["id"],
);
for (let n = 0; n < 20; n++) {
  const [{ id: tenant_id }] = await knex("tenants")
    .insert({ slug: `tenant-${n}`, plan_id: plans[n % 3].id, settings: { n } })
    .returning("id");
  const members = await knex("members")
    .insert(
      [0, 1, 2, 3].map((m) => ({ tenant_id, email: `m${m}@t${n}.example`, name: `Member ${m}` })),
    )
    .returning("id");
  for (let p = 0; p < 2; p++) {
    const [{ id: project_id }] = await knex("projects")
      .insert({ tenant_id, name: `project ${p}`, position: p })
      .returning("id");
    await knex("project_members").insert(
      members.slice(0, p + 2).map(({ id }) => ({ tenant_id, project_id, member_id: id })),
    );
    await knex("tasks").insert(
      Array.from({ length: 8 }, (_, t) => ({
        ...{ tenant_id, project_id, title: `task ${t} of ${n}/${p}`, estimate: t + 0.25 },
        state: ["open", "doing", "done"][t % 3],
      })),
    );
  }
}
await knex.destroy();
