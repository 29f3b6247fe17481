import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { planPage } from "../../../src/main/cli/plan-page.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { errorsOf, preflightFixture, TENANT_RULE } from "../../support/preflight-fixture.js";

/** `plan` on what people have: no error, and one screen of what they would want to know. */

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const LINES = 28;
const COLUMNS = 100;
const NAMES = { from: "app", to: "app_sharded", publication: "moving" };

async function pageOf(options: Parameters<typeof preflightFixture>[1]): Promise<string> {
  const result = await (await preflightFixture(server, options)).run();
  expect(errorsOf(result)).toEqual([]);
  const page = planPage(result, NAMES);
  expect(page.length).toBeLessThanOrEqual(LINES);
  expect(page.filter((line) => line.length > COLUMNS)).toEqual([]);
  expect(page.at(-1)).toBe(
    "the migration can be started; what shards refuse afterwards: docs/sql.md, docs/reads.md",
  );
  // How many checks there are is no matter of this page.
  return page.join("\n").replace(/^\d+ checks/m, "n checks");
}

test("the ordinary application", async () => {
  const page = await pageOf({
    source: readFileSync(new URL("../../demo/ordinary/schema.sql", import.meta.url), "utf8"),
    rules: [{ ...TENANT_RULE, name: "tenants", column: "id" }, TENANT_RULE],
  });
  expect(page).toMatchInlineSnapshot(`
    "app -> app_sharded, publication moving: 1 shard to 2 shards
    moves   7 by tenant_id: attachments, audit_log, comments, project_members, projects, tasks, users
    moves   1 by id: tenants
    moves   4 to every shard: feature_flags, plans, schema_migrations, sessions
    set for the time of the migration, and put back:
      replica-identity, 1: REPLICA IDENTITY USING a unique INDEX: other readers of its changes get its
        old values
          project_members USING INDEX project_members_pair
    warnings:
      user-defined-types, 2: their OIDs are others on each shard: drivers that remember them must ask
        again after the switch
          tasks.state, users.name
      unique-without-sharding-key, 2: no sharding key: each shard sees to its own, the proxy refuses
        nothing, and a value taken on two shards makes the way back "not ready", with both rows named by
        their keys
          tenants.tenants_slug_key (slug), users.users_email_key (email)
      foreign-keys, 8: no sharding key in the reference: after the switch a row may refer to rows of its
        own shard only, so to those of the same sharding key; all rows do so now
          attachments.task_id, comments.author_id, comments.task_id, project_members.project_id,
          project_members.user_id, projects.owner_id, tasks.assignee_id, tasks.project_id
    good to know: identity-has-sharding-key (7), placement-guard (8), unique-without-sharding-key (8),
            types (2)
    n checks are fine. --all: every finding, with remedies. --json: for programs.
    the migration can be started; what shards refuse afterwards: docs/sql.md, docs/reads.md"
  `);
});

test("pgbench, as it comes", async () => {
  const page = await pageOf({
    source: `
      CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
      CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
      CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
      CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))`,
    rules: [{ ...TENANT_RULE, column: "bid" }],
  });
  expect(page).toMatchInlineSnapshot(`
    "app -> app_sharded, publication moving: 1 shard to 2 shards
    moves   4 by bid: pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers
    set for the time of the migration, and put back:
      replica-identity, 1: REPLICA IDENTITY FULL: whole old rows in the WAL, and for other readers of
        its changes
          pgbench_history
    warnings:
      replica-identity, 1: no key: updates and deletes are applied row by row, and each searches the
        table (inserts do not)
          pgbench_history
      sharding-key, 3: the sharding key may be NULL; no row has it, and one that comes stops the
        migration, or is refused after it
          pgbench_accounts, pgbench_history, pgbench_tellers
      unique-without-sharding-key, 2: no sharding key: each shard sees to its own, the proxy refuses
        nothing, and a value taken on two shards makes the way back "not ready", with both rows named by
        their keys
          pgbench_accounts.pgbench_accounts_pkey (aid), pgbench_tellers.pgbench_tellers_pkey (tid)
    good to know:
      identity-has-sharding-key, 2: no sharding key in the replica identity: a delete goes to every
        shard, an update that moves a row is settled from the source
          pgbench_accounts, pgbench_tellers
      placement-guard, 4: gets a CHECK, sluice_placement, on every shard: PostgreSQL refuses a row that
        belongs to another
          pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers
    n checks are fine. --all: every finding, with remedies. --json: for programs.
    the migration can be started; what shards refuse afterwards: docs/sql.md, docs/reads.md"
  `);
});

