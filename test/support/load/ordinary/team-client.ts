import { History, type RowState } from "../history.js";
import { chooseWeighted, createRandom, type Random } from "../random.js";
import {
  expectOne,
  type LoadAddress,
  LoadSession,
  type Operation,
  type Rows,
  Stale,
} from "../session.js";
import type { Known } from "./ledger.js";
import type { Script } from "./script.js";

export interface TeamClientOptions {
  readonly addresses: readonly LoadAddress[];
  readonly seed: number;
  readonly script: Script;
  /** Pause between two operations, ms. */
  readonly thinkMs: number;
}

/** What the database has told of a row when this client made it. */
interface Ids {
  readonly tenant: number;
  readonly id: string;
  /** The team's first project and user. */
  readonly project: string;
  readonly owner: string;
}

interface OwnRow {
  readonly key: string;
  readonly state: RowState;
  readonly ids: Ids;
}

const KEPT_TASKS = 25;

/**
 * One who founds teams and works in them, as frameworks do it: ids come from RETURNING, a row is found again by
 * its id alone as often as with its tenant, and goes with all that hangs on it. Nobody else writes its rows.
 */
export class TeamClient {
  readonly session: LoadSession;
  readonly #options: TeamClientOptions;
  readonly #history: History;
  readonly #random: Random;
  readonly #operations: readonly (readonly [weight: number, name: string, run: Operation])[];
  /** By the key under which the history has the row. */
  readonly #ids = new Map<string, Ids>();

