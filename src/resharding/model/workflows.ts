import type {
  CopyTableInput,
  CutoverInput,
  CutoverResult,
  ReplicateInput,
  ReplicateResult,
  ReshardInput,
  ReshardResult,
  SchemaSyncInput,
} from "./tasks.js";

/**
 * Signatures of the workflows that others start, by their registered names: who starts one needs to know no
 * more of it, so that no family imports one above its own.
 */
export interface Workflows {
  reshard(input: ReshardInput): Promise<ReshardResult>;
  /** Ranges copied. */
  copyTable(input: CopyTableInput): Promise<number>;
  replicate(input: ReplicateInput): Promise<ReplicateResult>;
  cutover(input: CutoverInput): Promise<CutoverResult>;
  /** Statements run or found done. */
  schemaSync(input: SchemaSyncInput): Promise<number>;
}