/** As Django makes it: names of its own, keys from identity columns, constraints deferred, its own tables beside. */
const DJANGO = `
  CREATE TABLE django_migrations (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, app varchar(255) NOT NULL,
    name varchar(255) NOT NULL, applied timestamptz NOT NULL);
  CREATE TABLE django_content_type (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, app_label varchar(100) NOT NULL,
    model varchar(100) NOT NULL, UNIQUE (app_label, model));
  CREATE TABLE auth_permission (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name varchar(255) NOT NULL,
    content_type_id integer NOT NULL REFERENCES django_content_type DEFERRABLE INITIALLY DEFERRED,
    codename varchar(100) NOT NULL, UNIQUE (content_type_id, codename));
  CREATE TABLE auth_group (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name varchar(150) NOT NULL UNIQUE);
  CREATE TABLE auth_group_permissions (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    group_id integer NOT NULL REFERENCES auth_group DEFERRABLE INITIALLY DEFERRED,
    permission_id integer NOT NULL REFERENCES auth_permission DEFERRABLE INITIALLY DEFERRED, UNIQUE (group_id, permission_id));
  CREATE TABLE auth_user (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, username varchar(150) NOT NULL UNIQUE);
  CREATE TABLE django_admin_log (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    user_id integer NOT NULL REFERENCES auth_user DEFERRABLE INITIALLY DEFERRED, object_repr varchar(200) NOT NULL);
  CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, expire_date timestamptz NOT NULL);
  CREATE TABLE crm_tenant (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, slug varchar(50) NOT NULL UNIQUE);
  CREATE TABLE crm_contact (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email varchar(254) NOT NULL,
    tenant_id bigint NOT NULL REFERENCES crm_tenant DEFERRABLE INITIALLY DEFERRED, UNIQUE (tenant_id, email));
  CREATE TABLE crm_profile (contact_id bigint PRIMARY KEY REFERENCES crm_contact DEFERRABLE INITIALLY DEFERRED,
    tenant_id bigint NOT NULL REFERENCES crm_tenant DEFERRABLE INITIALLY DEFERRED, owner_id integer REFERENCES auth_user);
  CREATE TABLE crm_tag (id uuid PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES crm_tenant DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE crm_tagging (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    contact_id bigint NOT NULL REFERENCES crm_contact DEFERRABLE INITIALLY DEFERRED,
    tag_id uuid NOT NULL REFERENCES crm_tag DEFERRABLE INITIALLY DEFERRED, tenant_id bigint NOT NULL, UNIQUE (contact_id, tag_id))`;

test("Django's tables beside an application's", async () => {
  const page = await pageOf({
    source: DJANGO,
    rules: [{ ...TENANT_RULE, name: "crm_tenant", column: "id" }, TENANT_RULE],
  });
  expect(page).toMatch(/moves {3}8 to every shard: .*django_session/s);
  expect(page).toMatch(
    /unique-without-sharding-key, 1: .*\n.*\n.*\n?.*crm_tenant.crm_tenant_slug_key/,
  );
  expect(page).not.toContain("replica-identity");
});

test("hundreds of tables with everything to be said of each", async () => {
  const kinds = ["mood", "level"].map((name) => `CREATE TYPE ${name} AS ENUM ('a', 'b');`).join("");
  const role = `owner_of_${process.pid}`;
  const tables = Array.from({ length: 120 }, (_, index) => {
    const name = `application_table_with_a_long_name_${index}`;
    return `CREATE TABLE ${name} (tenant_id bigint, id serial PRIMARY KEY, slug text UNIQUE, mood mood, level level);
      CREATE TABLE ${name}_log (tenant_id bigint NOT NULL, of integer REFERENCES ${name}, note text);
      CREATE TABLE ${name}_pair (tenant_id bigint NOT NULL, a int NOT NULL, b int NOT NULL);
      CREATE UNIQUE INDEX ${name}_pair_key ON ${name}_pair (a, b);
      CREATE TABLE ${name}_kind (id serial PRIMARY KEY, name text UNIQUE);
      ALTER TABLE ${name} OWNER TO ${role};
      CREATE MATERIALIZED VIEW ${name}_view AS SELECT 1;
      CREATE TRIGGER audit_${index} AFTER INSERT ON ${name} FOR EACH ROW EXECUTE FUNCTION f();
      ALTER TABLE ${name} ENABLE ALWAYS TRIGGER audit_${index};
      CREATE RULE quiet_${index} AS ON DELETE TO ${name} DO ALSO NOTHING;`;
  });
  const page = await pageOf({
    source: `CREATE ROLE ${role} LOGIN; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      ${kinds} SELECT lo_create(0); ${tables.join("\n")}
      DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''8MB''', current_database()); END $$`,
  });
  expect(page).toMatch(/moves {3}360 by tenant_id: .* and \d+ more/s);
  expect(page).toMatch(/replica-identity, 120: .*FULL/);
  expect(page).toMatch(/replica-identity, 120: .*INDEX/);
});
