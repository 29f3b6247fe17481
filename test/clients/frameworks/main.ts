// `npm run test:clients -- frameworks [NAME ...]`: each framework makes its own database, which is resharded as it is,
// and then does on shards what it does on one PostgreSQL: every step's result is compared.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { untilFinished, untilReverseTask, untilSwitched } from "../../demo/tasks.js";
import type { Application } from "../../support/application.js";
import type { PostgresServer } from "../../support/postgres.js";
import { type Stack, startStack } from "../../support/stack.js";
import { FRAMEWORKS, type Framework, type Phase } from "./frameworks.js";
import type { Installed } from "./install.js";

/** One line of a framework's script. */
interface Step {
  readonly step: string;
  readonly result?: unknown;
  readonly error?: string;
  readonly message?: string;
}

interface Where {
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

const PLAIN = "plain";
const STEP_MS = 120_000;
const outcome = { passed: 0, failed: [] as string[] };

function check(name: string, problem: string | null): void {
  if (problem === null) outcome.passed++;
  else outcome.failed.push(`${name}: ${problem}`);
  process.stdout.write(`${problem === null ? "ok  " : "FAIL"} ${name}\n`);
  if (problem !== null) process.stdout.write(`     ${problem.replaceAll("\n", "\n     ")}\n`);
}

class Client {
  readonly #framework: Framework;
  readonly #installed: Installed;

  constructor(framework: Framework, installed: Installed) {
    this.#framework = framework;
    this.#installed = installed;
  }

  /** @returns what the scripts wrote. @throws Error when one did not end well */
  async run(phase: Phase, where: Where): Promise<readonly Step[]> {
    const version = phase === "migrate" || phase === "second" ? "2" : "1";
    const lines: string[] = [];
    for (const args of this.#framework.phases[phase]) {
      const { folder, env } = this.#installed;
      const child = spawn(this.#framework.program, [...args], {
        cwd: folder,
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          ...env,
          APP_VERSION: version,
          PGHOST: "127.0.0.1",
          PGPORT: String(where.port),
          PGDATABASE: where.database,
          PGUSER: where.user,
          PGPASSWORD: where.password,
        },
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        stderr += text;
      });
      const [code] = (await once(child, "close")) as [number | null];
      if (code !== 0)
        throw new Error(`${args.join(" ")} ended with ${code}\n${stderr.slice(-2_000)}`);
      lines.push(...stdout.split("\n").filter((line) => line.startsWith("{")));
    }
    return lines.map((line) => JSON.parse(line) as Step);
  }
}

function application(framework: Framework, client: Client): Application {
  return {
    publication: "all_tables",
    tables: [],
    shardedTables: [{ name: framework.tenants, column: "id" }, { column: "tenant_id" }],
    sentinel: { insert: () => "", from: () => "" },
    seed: async (server, database) => {
      const where = straight(server, database);
      await client.run("create", where);
      await client.run("seed", where);
      // What the framework is compared with afterwards, before anything of a migration is in it.
      await server.sql("postgres", `CREATE DATABASE ${PLAIN} TEMPLATE ${database}`);
      await server.sql(database, "CREATE PUBLICATION all_tables FOR ALL TABLES");
      return {};
    },
  };
}

function straight(server: PostgresServer, database: string): Where {
  return { port: server.port, database, user: "postgres", password: "none" };
}

async function compare(framework: Framework, stack: Stack, client: Client, phase: Phase) {
  const expected = await client.run(phase, straight(stack.cluster.source, PLAIN));
  const through = { ...(stack.addresses[0] ?? { port: 0, database: "" }), ...OWNER };
  const actual = new Map((await client.run(phase, through)).map((one) => [one.step, one]));
  for (const one of expected) {
    const name = `${framework.name} ${one.step}`;
    if (one.error !== undefined) check(name, `fails on one PostgreSQL: ${shown(one)}`);
    else check(name, difference(one, actual.get(one.step), framework.refused[one.step]));
  }
}

/** Migrations make tables: not the application's role, which may not. */
const OWNER = { user: "owner", password: "owner-password" };

function difference(
  one: Step,
  other: Step | undefined,
  refused: string | undefined,
): string | null {
  if (refused !== undefined) {
    if (other?.error === refused) return null;
    return `is listed as refused with ${refused}, and gives ${shown(other)}`;
  }
  if (JSON.stringify(one.result) === JSON.stringify(other?.result)) return null;
  return `one PostgreSQL: ${shown(one)}\nshards: ${shown(other)}`;
}

function shown(step: Step | undefined): string {
  if (step === undefined) return "nothing";
  if (step.error !== undefined) return `${step.error} ${step.message ?? ""}`;
  return JSON.stringify(step.result).slice(0, 500);
}

async function test(framework: Framework): Promise<void> {
  const client = new Client(framework, framework.install());
  await using stack = await startStack({ application: application(framework, client), nodes: 1 });
  await using admin = await stack.admin();
  const [started] = await admin.run(`RESHARD ${stack.migration}`);
  await untilSwitched(admin, 0, STEP_MS);
  const { id: wayBack } = await untilReverseTask(admin, Number(started?.task_id), STEP_MS);
  check(`${framework.name}: resharded as it is`, null);
  await compare(framework, stack, client, "first");
  await admin.run(`STOP_TASK ${wayBack}`);
  await untilFinished(admin, wayBack, STEP_MS);
  await client.run("migrate", straight(stack.cluster.source, PLAIN));
  const through = { ...(stack.addresses[0] ?? { port: 0, database: "" }), ...OWNER };
  await client.run("migrate", through);
  check(`${framework.name}: migrated on shards`, null);
  await compare(framework, stack, client, "second");
}

const names = process.argv.slice(2);
for (const framework of FRAMEWORKS) {
  if (names.length > 0 && !names.includes(framework.name)) continue;
  try {
    await test(framework);
  } catch (error) {
    check(framework.name, error instanceof Error ? error.message : String(error));
  }
}
for (const failed of outcome.failed) process.stdout.write(`failed: ${failed.split("\n")[0]}\n`);
process.stdout.write(`${outcome.passed} passed, ${outcome.failed.length} failed\n`);
process.exitCode = outcome.failed.length === 0 && outcome.passed > 0 ? 0 : 1;
