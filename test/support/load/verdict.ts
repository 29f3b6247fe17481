export interface Judgement {
  /** Acknowledged writes that the tables do not show. */
  readonly lost: number;
  /** Writes that the tables show more often than they were made. */
  readonly doubled: number;
  /** One sentence for each, at most `MAX_FINDINGS`. */
  readonly findings: readonly string[];
}

const MAX_FINDINGS = 20;

/** Counts what is wrong, and keeps the first stories. */
export class Verdict {
  #lost = 0;
  #doubled = 0;
  readonly #findings: string[] = [];

  lost(story: string, count = 1): void {
    this.#lost += count;
    this.#find(`lost: ${story}`);
  }

  doubled(story: string, count = 1): void {
    this.#doubled += count;
    this.#find(`doubled: ${story}`);
  }

  result(): Judgement {
    return { lost: this.#lost, doubled: this.#doubled, findings: this.#findings };
  }

  #find(story: string): void {
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(story);
  }
}