  constructor(client: number, options: TeamClientOptions) {
    this.#options = options;
    this.session = new LoadSession({ client, addresses: options.addresses });
    this.#history = new History(client);
    this.#random = createRandom(options.seed * 1_000 + client);
    this.#operations = [
      [10, "found team", this.#foundTeam],
      [6, "invite user", this.#inviteUser],
      [20, "add task", this.#addTask],
      [20, "change task", this.#changeTask],
      [12, "attach file", this.#attachFile],
      [10, "delete task", this.#deleteTask],
      [8, "note", this.#note],
      [6, "move note", this.#moveNote],
      [8, "read task", this.#readTask],
    ];
  }

  snapshot(): Known {
    return { kind: "team", history: this.#history.snapshot() };
  }

  /** One operation and the pause after it. */
  async once(): Promise<void> {
    const [, name, run] = chooseWeighted(this.#random, this.#operations);
    await this.session.attempt(name, run);
    await new Promise((resolve) =>
      setTimeout(resolve, this.#options.thinkMs * (0.5 + this.#random.next())),
    );
  }

  async #query(name: string, text: string, values: readonly unknown[]): Promise<Rows> {
    return await this.session.query({ name, text, values: [...values] });
  }

  /** Whether the write of `state` is known to be there or not is told later, by its outcome. */
  #intent(table: string, key: string, state: RowState | null) {
    return {
      note: (outcome: "acknowledged" | "unknown") => {
        if (outcome === "acknowledged") this.#history.wrote(table, key, state);
        else this.#history.mayHaveWritten(table, key, state);
      },
    };
  }

  /** A row that is surely there, and what is known of it. */
  #pick(table: string): OwnRow | null {
    const row = this.#random.pick(this.#history.present(table));
    const ids = row && this.#ids.get(row.id);
    return row?.acknowledged && ids ? { key: row.id, state: row.acknowledged, ids } : null;
  }

  #foundTeam: Operation = async (intend) => {
    const slug = `team-${this.#random.uuid()}`;
    intend(this.#intent("teams", slug, { tenant: 0, revision: 0, lines: 3 }));
    await this.session.transaction(async () => {
      const founded = await this.#query(
        "insert_tenant",
        "INSERT INTO tenants (slug, plan_id) VALUES ($1, $2) RETURNING id, created_at",
        [slug, 1 + this.#random.below(5)],
      );
      const tenant = Number(expectOne(founded.rows, "new team").id);
      const owner = await this.#insertUser(tenant, `owner of ${slug}`);
      const made = await this.#query(
        "insert_project",
        "INSERT INTO projects (tenant_id, owner_id, name) VALUES ($1, $2, $3) RETURNING id",
        [tenant, owner, "first"],
      );
      const project = String(expectOne(made.rows, "new project").id);
      await this.#insertMember(tenant, project, owner);
      this.#ids.set(slug, { tenant, id: String(tenant), project, owner });
    });
  };

  #inviteUser: Operation = async (intend) => {
    const team = this.#pick("teams");
    if (!team) return;
    const { key, state, ids } = team;
    intend(this.#intent("teams", key, { ...state, lines: state.lines + 2 }));
    await this.session.transaction(async () => {
      const user = await this.#insertUser(ids.tenant, `member ${state.lines}`);
      await this.#insertMember(ids.tenant, ids.project, user);
    });
  };

  async #insertUser(tenant: number, name: string): Promise<string> {
    const { rows } = await this.#query(
      "insert_user",
      "INSERT INTO users (tenant_id, email, name) VALUES ($1, $2, $3) RETURNING id, updated_at",
      [tenant, `${this.#random.uuid()}@team.test`, name],
    );
    return String(expectOne(rows, "new user").id);
  }

  async #insertMember(tenant: number, project: string, user: string): Promise<void> {
    await this.#query(
      "insert_member",
      "INSERT INTO project_members (tenant_id, project_id, user_id) VALUES ($1, $2, $3)",
      [tenant, project, user],
    );
  }

  #addTask: Operation = async (intend) => {
    const team = this.#pick("teams");
    if (!team) return;
    const { tenant, project, owner } = team.ids;
    const title = `team ${this.#random.uuid()}`;
    intend(this.#intent("tasks", title, { tenant, revision: 0, lines: 1 }));
    // Some go out of line, and changes leave them alone.
    const body = this.#random.below(5) === 0 ? longText(this.#random) : "as usual";
    await this.session.transaction(async () => {
      const { rows } = await this.#query(
        "insert_task",
        `INSERT INTO tasks (tenant_id, project_id, assignee_id, title, body, estimate, due_on, labels)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7) RETURNING id, state, created_at`,
        [tenant, project, owner, title, body, "2026-03-01", ["a", "b, c"]],
      );
      const id = String(expectOne(rows, "new task").id);
      await this.#query(
        "insert_comment",
        "INSERT INTO comments (tenant_id, task_id, author_id, body) VALUES ($1, $2, $3, $4) RETURNING id",
        [tenant, id, owner, "first!"],
      );
      this.#ids.set(title, { tenant, id, project, owner });
    });
  };

  #changeTask: Operation = async (intend) => {
    const task = this.#pick("tasks");
    if (!task) return;
    const { tenant, id } = task.ids;
    const revision = task.state.revision + 1;
    intend(this.#intent("tasks", task.key, { ...task.state, revision }));
    const isById = this.#random.below(2) === 0;
    const { rows } = isById
      ? await this.#query(
          "change_task_by_id",
          "UPDATE tasks SET estimate = estimate + 1 WHERE id = $1 RETURNING estimate, updated_at",
          [id],
        )
      : await this.#query(
          "change_task",
          `UPDATE tasks SET estimate = estimate + 1, state = 'doing'
           WHERE tenant_id = $1 AND id = $2 RETURNING estimate, updated_at`,
          [tenant, id],
        );
    expectRevision(rows, revision);
  };

  #attachFile: Operation = async (intend) => {
    const task = this.#pick("tasks");
    if (!task) return;
    const { tenant, id } = task.ids;
    intend(this.#intent("tasks", task.key, { ...task.state, lines: task.state.lines + 1 }));
    const { rows } = await this.#query(
      "insert_attachment",
      `INSERT INTO attachments (tenant_id, task_id, file_name, content)
       VALUES ($1, $2, $3, $4) RETURNING id, checksum`,
      [tenant, id, "notes.txt", Buffer.from(task.key)],
    );
    expectOne(rows, "new attachment");
  };

  #deleteTask: Operation = async (intend) => {
    const task = this.#pick("tasks");
    if (!task || this.#history.present("tasks").length < KEPT_TASKS) return;
    intend(this.#intent("tasks", task.key, null));
    const isById = this.#random.below(2) === 0;
    const { rowCount } = isById
      ? await this.#query("delete_task_by_id", "DELETE FROM tasks WHERE id = $1", [task.ids.id])
      : await this.#query("delete_task", "DELETE FROM tasks WHERE tenant_id = $1 AND id = $2", [
          ...[task.ids.tenant, task.ids.id],
        ]);
    if (rowCount !== 1) throw new Stale(`${rowCount} tasks deleted instead of one`);
  };

  #note: Operation = async (intend) => {
    const key = this.#random.uuid();
    const tenant = 1 + this.#random.below(this.#options.script.tenants);
    intend(this.#intent("notes", key, { tenant, revision: 0, lines: 0 }));
    const { rows } = await this.#query(
      "insert_note",
      "INSERT INTO audit_log (tenant_id, action, detail) VALUES ($1, 'note', $2) RETURNING id",
      [tenant, JSON.stringify({ key })],
    );
    const id = String(expectOne(rows, "new note").id);
    this.#ids.set(key, { tenant, id, project: "", owner: "" });
  };

  /** To another tenant, so to another shard as often as not. */
  #moveNote: Operation = async (intend) => {
    const note = this.#pick("notes");
    if (!note) return;
    const from = note.state.tenant;
    const to = 1 + this.#random.below(this.#options.script.tenants);
    if (to === from) return;
    intend(this.#intent("notes", note.key, { ...note.state, tenant: to }));
    await this.session.transaction(async () => {
      const { rowCount } = await this.#query(
        "move_note",
        "UPDATE audit_log SET tenant_id = $1 WHERE tenant_id = $2 AND id = $3",
        [to, from, note.ids.id],
      );
      if (rowCount !== 1) throw new Stale(`${rowCount} notes moved instead of one`);
    });
  };

  #readTask: Operation = async () => {
    const task = this.#pick("tasks");
    if (!task) return;
    const { rows } = await this.#query(
      "read_task",
      `SELECT t.estimate, p.name FROM tasks t JOIN projects p ON p.id = t.project_id
       WHERE t.tenant_id = $1 AND t.id = $2`,
      [task.ids.tenant, task.ids.id],
    );
    expectRevision(rows, task.state.revision);
  };
}

function expectRevision(rows: readonly Record<string, unknown>[], revision: number): void {
  const { estimate } = expectOne(rows, "own task");
  if (Number(estimate) !== revision)
    throw new Stale(`task is at ${String(estimate)}, and was told to be at ${revision}`);
}

function longText(random: Random): string {
  return Array.from({ length: 100 }, () => random.uuid()).join("");
}
