import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { builtLauncher } from "../../support/built.js";
import { runSluice } from "../../support/node.js";

let folder: string;

beforeAll(async () => {
  await builtLauncher();
  folder = mkdtempSync(join(tmpdir(), "sluice-cli-"));
}, 240_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const DATABASE = '[[databases]]\nname = "prod"\nhost = "127.0.0.1"\nport = 1\n';
const USER = '[[users]]\nname = "app"\ndatabase = "prod"\n';

function filesIn(name: string, pgdog: string, users = USER): string {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, "pgdog.toml"), pgdog);
  writeFileSync(join(path, "users.toml"), users);
  return path;
}

describe("the command line", () => {
  it("knows its version, that of package.json", async () => {
    const { version } = JSON.parse(
      readFileSync(new URL("../../../package.json", import.meta.url), "utf8"),
    ) as { version: string };
    expect((await runSluice(["--version"])).stdout.trim()).toBe(version);
  });

  it("finds the files in the working directory", async () => {
    const cwd = filesIn("good", DATABASE);
    const { code, stdout } = await runSluice(["configcheck"], { cwd });
    expect(stdout).toContain("configuration is valid: databases prod; 1 users");
    expect(code).toBe(0);
  });

  it.each(["run", "configcheck"])("%s: says file, line and key of a mistake", async (command) => {
    const cwd = filesIn(`broken-${command}`, `[general]\nport = "many"\n${DATABASE}`);
    const { code, stderr } = await runSluice([command], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/pgdog\.toml:2: .*port/);
    expect(stderr).toContain("hint:");
    expect(stderr).not.toContain("    at ");
  });

  it("says where TOML itself is broken", async () => {
    const cwd = filesIn("toml", DATABASE, "[[users]]\nname = \n");
    const { code, stderr } = await runSluice(["run"], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/users\.toml:2/);
  });

  it("says that a file is missing", async () => {
    const { code, stderr } = await runSluice(["run", "--config", join(folder, "none.toml")]);
    expect(code).toBe(1);
    expect(stderr).toContain("none.toml");
    expect(stderr).not.toContain("    at ");
  });

  it("says that its port is taken, and leaves nothing running", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const address = taken.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const cwd = filesIn("taken", `[general]\nhost = "127.0.0.1"\nport = ${port}\n${DATABASE}`);
    const { code, stderr } = await runSluice(["run"], { cwd });
    expect(code).toBe(1);
    expect(stderr).toContain("EADDRINUSE");
    taken.close();
  });

  it("shows a dry run whose servers are silent as an error, without a stack", async () => {
    const cwd = filesIn(
      "plan",
      `${DATABASE}${DATABASE.replace("prod", "dst")}`,
      USER + USER.replace("prod", "dst"),
    );
    const plan = ["migrate", "plan", "--from", "prod", "--to", "dst", "--publication", "p"];
    for (const flags of [[], ["--all"]]) {
      const { code, stdout } = await runSluice([...plan, ...flags], { cwd });
      expect(code).toBe(1);
      expect(stdout).toMatch(/ERROR\s+servers/);
      expect(stdout).toContain("the migration cannot be started");
    }
    const { code, stdout } = await runSluice([...plan, "--json"], { cwd });
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, spec: null });
  });

  it("refuses a task id that is none", async () => {
    const { code, stderr } = await runSluice(["migrate", "cutover", "soon"]);
    expect(code).toBe(1);
    expect(stderr).toContain("A task id is a whole number.");
  });
});
