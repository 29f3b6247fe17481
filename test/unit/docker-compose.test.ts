import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { readConfig } from "../../src/config/read-config.js";

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly healthcheck?: unknown;
}

const root = fileURLToPath(new URL("../../", import.meta.url));
const text = readFileSync(`${root}docker-compose.yml`, "utf8");
const { services } = parse(text, { merge: true }) as { services: Record<string, Service> };
const all = Object.entries(services);
const nodes = all.filter(([, service]) => service.build !== undefined);

describe("docker-compose.yml", () => {
  it("has three PostgreSQL with logical WAL, Temporal with its UI, and two nodes", () => {
    const postgres = all.filter(([, service]) => service.image?.startsWith("postgres:"));
    expect(postgres.map(([name]) => name)).toEqual(["source", "shard-0", "shard-1"]);
    for (const [, service] of postgres) expect(service.command).toContain("wal_level=logical");
    expect(services.temporal?.command).toContain("start-dev");
    expect(services.temporal?.ports?.join()).toContain("8233");
    expect(nodes.map(([name]) => name)).toEqual(["node-1", "node-2"]);
  });

  it("starts a node when what it needs is healthy, and gives each port once", () => {
    for (const [, node] of nodes)
      for (const needed of Object.keys(node.depends_on ?? {}))
        expect(services[needed]?.healthcheck).toBeDefined();
    const ports = all.flatMap(([, service]) =>
      (service.ports ?? []).map((port) => port.split(":").at(-2)),
    );
    expect(new Set(ports).size).toBe(ports.length);
  });

  it("mounts files that exist, and configures servers that it starts", () => {
    const mounted = all
      .flatMap(([, service]) => service.volumes ?? [])
      .map((volume) => volume.split(":")[0] ?? "")
      .filter((path) => path.startsWith("./"));
    expect(mounted.length).toBeGreaterThan(0);
    for (const path of mounted) expect(existsSync(`${root}${path}`), path).toBe(true);

    const config = readConfig({
      configPath: `${root}docker/pgdog.toml`,
      usersPath: `${root}docker/users.toml`,
      sluicePath: `${root}docker/sluice.toml`,
      env: nodes[0]?.[1].environment ?? {},
    });
    expect(config.warnings).toEqual([]);
    for (const { host } of config.databases) expect(Object.keys(services)).toContain(host);
    expect(config.sluice.temporal.address).toBe("temporal:7233");
  });
});
