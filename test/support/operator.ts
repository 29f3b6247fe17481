import { spawnSync } from "node:child_process";
import { join } from "node:path";
import pg from "pg";
import type { SluiceNode } from "./node.js";
import type { Stack } from "./stack.js";

/** What an operator has at hand: psql and the `temporal` CLI, the real ones. */
export interface Operator {
  /** One admin command. @returns rows without decoration, fields parted by "|"; notices @throws when it fails */
  psql(node: SluiceNode, sql: string): { readonly out: string; readonly notices: string };
  /** PostgreSQL's names of a command's column types, in the order of the columns. */
  typesOf(node: SluiceNode, command: string): Promise<Readonly<Record<string, string>>>;
  workflowIdOf(task: number): Promise<string>;
  /** @throws Error with the CLI's words when the order is refused */
  order(how: "update" | "signal", task: number, name: string): Promise<void>;
}

const TYPES: Readonly<Record<number, string>> = { 16: "bool", 20: "bigint", 25: "text" };

export function operatorOf(stack: Stack): Operator {
  const executable = join(stack.cluster.source.binDir, "psql");
  const workflowIdOf = async (task: number) => {
    const { output } = await stack.temporal.cli(
      ...["workflow", "list", "--query", `SluiceTask = ${task}`, "--output", "json"],
    );
    const id = /"workflowId":\s*"([^"]+)"/.exec(output)?.[1];
    if (id === undefined) throw new Error(`no workflow has the task ${task}: ${output}`);
    return id;
  };
  return {
    psql: (node, sql) => psql(executable, node, sql),
    typesOf,
    workflowIdOf,
    order: async (how, task, name) => {
      const words = how === "update" ? ["update", "execute"] : ["signal"];
      const { status, output } = await stack.temporal.cli(
        ...["workflow", ...words, "--workflow-id", await workflowIdOf(task)],
        ...["--name", name, "--input", '{"reason":"test"}'],
      );
      if (status !== 0) throw new Error(`${how} ${name}: ${output}`);
    },
  };
}

function psql(executable: string, node: SluiceNode, sql: string) {
  const { status, stdout, stderr } = spawnSync(
    executable,
    ["-X", "-A", "-t", "-F", "|", "-h", "127.0.0.1", "-p", String(node.port)].concat([
      ...["-U", "admin", "-d", "admin", "-c", sql],
    ]),
    { encoding: "utf8", env: { ...process.env, PGPASSWORD: "admin-password" }, timeout: 30_000 },
  );
  if (status !== 0) throw new Error(`${sql}: ${stderr}`);
  return { out: stdout.trim(), notices: stderr };
}

async function typesOf(node: SluiceNode, command: string) {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: node.port,
    database: "admin",
    user: "admin",
    password: "admin-password",
  });
  await client.connect();
  const { fields } = await client.query(command);
  await client.end();
  return Object.fromEntries(fields.map(({ name, dataTypeID }) => [name, TYPES[dataTypeID] ?? ""]));
}

/** A superuser's session straight to a server, to hold things up on purpose. */
export async function openSession(
  server: { readonly port: number },
  database: string,
): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: server.port,
    database,
    user: "postgres",
  });
  await client.connect();
  return client;
}
