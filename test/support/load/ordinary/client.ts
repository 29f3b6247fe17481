import { createRandom, type Random } from "../random.js";
import { type LoadAddress, LoadSession, type Rows, Stale } from "../session.js";
import { type Known, LedgerBook } from "./ledger.js";
import {
  PROTOCOLS,
  type Protocol,
  type Script,
  type Statement,
  type Turn,
  toQuery,
} from "./script.js";

export interface ScriptClientOptions {
  readonly addresses: readonly LoadAddress[];
  /** How many there are: numbers that they draw do not meet. */
  readonly clients: number;
  readonly seed: number;
  /** Which load this is on the same tables, from 0: their rows do not meet. */
  readonly round: number;
  readonly script: Script;
  /** Who has tasks: few, and every other turn is theirs. With others most statements meet no row. */
  readonly busyTenants: readonly number[];
  /** Pause between two steps, ms. */
  readonly thinkMs: number;
}

/** Remainders of `n` that load.sql looks at divide this. */
const REMAINDERS = 2_000;
/** So many turns of so many clients stay within an integer, which `n % 10` is, and more than an hour has. */
const TURNS_A_ROUND = 10_000;

/** Does what load.sql does, in one of the protocols, and remembers every answer. */
export class ScriptClient {
  readonly session: LoadSession;
  readonly #client: number;
  readonly #options: ScriptClientOptions;
  readonly #protocol: Protocol;
  readonly #random: Random;
  readonly #book = new LedgerBook();
  #turns: number;

  constructor(client: number, options: ScriptClientOptions) {
    this.session = new LoadSession({ client, addresses: options.addresses });
    this.#client = client;
    this.#options = options;
    this.#protocol = PROTOCOLS[client % PROTOCOLS.length] ?? "simple";
    this.#turns = options.round * TURNS_A_ROUND;
    this.#random = createRandom(options.seed * 1_000 + client);
  }

  snapshot(): Known {
    return { kind: "script", ledger: this.#book.snapshot() };
  }

  /** One turn of load.sql, to its end. */
  async once(): Promise<void> {
    const turn = this.#nextTurn();
    for (const step of this.#options.script.steps) {
      await this.#step(step, turn);
      await new Promise((resolve) =>
        setTimeout(resolve, this.#options.thinkMs * (0.5 + this.#random.next())),
      );
    }
  }

  /** No number comes twice, over all clients: a row of this turn is nobody else's. */
  #nextTurn(): Turn {
    const { clients, script, busyTenants } = this.#options;
    const turn = this.#turns++;
    const at = turn * clients + this.#client;
    const anyTenant = 1 + this.#random.below(script.tenants);
    return {
      tenant: (turn % 2 === 0 ? this.#random.pick(busyTenants) : undefined) ?? anyTenant,
      n: at * REMAINDERS + this.#random.below(REMAINDERS),
    };
  }

  async #step(step: readonly Statement[], turn: Turn): Promise<void> {
    const name = step.map(({ kind }) => kind).join(", ");
    await this.session.attempt(`${name} (${this.#protocol})`, async (intend) => {
      const sentAtMs = Date.now();
      const answers = new Map<Statement, number>();
      for (const statement of step)
        if (LedgerBook.remembers(statement.kind))
          intend({
            note: (outcome) => {
              const rows = answers.get(statement) ?? null;
              // The clock of the servers is ours, and finer.
              const answeredAtMs = Date.now() + 1;
              this.#book.note(statement.kind, turn, { outcome, rows, sentAtMs, answeredAtMs });
            },
          });
      const run = async () => {
        for (const statement of step) {
          const answer = await this.session.query(toQuery(statement, turn, this.#protocol));
          answers.set(statement, answer.rowCount ?? 0);
          if (statement.kind === "list tasks") this.#expectOwnWrites(answer, turn);
        }
      };
      await (step.length > 1 ? this.session.transaction(run) : run());
    });
  }

  #expectOwnWrites({ rows }: Rows, { tenant }: Turn): void {
    const ids = rows.map(({ id }) => BigInt(String(id)));
    if (ids.some((id, at) => at > 0 && id >= (ids[at - 1] ?? 0n)) || ids.length > 10)
      throw new Stale(`${ids.length} open tasks, not the ten newest in order`);
    const finished = ids.find((id) => this.#book.hasFinished(tenant, id));
    if (finished !== undefined) throw new Stale(`task ${finished} is open after it was finished`);
  }
}
