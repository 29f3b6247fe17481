import type { Chance } from "./generate.js";
import { TENANTS } from "./tables.js";

/** What may stand in FROM, with conditions and outputs of its own; ordered by what makes each row one of a kind. */
interface Source {
  readonly from: string;
  readonly columns: readonly [string, ...string[]];
  readonly numbers: readonly [string, ...string[]];
  readonly conditions: readonly [string, ...string[]];
  readonly key: string;
  readonly tenant: string;
}

const SOURCES: readonly [Source, ...Source[]] = [
  {
    from: "users u",
    columns: ["u.id", "u.name", "u.is_active", "u.email", "u.created_at"],
    numbers: ["u.id", "u.tenant_id"],
    conditions: ["u.is_active", "u.id % 2 = 0", "u.name <> 'User 1'", "u.last_login_at IS NULL"],
    key: "u.id",
    tenant: "u.tenant_id",
  },
  {
    from: "tasks t",
    columns: ["t.id", "t.state", "t.estimate", "t.due_on", "t.labels", "t.title"],
    numbers: ["t.id", "t.estimate"],
    conditions: [
      "t.state = 'open'",
      "t.estimate > 2",
      "t.due_on > '2026-03-10'",
      "t.labels @> '{l1}'",
    ],
    key: "t.id",
    tenant: "t.tenant_id",
  },
  {
    from: "tasks t JOIN projects p ON p.id = t.project_id",
    columns: ["t.id", "p.name", "p.archived", "t.state"],
    numbers: ["t.id", "p.position", "t.estimate"],
    conditions: ["NOT p.archived", "t.id > 20", "p.position = 1", "t.state <> 'done'"],
    key: "t.id",
    tenant: "p.tenant_id",
  },
  {
    from: "users u LEFT JOIN tasks t ON t.assignee_id = u.id",
    columns: ["u.id", "t.id", "t.state", "u.name"],
    numbers: ["t.id", "u.id"],
    conditions: ["t.id IS NULL", "u.is_active", "t.state = 'doing'", "u.id < 15"],
    key: "u.id, t.id",
    tenant: "u.tenant_id",
  },
  {
    from: "tenants n JOIN plans l ON l.id = n.plan_id",
    columns: ["n.id", "l.name", "n.settings", "n.slug"],
    numbers: ["n.id", "l.price"],
    conditions: ["l.price > 2", "n.id <> 4", "n.settings->>'theme' = 't1'", "l.id = 2"],
    key: "n.id",
    tenant: "n.id",
  },
  {
    from: "comments c JOIN tasks t ON t.id = c.task_id JOIN users u ON u.id = c.author_id",
    columns: ["t.id", "c.body", "u.name", "c.id"],
    numbers: ["t.id", "u.id"],
    conditions: [
      "u.is_active",
      "c.body LIKE '%1%'",
      "t.state = 'open'",
      "c.author_id = t.assignee_id",
    ],
    key: "c.id",
    tenant: "c.tenant_id",
  },
  {
    from: "open_tasks o",
    columns: ["o.id", "o.title", "o.project"],
    numbers: ["o.id", "o.tenant_id"],
    conditions: ["o.id % 3 = 1", "o.project LIKE 'p%'", "o.id > 10", "o.tenant_id < 5"],
    key: "o.id",
    tenant: "o.tenant_id",
  },
  {
    from: "projects p LEFT JOIN project_members m ON m.project_id = p.id",
    columns: ["p.id", "m.user_id", "m.role", "p.name"],
    numbers: ["p.id", "m.user_id"],
    conditions: ["m.role = 'owner'", "p.archived", "p.position > 0", "m.user_id IS NOT NULL"],
    key: "p.id, m.user_id",
    tenant: "p.tenant_id",
  },
];

/** SELECTs over the application's tables. */
export class Reads {
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  next(): string {
    const chance = this.#chance;
    const source = chance.of(SOURCES);
    const where = this.#where(source);
    const list = [chance.of(source.columns), chance.of(source.columns)].join(", ");
    const { from, key, tenant } = source;
    const number = chance.of(source.numbers);
    switch (chance.below(14)) {
      case 0:
        return `SELECT count(*), sum(${number}), min(${number}), max(${number}) FROM ${from}${where}`;
      case 1:
        return `SELECT avg(${number}) FROM ${from}${where}`;
      case 2:
        return `SELECT ${tenant}, count(*), max(${number}) FROM ${from}${where} GROUP BY ${tenant} ORDER BY 1`;
      case 3:
        return `SELECT ${number} % 3 AS n, count(*) FROM ${from}${where} GROUP BY n ORDER BY n`;
      case 4:
        return `SELECT DISTINCT ${number} FROM ${from}${where} ORDER BY ${number}`;
      case 5:
        return `SELECT EXISTS (SELECT 1 FROM ${from}${where})`;
      case 6:
        return `SELECT ${list} FROM ${from}${where} ORDER BY ${key} DESC LIMIT ${chance.below(6)} OFFSET ${chance.below(3)}`;
      case 7:
        return `SELECT ${key}, rank() OVER (PARTITION BY ${tenant} ORDER BY ${key}) FROM ${from}${where}`;
      case 8:
        return `WITH q AS (SELECT ${key.split(",")[0]} AS k, ${tenant} AS w FROM ${from}${where}) SELECT w, count(k) FROM q GROUP BY w ORDER BY w`;
      case 9:
        return `SELECT * FROM (SELECT ${number} AS x, ${tenant} AS w FROM ${from}${where}) q WHERE w = ${this.#tenant} ORDER BY x`;
      case 10:
        return `SELECT count(*) FROM ${from}${where} HAVING count(*) > ${chance.below(4)}`;
      default:
        return `SELECT ${list} FROM ${from}${where} ORDER BY ${number} NULLS FIRST, ${key}`;
    }
  }

  get #tenant(): number {
    return 1 + this.#chance.below(TENANTS);
  }

  #where({ tenant, conditions }: Source): string {
    const chance = this.#chance;
    const parts: string[] = [];
    if (chance.once(2)) parts.push(`${tenant} = ${this.#tenant}`);
    else if (chance.once(4)) parts.push(`${tenant} IN (${this.#tenant}, ${this.#tenant})`);
    while (chance.once(2)) parts.push(chance.of(conditions));
    return parts.length === 0 ? "" : ` WHERE ${parts.join(" AND ")}`;
  }
}
