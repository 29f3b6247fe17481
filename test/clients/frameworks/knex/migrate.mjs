// Knex's own migrations, with its lock table: `node migrate.mjs 1` makes the first version, 2 the second.
import { knex } from "./db.mjs";

const migrations = {
  "001_initial": {
    async up(k) {
      await k.schema.createTable("plans", (t) => {
        t.increments("id");
        t.string("name", 80).notNullable().unique();
        t.decimal("price", 10, 2).notNullable().defaultTo(0);
        t.timestamps(true, true);
      });
      await k.schema.createTable("tenants", (t) => {
        t.bigIncrements("id");
        t.string("slug", 80).notNullable().unique();
        t.integer("plan_id").notNullable().references("plans.id");
        t.jsonb("settings").notNullable().defaultTo("{}");
        t.timestamps(true, true);
      });
      await k.schema.createTable("members", (t) => {
        t.bigIncrements("id");
        t.bigInteger("tenant_id")
          .notNullable()
          .references("tenants.id")
          .onDelete("CASCADE")
          .index();
        t.string("email").notNullable().unique();
        t.string("name").notNullable();
      });
      await k.schema.createTable("projects", (t) => {
        t.bigIncrements("id");
        t.bigInteger("tenant_id").notNullable().references("tenants.id").onDelete("CASCADE");
        t.string("name").notNullable();
        t.integer("position");
        t.unique(["tenant_id", "name"]);
      });
      await k.schema.createTable("project_members", (t) => {
        t.bigInteger("tenant_id").notNullable();
        t.bigInteger("project_id").notNullable().references("projects.id").onDelete("CASCADE");
        t.bigInteger("member_id").notNullable().references("members.id").onDelete("CASCADE");
        t.primary(["project_id", "member_id"]);
      });
      await k.schema.createTable("tasks", (t) => {
        t.bigIncrements("id");
        t.bigInteger("tenant_id").notNullable();
        t.bigInteger("project_id").notNullable().references("projects.id").onDelete("CASCADE");
        t.enu("state", ["open", "doing", "done"]).notNullable().defaultTo("open");
        t.string("title").notNullable();
        t.text("body");
        t.decimal("estimate", 8, 2);
        t.uuid("token").notNullable().defaultTo(k.raw("gen_random_uuid()"));
        t.index(["tenant_id", "state"]);
      });
    },
    async down() {},
  },
  "002_priority": {
    async up(k) {
      await k.schema.alterTable("tasks", (t) => {
        t.integer("priority").notNullable().defaultTo(3).index();
      });
      await k.schema.createTable("milestones", (t) => {
        t.bigIncrements("id");
        t.bigInteger("tenant_id").notNullable();
        t.string("name").notNullable();
      });
      const tenants = await k("tenants").select("id").orderBy("id");
      await k.batchInsert(
        "milestones",
        tenants.map(({ id }) => ({ tenant_id: id, name: "first" })),
        7,
      );
      await k("tasks").where({ state: "open" }).increment("priority", 1);
      await k.schema.alterTable("tasks", (t) => {
        t.string("title", 300).notNullable().alter();
      });
    },
    async down() {},
  },
  "003_concurrently": {
    config: { transaction: false },
    async up(k) {
      await k.raw("CREATE INDEX CONCURRENTLY tasks_title ON tasks (title)");
    },
    async down() {},
  },
};

const last = process.argv[2] === "1" ? 1 : 3;
const migrationSource = {
  getMigrations: async () => Object.keys(migrations).slice(0, last),
  getMigrationName: (name) => name,
  getMigration: async (name) => migrations[name],
};
await knex.migrate.latest({ migrationSource });
await knex.destroy();
