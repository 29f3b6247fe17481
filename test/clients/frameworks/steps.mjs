// Runs steps and prints what each gave, a line of JSON for each: two runs are compared by these lines.

/** @param steps functions by name, run in their order; `recover` brings the connections back after a failure */
export async function runSteps(steps, recover) {
  for (const [step, run] of Object.entries(steps)) {
    let line;
    try {
      line = { step, result: (await run()) ?? null };
    } catch (error) {
      const cause = error.code ? error : (error.cause ?? error);
      line = { step, error: cause.code ?? error.name, message: cause.message };
      await recover();
    }
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}

export const VERSION = Number(process.env.APP_VERSION ?? "2");

export const CONNECTION = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  database: process.env.PGDATABASE,
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
};
