import type { Chance } from "./generate.js";
import { Reads } from "./reads.js";
import type { Act } from "./story.js";
import { FLAGS, idsOf, type OF_TENANT, PLANS, TENANTS } from "./tables.js";

type Make = () => string;

/** Writes, definitions and settings, one after the other; reads are in `Reads`. */
export class Statements {
  readonly #chance: Chance;
  readonly #reads: Reads;
  #given = 2_000;
  /** The tables that this story has made, and their columns behind the key. */
  #made: { readonly name: string; columns: string[] }[] = [];
  #names = 0;
  /** Of prepared statements, in this connection. */
  #prepared = 0;

  constructor(chance: Chance) {
    this.#chance = chance;
    this.#reads = new Reads(chance);
  }

  beginStory(): void {
    this.#prepared = 0;
  }

  endStory(): readonly string[] {
    const made = this.#made;
    this.#made = [];
    return made.map(({ name }) => `DROP TABLE IF EXISTS ${name}`);
  }

  next(): Act {
    const kind = this.#chance.below(100);
    if (kind < 40) return this.#sent(this.#reads.next());
    if (kind < 83) return this.#sent(this.#write());
    if (kind < 88) return this.#plain(this.#setting());
    if (kind < 96) return this.#plain(this.#definition());
    return this.#copy();
  }

