import type { Database } from "../../topology/topology.js";
import type { FromDataPlane } from "../channel.js";
import { HoldGivenUp } from "../session-errors.js";

const TIMEOUT_MS = 15_000;

interface Question {
  readonly answered: Promise<void>;
  readonly answer: () => void;
}

/** Questions to the main process about databases whose gate refused: however many ask, one at a time for each. */
export class Refreshes {
  readonly #send: (message: FromDataPlane) => void;
  readonly #questions = new Map<string, Question>();

  constructor(send: (message: FromDataPlane) => void) {
    this.#send = send;
  }

  /**
   * Resolves when decisions were read again; what came of them has been told before.
   * @throws HoldGivenUp when nobody answers
   */
  async ask({ name, epoch }: Pick<Database, "name" | "epoch">): Promise<void> {
    const { answered } = this.#questions.get(name) ?? this.#begin(name, epoch);
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new HoldGivenUp(name, "its tables are closed and nobody says where they are")),
        TIMEOUT_MS,
      );
    });
    try {
      await Promise.race([answered, tooLate]);
    } finally {
      clearTimeout(timer);
      this.#questions.delete(name);
    }
  }

  answered(database: string): void {
    this.#questions.get(database)?.answer();
  }

  #begin(name: string, epoch: number): Question {
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const question = { answered, answer };
    this.#questions.set(name, question);
    this.#send({ kind: "stale", database: name, epoch });
    return question;
  }
}
