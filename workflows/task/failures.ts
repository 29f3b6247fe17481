import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  TimeoutFailure,
} from "@temporalio/workflow";

/** What is known about a failure, for people and for decisions; classified by type, never by message. */
export interface Failure {
  /** An ErrorCode of ours, an SQLSTATE, or one of the codes below. */
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** Reads what activities/failure.ts wrote. */
export function failureOf(error: unknown): Failure {
  const cause = causeOf(error);
  if (cause instanceof ApplicationFailure) {
    const [details] = cause.details ?? [];
    return {
      code: cause.type ?? "UNKNOWN",
      message: withDetail(cause.message, textOf(details, "detail")),
      hint: textOf(details, "hint"),
    };
  }
  if (cause instanceof TimeoutFailure) {
    const kind = cause.timeoutType ?? "UNKNOWN";
    return {
      code: `TIMEOUT_${kind}`,
      message: `no answer in time (${kind.toLowerCase().replaceAll("_", " ")})`,
      hint: "Is the process that runs this step up? `temporal task-queue describe` lists pollers.",
    };
  }
  return {
    code: "UNKNOWN",
    message: cause instanceof Error ? cause.message : String(cause),
    hint: "",
  };
}

/** One line for a status column. */
export function describeFailure(error: unknown): string {
  return failureOf(error).message;
}

function causeOf(error: unknown): unknown {
  const isWrapper = error instanceof ActivityFailure || error instanceof ChildWorkflowFailure;
  return isWrapper && error.cause !== undefined ? causeOf(error.cause) : error;
}

function withDetail(message: string, detail: string): string {
  return detail === "" ? message : `${message}: ${detail}`;
}

function textOf(details: unknown, key: string): string {
  if (typeof details !== "object" || details === null) return "";
  const value: unknown = (details as Readonly<Record<string, unknown>>)[key];
  return typeof value === "string" ? value : "";
}
