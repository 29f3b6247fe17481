import { assertNever } from "../core/assert.js";
import { DatabaseUnknown, type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import { tell } from "../core/tell.js";
import type { AdminResult } from "../proxy/channel.js";
import { type Command, parseCommand } from "./command.js";
import type { AdminHost } from "./host.js";
import { changeOf } from "./settings.js";
import { show } from "./show.js";
import { checkReplicate, checkTask } from "./task-check.js";
import { PARSER_POSTGRES_VERSION } from "./version.js";

/** A command of PgDog that this version does not have. */
class CommandUnsupported extends SluiceError {
  readonly code = "SLUICE_COMMAND_UNSUPPORTED";
  readonly sqlState = SQLSTATE.featureNotSupported;
  readonly recovery = "never";
}

/** UNFENCE without its confirmation. */
class ConfirmationMissing extends SluiceError {
  readonly code = "SLUICE_CONFIRMATION_MISSING";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(database: string, fields: ErrorFields = {}) {
    super(`UNFENCE lets applications write to the old side of "${database}" again`, fields);
  }
}

/** The admin database of one node. Runs in its main process; data planes forward statements to it. */
export class AdminExecutor {
  readonly #host: AdminHost;

  constructor(host: AdminHost) {
    this.#host = host;
  }

  /** Answers every statement, failures included, and never throws: an error leaves the connection open. */
  async execute(user: string, sql: string): Promise<AdminResult> {
    try {
      return await this.#run(user, parseCommand(sql));
    } catch (error) {
      return this.#failure(error);
    }
  }

  async #run(user: string, command: Command): Promise<AdminResult> {
    const host = this.#host;
    switch (command.kind) {
      case "empty":
        return done("");
      case "show":
        // Who has looked at rows is worth a line; what they saw is not told.
        if (command.what === "evidence") this.#audit(user, "show evidence");
        return await show(host, command);
      case "showSetting":
        return setting(command.name);
      case "startTask":
      case "schemaSync":
        this.#audit(user, command.kind === "startTask" ? command.task : "schema_sync");
        return await this.#start(command);
      case "cutover":
      case "stopTask":
        this.#audit(user, command.kind);
        return await this.#steer(command);
      case "maintenance":
        this.#audit(user, command.isOn ? "maintenance on" : "maintenance off");
        this.#refuseUnknown(command.database);
        host.maintenance(command.isOn, command.database);
        return done(`MAINTENANCE ${command.isOn ? "ON" : "OFF"}`);
      case "pause":
        this.#refuseUnknown(command.database);
        host.pause(command);
        return done(command.isPaused ? "PAUSE" : "RESUME");
      case "reload":
      case "reconnect":
      case "shutdown":
        this.#audit(user, command.kind);
        return await this.#node(command.kind);
      case "set":
        return await this.#set(command.name, command.value);
      case "resolveCutover":
        this.#audit(user, "resolve cutover");
        this.#refuseUnknown(command.database);
        return done("RESOLVE CUTOVER", await host.resolveCutover(command.database));
      case "unfence":
        this.#audit(user, "unfence");
        return await this.#unfence(command.database, command.isConfirmed);
      case "unsupported":
        throw new CommandUnsupported(`${command.name} is not supported by this version`);
      default:
        return assertNever(command, "admin command");
    }
  }

  async #start(
    command: Extract<Command, { kind: "startTask" | "schemaSync" }>,
  ): Promise<AdminResult> {
    const { source, destination, publication, slot } = command;
    await checkTask(this.#host.config(), command);
    if (command.kind === "startTask" && command.task === "replicate")
      await checkReplicate(this.#host.config(), command);
    const names = { source, destination, publication };
    const started = await this.#host.tasks.start(
      command.kind === "schemaSync"
        ? { kind: "schema_sync", ...names, phase: command.phase }
        : { kind: command.task, ...names, slot },
    );
    const tag = command.kind === "schemaSync" ? `SCHEMA_SYNC ${command.phase}` : command.task;
    const row = {
      task_id: String(started.taskId),
      ...(tag === "copy_data" ? { replication_slot: started.replicationSlot } : {}),
    };
    return textRow(tag.toUpperCase(), row, [`Temporal workflow id: ${started.workflowId}`]);
  }

  async #steer(command: Extract<Command, { kind: "cutover" | "stopTask" }>): Promise<AdminResult> {
    if (command.kind === "stopTask") {
      const outcome = await this.#host.tasks.stop(command.taskId);
      return textRow("STOP_TASK", { stop_task: outcome });
    }
    const { taskId, workflowId } = await this.#host.tasks.cutover(command.taskId);
    const notices = [`task ${taskId}, Temporal workflow id: ${workflowId}`];
    return textRow("CUTOVER", { cutover: "OK" }, notices);
  }

  async #node(kind: "reload" | "reconnect" | "shutdown"): Promise<AdminResult> {
    if (kind === "reload") await this.#host.reload();
    else if (kind === "reconnect") this.#host.reconnect();
    else this.#host.shutdown();
    return done(kind.toUpperCase());
  }

  async #set(name: string, value: string): Promise<AdminResult> {
    const { edit, notice } = changeOf(name, value);
    if (edit !== null) await this.#host.change(edit);
    return done("SET", notice === null ? [] : [notice]);
  }

  async #unfence(database: string, isConfirmed: boolean): Promise<AdminResult> {
    if (!isConfirmed)
      throw new ConfirmationMissing(database, {
        detail:
          "The fence is what keeps a forgotten client or node from writing where nobody reads.",
        hint: `If nothing uses it any more: UNFENCE "${database}" CONFIRM`,
      });
    return done("UNFENCE", await this.#host.unfence(database));
  }

  /** A typing mistake at night must not look like a thing done. What a reload took away can still be let go. */
  #refuseUnknown(database: string | null): void {
    const names = [...this.#host.config().databases, ...this.#host.maintenanceFlags()].map((one) =>
      "name" in one ? one.name : one.database,
    );
    if (database !== null && !names.includes(database)) throw new DatabaseUnknown(database);
  }

  #audit(user: string, command: string): void {
    this.#host.log.info("admin command", { user, command });
  }

  #failure(error: unknown): AdminResult {
    if (error instanceof SluiceError) return failure(error.sqlState, error.message, error);
    const message = tell(error);
    this.#host.log.error("admin command failed", { error: message });
    return failure(SQLSTATE.internalError, message, {});
  }
}

function setting(name: string): AdminResult {
  const value = name.toLowerCase() === "server_version" ? PARSER_POSTGRES_VERSION : "";
  return textRow("SHOW", { [name]: value });
}

function textRow(
  tag: string,
  values: Readonly<Record<string, string | null>>,
  notices: readonly string[] = [],
): AdminResult {
  return {
    kind: "rows",
    columns: Object.keys(values).map((name) => ({ name, type: "text" })),
    rows: [Object.values(values)],
    tag,
    ...(notices.length === 0 ? {} : { notices }),
  };
}

function done(tag: string, notices: readonly string[] = []): AdminResult {
  return { kind: "done", tag, ...(notices.length === 0 ? {} : { notices }) };
}

function failure(
  sqlState: string,
  message: string,
  { detail, hint }: { readonly detail?: string | undefined; readonly hint?: string | undefined },
): AdminResult {
  return { kind: "error", sqlState, message, detail: detail ?? null, hint: hint ?? null };
}