  #plain(sql: string): Act {
    return { kind: "statement", sql };
  }

  /** As it is, or with its numbers as parameters, some of them prepared by name. */
  #sent(sql: string): Act {
    if (!this.#chance.once(3)) return this.#plain(sql);
    const values: string[] = [];
    const text = sql.replaceAll(/(?<== )(\d+)(?!\.)\b/g, (number) => `$${values.push(number)}`);
    if (values.length === 0 || !this.#chance.once(2))
      return { kind: "statement", sql: text, values };
    return { kind: "statement", sql: text, values, name: `n${++this.#prepared}` };
  }

  get #tenant(): number {
    return 1 + this.#chance.below(TENANTS);
  }

  #id(table: keyof typeof OF_TENANT, tenant: number): number {
    const ids = idsOf(table, tenant);
    return ids[this.#chance.below(ids.length)] ?? 0;
  }

  get #newId(): number {
    return ++this.#given;
  }

  #write(): string {
    const chance = this.#chance;
    const makes: readonly [Make, ...Make[]] = [
      () => this.#insert(),
      () => this.#insert(),
      () => this.#insertMany(),
      () => this.#upsert(),
      () => this.#update(),
      () => this.#update(),
      () => this.#updateAll(),
      () => this.#delete(),
      () => this.#lookup(),
      () => this.#lookup(),
      () => this.#derived(),
      () => this.#wrong(),
    ];
    return chance.of(makes)();
  }

  #returning(columns: string): string {
    return this.#chance.once(2) ? ` RETURNING ${columns}` : "";
  }

  #insert(): string {
    const [t, id] = [this.#tenant, this.#newId];
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `INSERT INTO users (id, tenant_id, email, name) VALUES (${id}, ${t}, 'u${id}@x', 'User ${id % 5}')`,
      () =>
        `INSERT INTO projects (id, tenant_id, owner_id, name) VALUES (${id}, ${t}, ${this.#id("users", t)}, 'p${id}')`,
      () =>
        `INSERT INTO projects VALUES (${id}, ${t}, NULL, 'p${id}', ${id % 3}, false, '2026-01-01 00:00:00+00')`,
      () =>
        `INSERT INTO tasks (id, tenant_id, project_id, state, title, estimate) VALUES (${id}, ${t}, ${this.#id("projects", t)}, 'doing', 't${id}', ${id % 9}.5)`,
      () =>
        `INSERT INTO comments (tenant_id, task_id, author_id, body) VALUES (${t}, ${this.#id("tasks", t)}, ${this.#id("users", t)}, 'c')`,
      () =>
        `INSERT INTO audit_log (tenant_id, action, created_at) VALUES (${t}, 'a${id}', '2026-03-0${1 + (id % 9)} 00:00:00+00')`,
      () =>
        `INSERT INTO attachments (id, tenant_id, task_id, file_name, content) VALUES (${id}, ${t}, ${this.#id("tasks", t)}, 'f', '\\x${String(id % 100).padStart(2, "0")}')`,
      () =>
        `INSERT INTO tenants (id, slug, plan_id) VALUES (${id}, 'slug-${id}', ${1 + (id % PLANS)})`,
    ];
    return `${this.#chance.of(makes)()}${this.#returning("*")}`;
  }

  #insertMany(): string {
    const rows = Array.from({ length: 2 + this.#chance.below(4) }, () => [
      this.#newId,
      this.#tenant,
    ]);
    const list = (row: (id: number, t: number) => string) =>
      rows.map(([id = 0, t = 0]) => `(${row(id, t)})`).join(", ");
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `INSERT INTO users (id, tenant_id, email, name) VALUES ${list((id, t) => `${id}, ${t}, 'm${id}', 'Many'`)}`,
      () =>
        `INSERT INTO projects (tenant_id, id, name) VALUES ${list((id, t) => `${t}, ${id}, 'm${id}'`)}`,
      () =>
        `INSERT INTO tasks (id, tenant_id, project_id, title) VALUES ${list((id, t) => `${id}, ${t}, ${this.#id("projects", t)}, 'm'`)}`,
    ];
    return `${this.#chance.of(makes)()}${this.#returning("*")}`;
  }

  #upsert(): string {
    const [t, id] = [this.#tenant, this.#newId];
    const old = this.#id("projects", t);
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `INSERT INTO projects (id, tenant_id, name) VALUES (${id}, ${t}, 'project ${old}') ON CONFLICT (tenant_id, name) DO NOTHING`,
      () =>
        `INSERT INTO projects (id, tenant_id, name) VALUES (${id}, ${t}, 'project ${old}') ON CONFLICT (tenant_id, name) DO UPDATE SET position = coalesce(projects.position, 0) + 1`,
      () =>
        `INSERT INTO users (id, tenant_id, email, name) VALUES (${this.#id("users", t)}, ${t}, 'x${id}', 'U') ON CONFLICT (id) DO UPDATE SET name = excluded.name`,
      () =>
        `INSERT INTO project_members VALUES (${t}, ${old}, ${this.#id("users", t)}, 'r${id % 3}') ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role`,
      () =>
        `INSERT INTO users (id, tenant_id, email, name) VALUES (${this.#id("users", t)}, ${t}, 'x${id}', 'U')`,
    ];
    return `${this.#chance.of(makes)()}${this.#returning("tenant_id")}`;
  }

  #update(): string {
    const t = this.#tenant;
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `UPDATE users SET name = 'n${t}' WHERE tenant_id = ${t} AND id = ${this.#id("users", t)}`,
      () => `UPDATE users SET is_active = NOT is_active WHERE tenant_id = ${t}`,
      () => `UPDATE tasks SET state = 'done' WHERE tenant_id = ${t} AND state = 'open'`,
      () =>
        `UPDATE tasks SET estimate = coalesce(estimate, 0) + 1, title = title || '!' WHERE id = ${this.#id("tasks", t)}`,
      () =>
        `UPDATE tasks t SET body = p.name FROM projects p WHERE p.id = t.project_id AND p.tenant_id = ${t}`,
      () =>
        `UPDATE projects SET owner_id = ${this.#id("users", t)} WHERE id = ${this.#id("projects", t)}`,
      () => `UPDATE tenants SET settings = jsonb_set(settings, '{n}', '${t}') WHERE id = ${t}`,
      () =>
        `UPDATE tasks SET assignee_id = NULL, labels = labels || 'x' WHERE assignee_id = ${this.#id("users", t)}`,
      () =>
        `UPDATE attachments SET tenant_id = ${t} WHERE id = ${this.#id("attachments", t)} AND tenant_id = ${t}`,
      () => {
        const to = this.#tenant;
        return `UPDATE attachments SET tenant_id = ${to}, task_id = ${this.#id("tasks", to)} WHERE tenant_id = ${t} AND id = ${this.#id("attachments", t)}`;
      },
      () => {
        const to = this.#tenant;
        return `UPDATE attachments SET tenant_id = ${to}, task_id = ${this.#id("tasks", to)} WHERE id = ${this.#id("attachments", t)}`;
      },
    ];
    return `${this.#chance.of(makes)()}${this.#returning("1")}`;
  }

  #updateAll(): string {
    const n = this.#chance.below(5);
    const makes: readonly [Make, ...Make[]] = [
      () => `UPDATE users SET name = 'all' WHERE id % 5 = ${n}`,
      () => `UPDATE tasks SET due_on = due_on + 1 WHERE estimate > ${n}`,
      () => `UPDATE tasks SET state = 'open' WHERE state = 'done' AND id % 5 = ${n}`,
      () => `UPDATE projects SET archived = NOT archived WHERE position = ${n}`,
      () =>
        `UPDATE comments SET body = body || '.' WHERE author_id IN (SELECT id FROM users WHERE id % 5 = ${n})`,
      () =>
        `UPDATE tasks SET title = u.name FROM users u WHERE u.id = assignee_id AND u.id % 5 = ${n}`,
    ];
    return `${this.#chance.of(makes)()}${this.#returning("1")}`;
  }

  #delete(): string {
    const t = this.#tenant;
    const makes: readonly [Make, ...Make[]] = [
      () => `DELETE FROM comments WHERE tenant_id = ${t} AND body = 'comment ${t % 4}'`,
      () => `DELETE FROM tasks WHERE id = ${this.#id("tasks", t)}`,
      () => `DELETE FROM projects WHERE tenant_id = ${t} AND id = ${this.#id("projects", t)}`,
      () => `DELETE FROM attachments WHERE id % 7 = ${t % 7}`,
      () => `DELETE FROM users WHERE id = ${this.#id("users", t)}`,
      () =>
        `DELETE FROM project_members WHERE user_id IN (SELECT id FROM users WHERE tenant_id = ${t})`,
      () => `DELETE FROM comments c USING tasks k WHERE k.id = c.task_id AND k.state = 'done'`,
      () => `DELETE FROM users WHERE tenant_id = ${t} AND id > 2000`,
      () => `DELETE FROM audit_log WHERE action LIKE 'a%${t}'`,
    ];
    return `${this.#chance.of(makes)()}${this.#returning("1")}`;
  }

  #lookup(): string {
    const id = this.#newId;
    const n = 1 + this.#chance.below(FLAGS);
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `INSERT INTO plans (name, price) VALUES ('plan ${id}', ${id % 50}) RETURNING name, price`,
      () => `INSERT INTO plans (id, name) VALUES (${id}, 'plan ${id}')`,
      () =>
        `INSERT INTO plans (name) VALUES ('plan ${n}') ON CONFLICT (name) DO UPDATE SET price = plans.price + 1 RETURNING id, price`,
      () => `UPDATE plans SET price = price + ${n} WHERE id = ${1 + (n % PLANS)}`,
      () =>
        `INSERT INTO feature_flags (name) VALUES ('flag ${n}') ON CONFLICT (name) DO UPDATE SET enabled = NOT feature_flags.enabled`,
      () => `UPDATE feature_flags SET enabled = id % 2 = ${n % 2} RETURNING name`,
      () => `UPDATE feature_flags SET token = gen_random_uuid() WHERE id = ${n}`,
      () => `DELETE FROM feature_flags WHERE name = 'flag ${n}'`,
      () =>
        `INSERT INTO sessions VALUES ('k${n}', 'd${id}', now()) ON CONFLICT (session_key) DO UPDATE SET session_data = excluded.session_data`,
      () => `DELETE FROM sessions WHERE session_key = 'k${n}' RETURNING session_data`,
      () => `INSERT INTO schema_migrations VALUES ('v${id}'), ('w${id}')`,
      () => `DELETE FROM plans WHERE id = ${id - 1} OR id NOT IN (SELECT plan_id FROM tenants)`,
      () =>
        `UPDATE plans SET price = (SELECT count(*) FROM tasks WHERE state = 'open') WHERE id = ${1 + (n % PLANS)}`,
    ];
    return this.#chance.of(makes)();
  }

  #derived(): string {
    const t = this.#tenant;
    const id = this.#newId;
    const makes: readonly [Make, ...Make[]] = [
      () =>
        `INSERT INTO audit_log (tenant_id, actor_id, action, created_at) SELECT tenant_id, id, 'derived', '2026-04-04 00:00:00+00' FROM users WHERE is_active`,
      () =>
        `INSERT INTO project_members SELECT p.tenant_id, p.id, u.id, 'all' FROM projects p JOIN users u ON u.tenant_id = p.tenant_id WHERE p.tenant_id = ${t} ON CONFLICT DO NOTHING`,
      () =>
        `WITH gone AS (DELETE FROM comments WHERE tenant_id = ${t} RETURNING id) SELECT count(*) FROM gone`,
      () =>
        `WITH new AS (INSERT INTO projects (id, tenant_id, name) VALUES (${id}, ${t}, 'w${id}') RETURNING id, tenant_id) INSERT INTO tasks (id, tenant_id, project_id, title) SELECT ${id}, tenant_id, id, 'w' FROM new`,
      () =>
        `WITH u AS (UPDATE tasks SET body = 'w' WHERE tenant_id = ${t} RETURNING id) SELECT count(*) FROM u`,
      () =>
        `INSERT INTO tasks (id, tenant_id, project_id, title) SELECT ${id} * 1 + 0 * max(id), tenant_id, min(id), 'agg' FROM projects WHERE tenant_id = ${t} GROUP BY tenant_id`,
    ];
    return this.#chance.of(makes)();
  }

  #wrong(): string {
    const t = this.#tenant;
    const makes: readonly [Make, ...Make[]] = [
      () => `INSERT INTO tasks (id, tenant_id, project_id) VALUES (${this.#newId}, ${t}, 1)`,
      () =>
        `INSERT INTO users (id, tenant_id, email, name) VALUES (${this.#newId}, NULL, 'x', 'x')`,
      () => `UPDATE users SET name = NULL WHERE tenant_id = ${t}`,
      () => `UPDATE tasks SET estimate = 1 / (id - id) WHERE tenant_id = ${t}`,
      () => `DELETE FROM plans WHERE id = ${(t % PLANS) + 1}`,
      () => `SELECT missing FROM users WHERE tenant_id = ${t}`,
      () => `INSERT INTO nowhere VALUES (${t})`,
      () => `SELECT 1 / 0`,
      () => `UPDATE users SET name = repeat('x', 201) WHERE id = ${this.#id("users", t)}`,
    ];
    return this.#chance.of(makes)();
  }

  #setting(): string {
    return this.#chance.of([
      "SET timezone = 'Asia/Tokyo'",
      "SET datestyle = 'ISO, DMY'",
      "SET LOCAL timezone = 'America/New_York'",
      "SHOW timezone",
      "RESET timezone",
      "RESET ALL",
      "DISCARD ALL",
      "SET statement_timeout = '9s'",
      "SHOW statement_timeout",
      "SELECT set_config('timezone', 'Europe/Paris', true)",
      "SELECT set_config('timezone', 'Asia/Kolkata', false)",
      "SET bytea_output = 'escape'",
      "SELECT current_setting('timezone')",
    ]);
  }

  #definition(): string {
    const chance = this.#chance;
    const table = this.#made[chance.below(this.#made.length || 1)];
    if (table === undefined || chance.once(4)) {
      const name = `made_${++this.#names}`;
      this.#made.push({ name, columns: ["a", "b"] });
      return chance.once(3)
        ? `CREATE TABLE ${name} (a text, b text, tenant_id bigint)`
        : `CREATE TABLE ${name} (a text, tenant_id bigint, b text)`;
    }
    const { name, columns } = table;
    const added = `c${++this.#names}`;
    const makes: readonly [Make, ...Make[]] = [
      () => `INSERT INTO ${name} (tenant_id) VALUES (${this.#tenant}), (${this.#tenant})`,
      // Columns are counted by the server: too many is as wrong there as here.
      () => `INSERT INTO ${name} VALUES ('1', 2, '3'), ('4', 5, '6')`,
      () => `INSERT INTO ${name} VALUES (${this.#tenant}, '1'), (${this.#tenant}, '2')`,
      () => {
        columns.push(added);
        return `ALTER TABLE ${name} ADD COLUMN ${added} text DEFAULT 'd'`;
      },
      () => `ALTER TABLE ${name} DROP COLUMN ${columns.splice(0, 1)[0] ?? "a"}`,
      () => `ALTER TABLE ${name} RENAME COLUMN ${columns[0] ?? "a"} TO ${added}`,
      () => `CREATE INDEX ON ${name} (tenant_id)`,
      () => `SELECT * FROM ${name}`,
      () => `SELECT count(*) FROM ${name} WHERE tenant_id = ${this.#tenant}`,
      () => `UPDATE ${name} SET ${columns[0] ?? "a"} = 'u' WHERE tenant_id = ${this.#tenant}`,
      () => `TRUNCATE ${name}`,
      () => `DROP TABLE ${name}`,
      () => `ALTER TABLE ${name} RENAME TO ${name}`,
    ];
    return chance.of(makes)();
  }

  #copy(): Act {
    const rows = Array.from({ length: 1 + this.#chance.below(4) }, () => {
      const id = this.#newId;
      return `${id}\t${this.#tenant}\tcopied ${id}\n`;
    });
    return {
      kind: "copy",
      sql: "COPY projects (id, tenant_id, name) FROM STDIN",
      data: rows.join(""),
    };
  }
}
