import pg from "pg";
import type { Stack } from "../support/stack.js";
import type { Clients } from "./clients.js";
import { describeLoad, isJudgedWell } from "./report.js";

/** Clients work while somebody else gives the orders, until `ended`. @returns whether all is as promised */
export async function byHand(
  stack: Stack,
  clients: Clients,
  ended: Promise<unknown>,
): Promise<boolean> {
  await clients.start();
  try {
    await ended;
  } finally {
    await clients.rest();
  }
  const side = await servingSide(stack);
  const load = clients.report();
  const judgement = await clients.judge(side);
  process.stdout.write(`\n${side === "shards" ? "the shards serve" : "the source serves"}\n`);
  for (const line of describeLoad(load, judgement)) process.stdout.write(`${line}\n`);
  return isJudgedWell(load, judgement);
}

/** Asked as a client of the application would: which server answers. */
async function servingSide(stack: Stack): Promise<"source" | "shards"> {
  const client = new pg.Client({ ...stack.addresses[0] });
  await client.connect();
  try {
    const { rows } = await client.query<{ port: number }>("SELECT inet_server_port() AS port");
    return rows[0]?.port === stack.cluster.source.port ? "source" : "shards";
  } finally {
    await client.end();
  }
}
