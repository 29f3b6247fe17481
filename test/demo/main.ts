// The whole story on one machine: `npm run demo`. Real PostgreSQL, real Temporal, real nodes, real clients.
import { writeFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { compareSides } from "../support/load/compare.js";
import type { Load } from "../support/load/load.js";
import type { Known } from "../support/load/ordinary/ledger.js";
import { runSluice } from "../support/node.js";
import { type Admin, type Stack, startStack } from "../support/stack.js";
import { byHand } from "./by-hand.js";
import { clientsOf } from "./clients.js";
import { showCopy } from "./copy-progress.js";
import { untilDrained } from "./drained.js";
import { type DemoOptions, parseOptions } from "./options.js";
import { ordinary } from "./ordinary/application.js";
import { describe, inWords, isSuccess, type ObservedSwitch, toReport } from "./report.js";
import { type Task, untilFinished, untilReverseTask, untilSwitched } from "./tasks.js";

const SWITCH_TIMEOUT_MS = 120_000;
/** An operation counts to a switch when it was under way this close to the pause. */
const AROUND_SWITCH_MS = 500;
/** Clients work on undisturbed for this long between two acts. */
const BETWEEN_ACTS_MS = 3_000;
/** Of the nodes, for a person who types. */
const PORTS = [6432, 6433];
const startedAtMs = performance.now();

function say(line: string): void {
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1).padStart(6);
  process.stdout.write(`${seconds} s  ${line}\n`);
}

async function demo(options: DemoOptions, stack: Stack): Promise<boolean> {
  if (stack.temporal.uiUrl !== null) say(`Temporal UI: ${stack.temporal.uiUrl}`);
  await plan(stack);
  const clients = await clientsOf(stack, options.clients);
  say(`${options.clients} clients begin to work through ${stack.nodes.length} nodes`);
  const load = await clients.start();
  try {
    await pass(BETWEEN_ACTS_MS);
    await using admin = await stack.admin();
    const switches = await allSwitches(stack, admin, load);
    say("stopping the clients, to compare both sides at rest");
    await clients.rest();
    await untilDrained(stack);
    say("comparing both sides row by row");
    const comparison = await compareSides(stack.source, stack.shards, stack.application.tables);
    await clients.start();
    await finalize(admin, switches.at(-1)?.wayBack.id ?? 0);
    await clients.rest();
    say("judging by what each client was told");
    const judgement = await clients.judge("shards");
    const findings = { switches, load: clients.report(), judgement, comparison };
    for (const line of describe(findings)) process.stdout.write(`${line}\n`);
    if (options.report !== null)
      writeFileSync(options.report, `${JSON.stringify(toReport(findings), null, 2)}\n`);
    return isSuccess(findings);
  } finally {
    await clients.rest();
  }
}

/** Until Ctrl-C, and one more that does not wait. */
async function ordered(
  options: DemoOptions,
  stack: Stack,
  interrupted: Promise<unknown>,
): Promise<boolean> {
  const clients = await clientsOf(stack, options.clients);
  say(`${options.clients} clients work through ${stack.nodes.length} nodes`);
  howToConnect(stack);
  return await byHand(stack, clients, interrupted);
}

/** What a person would look at first. It changes nothing, and stops nothing: RESHARD checks for itself. */
async function plan(stack: Stack): Promise<void> {
  const [from = "", to = "", publication = ""] = stack.migration.split(" ");
  const args = ["migrate", "plan", "--from", from, "--to", to, "--publication", publication];
  say(`sluice ${args.join(" ")}`);
  const { stdout, stderr } = await runSluice(args, { cwd: stack.nodes[0]?.folder ?? "" });
  for (const line of `${stdout}${stderr}`.trimEnd().split("\n"))
    process.stdout.write(`  ${line}\n`);
}

/** Under load: clients are told nothing of it. */
async function finalize(admin: Admin, wayBack: number): Promise<void> {
  await pass(BETWEEN_ACTS_MS / 2);
  say(`STOP_TASK ${wayBack}: finalizing, the way back is given up`);
  await admin.run(`STOP_TASK ${wayBack}`);
  await untilFinished(admin, wayBack, SWITCH_TIMEOUT_MS);
  await pass(BETWEEN_ACTS_MS / 2);
}

type Act = ObservedSwitch & { readonly epoch: number; readonly wayBack: Task };

