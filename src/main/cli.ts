import { Command, InvalidArgumentError } from "commander";
import { VERSION } from "../admin/version.js";
import type { ConfigPaths } from "../config/read-config.js";
import { COMMAND_ORDERS, COMMANDS } from "../resharding/model/orders.js";
import { reportFailure } from "./cli/failure-report.js";

interface FileOptions {
  readonly config: string;
  readonly users: string;
  readonly sluice?: string;
}

interface MigrationOptions extends FileOptions {
  readonly from: string;
  readonly to: string;
  readonly publication: string;
}

const program = new Command("sluice")
  .description("A PostgreSQL proxy that reshards a live database while applications keep using it.")
  .version(VERSION)
  .showHelpAfterError();

withFiles(program.command("run"))
  .description("run one proxy node until SIGTERM; SIGHUP reloads the files")
  .action((options: FileOptions) =>
    act(async () => {
      const { runNode } = await import("./run-node.js");
      return await runNode(pathsOf(options));
    }),
  );

withFiles(program.command("configcheck"))
  .description("read all files and say what is wrong with them")
  .action((options: FileOptions) =>
    act(async () => {
      const { readConfig } = await import("../config/read-config.js");
      const { warnings, databases, users } = readConfig(pathsOf(options));
      for (const warning of warnings) process.stdout.write(`warning: ${warning}\n`);
      const names = [...new Set(databases.map((database) => database.name))].join(", ");
      process.stdout.write(`configuration is valid: databases ${names}; ${users.length} users\n`);
      return 0;
    }),
  );

const migrate = program
  .command("migrate")
  .description("plan, start and steer migrations from a shell, by Temporal");

withMigration(migrate.command("plan"))
  .description(
    "dry run of every check: what moves, what is changed and put back, what is otherwise",
  )
  .option("--all", "every finding with its evidence and remedy, also of checks that are fine")
  .option("--json", "the same as JSON")
  .action((options: MigrationOptions & { all?: boolean; json?: boolean }) =>
    act(async () => {
      const { planMigration } = await import("./cli/migrate-plan.js");
      return await planMigration(pathsOf(options), options);
    }),
  );

withMigration(migrate.command("start"))
  .description("start a migration")
  .option("--manual-cutover", "wait for `sluice migrate cutover` before switching (COPY_DATA)")
  .option("--watch", "show progress until it ends")
  .action((options: MigrationOptions & { manualCutover?: boolean; watch?: boolean }) =>
    act(async () => {
      const paths = pathsOf(options);
      const { startMigration } = await migrateCommands();
      const started = await startMigration(paths, {
        ...options,
        isAutomatic: options.manualCutover !== true,
      });
      return options.watch === true ? await watch(paths, started) : 0;
    }),
  );

withFiles(migrate.command("status"))
  .description("all tasks, or one in detail")
  .argument("[task]", "task id of SHOW TASKS", taskId)
  .action((id: number | undefined, options: FileOptions) =>
    act(async () => await (await migrateCommands()).showTasks(pathsOf(options), id ?? null)),
  );

withFiles(migrate.command("watch"))
  .description("progress bars until the task ends")
  .argument("<task>", "task id", taskId)
  .action((id: number, options: FileOptions) => act(async () => await watch(pathsOf(options), id)));

for (const order of COMMANDS)
  withFiles(migrate.command(order))
    .description(COMMAND_ORDERS[order].text)
    .argument("<task>", "task id", taskId)
    .action((id: number, options: FileOptions) =>
      act(async () => await (await migrateCommands()).orderTask(pathsOf(options), order, id)),
    );

withFiles(migrate.command("report"))
  .description("the last switch of a task as JSON: pause and milliseconds of each step")
  .argument("<task>", "task id", taskId)
  .action((id: number, options: FileOptions) =>
    act(async () => await (await migrateCommands()).reportTask(pathsOf(options), id)),
  );