async function allSwitches(stack: Stack, admin: Admin, load: Load<Known>): Promise<readonly Act[]> {
  say(`RESHARD ${stack.migration}`);
  const [started] = await admin.run(`RESHARD ${stack.migration}`);
  const reshard = Number(started?.task_id);
  const totalRows = Object.values(stack.seeded).reduce((sum, rows) => sum + rows, 0);
  await showCopy(admin, reshard, totalRows);
  say("copied; catching up, verifying, and switching as soon as the predicted pause fits");
  const forward = await observe({ admin, load, direction: "forward", taskId: reshard, after: 0 });
  await pass(BETWEEN_ACTS_MS);

  say(`CUTOVER ${forward.wayBack.id}: rolling back`);
  await admin.run(`CUTOVER ${forward.wayBack.id}`);
  const taskId = forward.wayBack.id;
  const after = forward.epoch;
  const rollback = await observe({ admin, load, direction: "rollback", taskId, after });
  await pass(BETWEEN_ACTS_MS);

  say(`CUTOVER ${rollback.wayBack.id}: switching again`);
  await admin.run(`CUTOVER ${rollback.wayBack.id}`);
  const again = rollback.wayBack.id;
  const second = await observe({
    admin,
    load,
    direction: "forward",
    taskId: again,
    after: rollback.epoch,
  });
  await pass(BETWEEN_ACTS_MS);
  return [forward, rollback, second];
}

async function observe(what: {
  readonly admin: Admin;
  readonly load: Load<Known>;
  readonly direction: ObservedSwitch["direction"];
  readonly taskId: number;
  /** The epoch that serves. */
  readonly after: number;
}): Promise<Act> {
  const { admin, load, direction, taskId, after } = what;
  const switched = await untilSwitched(admin, after, SWITCH_TIMEOUT_MS);
  const { epoch, steps, pauseMs, seenAtMs } = switched;
  const wayBack = await untilReverseTask(admin, taskId, SWITCH_TIMEOUT_MS);
  // Who was held answers after the release: those answers count, too.
  await pass(AROUND_SWITCH_MS);
  const fromMs = seenAtMs - pauseMs - AROUND_SWITCH_MS;
  const latency = load.latency({ fromMs, toMs: seenAtMs + AROUND_SWITCH_MS });
  say(
    `  switched (${direction}) in ${Math.round(pauseMs)} ms, clients waited ${Math.round(latency.maxMs)} ms at most; way back: task ${wayBack.id}`,
  );
  const { errors } = load.report();
  if (errors.length > 0)
    say(`  ${errors.length} client errors until now, the last: ${inWords(errors.at(-1))}`);
  return { direction, epoch, steps, latency, wayBack };
}

/** Lets the clients work. Nothing is waited for but time itself. */
async function pass(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function howToConnect(stack: Stack): void {
  for (const [index, { port, database, user, password }] of stack.addresses.entries())
    say(
      `node ${index + 1}: psql "host=127.0.0.1 port=${port} dbname=${database} user=${user} password=${password}"`,
    );
  const [first] = stack.addresses;
  if (first)
    say(
      `admin:  psql "host=127.0.0.1 port=${first.port} dbname=admin user=admin password=admin-password"`,
    );
  say(
    `Temporal: ${stack.temporal.uiUrl ?? ""}, temporal workflow list --address ${stack.temporal.address}`,
  );
  say(`files of node 1: ${stack.nodes[0]?.folder ?? ""}`);
  say("Ctrl-C ends everything");
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === null) return;
  const interrupted = new Promise<"interrupted">((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const)
      process.once(signal, () => resolve("interrupted"));
  });
  const starting = startStack({
    application: ordinary(options.rows),
    withUi: true,
    ...(options.byHand ? { ports: PORTS } : {}),
    say,
  });
  const stack = await Promise.race([starting, interrupted]);
  if (stack === "interrupted") {
    say("cleaning up");
    // What has begun to start comes up or fails, and then goes; a second Ctrl-C does not wait.
    process.once("SIGINT", () => process.exit(130));
    await starting.then((started) => started[Symbol.asyncDispose]()).catch(() => {});
    process.exit(130);
  }
  try {
    const running = options.byHand ? ordered(options, stack, interrupted) : demo(options, stack);
    running.catch(() => {});
    const outcome = await (options.byHand ? running : Promise.race([running, interrupted]));
    if (outcome === "interrupted") {
      process.exitCode = 130;
      return;
    }
    process.exitCode = outcome ? 0 : 1;
    say(outcome ? "all as promised" : "NOT as promised, see above");
    if (options.keep && !options.byHand) {
      howToConnect(stack);
      await interrupted;
    }
  } catch (error) {
    process.exitCode = 1;
    say(error instanceof Error ? (error.stack ?? error.message) : String(error));
    for (const [index, node] of stack.nodes.entries())
      process.stderr.write(
        `--- log of node ${index + 1}, its end ---\n${node.log().slice(-4_000)}\n`,
      );
  } finally {
    say("cleaning up");
    await stack[Symbol.asyncDispose]();
  }
  process.exit();
}

await main();