withFiles(migrate.command("evidence"))
  .description("the rows that a task stopped at, straight from the databases; shows their text")
  .argument("[task]", "task id; none: all tasks, and Temporal is not asked", taskId)
  .action((id: number | undefined, options: FileOptions) =>
    act(async () => {
      const { showEvidence } = await import("./cli/migrate-evidence.js");
      return await showEvidence(pathsOf(options), id ?? null);
    }),
  );

withMigration(program.command("schema-sync"))
  .description("bring the schema over, as SCHEMA_SYNC does")
  .option("--data-sync-complete", "the phase after the copy: indexes, foreign keys, triggers")
  .option("--cutover", "the phase of the cutover: sequences")
  .action((options: MigrationOptions & { dataSyncComplete?: boolean; cutover?: boolean }) =>
    act(async () => {
      const phase =
        options.cutover === true ? "cutover" : options.dataSyncComplete === true ? "post" : "pre";
      const { startSchemaSync } = await migrateCommands();
      return await startSchemaSync(pathsOf(options), { ...options, phase });
    }),
  );

withFiles(program.command("verify"))
  .description("compare the shards of a database with each other; exit code 1 where they differ")
  .argument("<database>", "as pgdog.toml names it")
  .requiredOption("--omnisharded", "the tables that are the same on every shard")
  .action((database: string, options: FileOptions) =>
    act(async () => {
      const { verifyOmnisharded } = await import("./cli/omnisharded-commands.js");
      return await verifyOmnisharded(pathsOf(options), database);
    }),
  );

const guard = program
  .command("guard")
  .description(
    "what PostgreSQL itself sees to on every shard: docs/placement.md, docs/omnisharded.md",
  );

const GUARD_ACTIONS = {
  add: "make the guards that are missing; exit code 1 where rows are on a shard that is not theirs",
  list: "every guarded table, and every sharded one without; exit code 1 where one is not guarded",
  drop: "take all guards away",
} as const;

for (const action of ["add", "list", "drop"] as const) {
  withFiles(guard.command(action))
    .description(GUARD_ACTIONS[action])
    .argument("<database>", "as pgdog.toml names it")
    .action((database: string, options: FileOptions) =>
      act(async () => {
        const { guardDatabase } = await import("./cli/guard-commands.js");
        return await guardDatabase(pathsOf(options), database, action);
      }),
    );
}

await program.parseAsync();

/** Loaded when they are needed: Temporal's client takes longer to load than most commands to run. */
async function migrateCommands() {
  return await import("./cli/migrate-commands.js");
}

async function watch(paths: ConfigPaths, task: number): Promise<number> {
  const { watchMigration } = await import("./cli/migrate-watch.js");
  return await watchMigration(paths, task);
}

function withFiles(command: Command): Command {
  return command
    .option("-c, --config <file>", "pgdog.toml", "pgdog.toml")
    .option("-u, --users <file>", "users.toml", "users.toml")
    .option("--sluice <file>", "sluice.toml (default: beside pgdog.toml, if it is there)");
}

function withMigration(command: Command): Command {
  return withFiles(command)
    .requiredOption("--from <database>", "source, as pgdog.toml names it")
    .requiredOption("--to <database>", "destination, as pgdog.toml names it")
    .requiredOption("--publication <name>", "publication on the source that names the tables");
}

function pathsOf(options: FileOptions): ConfigPaths {
  return {
    configPath: options.config,
    usersPath: options.users,
    sluicePath: options.sluice ?? null,
    env: process.env,
  };
}

function taskId(text: string): number {
  if (!/^\d{1,15}$/u.test(text)) throw new InvalidArgumentError("A task id is a whole number.");
  return Number(text);
}

async function act(action: () => Promise<number>): Promise<void> {
  try {
    exitWith(await action());
  } catch (error) {
    exitWith(reportFailure(error));
  }
}

/** Ends at once: what a command leaves open (a gRPC channel, a pool) must not keep a shell waiting. */
function exitWith(code: number): void {
  process.exit(code);
}
