import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { ROOT, SOURCES } from "./sources.js";

const page = readFileSync(`${ROOT}ARCHITECTURE.md`, "utf8");

/** Rows of the table under a heading, as cells. */
function tableUnder(heading: string): readonly (readonly string[])[] {
  const section = page.split(/^## /m).find((one) => one.startsWith(heading)) ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(1)
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, -1));
}

interface Rule {
  readonly name: string;
  readonly to: { readonly pathNot?: readonly string[] };
}

describe("ARCHITECTURE.md, rooms", () => {
  const { forbidden } = createRequire(import.meta.url)(`${ROOT}.dependency-cruiser.cjs`) as {
    readonly forbidden: readonly Rule[];
  };
  const checked = new Map(
    forbidden
      .filter((rule) => rule.name.startsWith("room-"))
      .map((rule) => {
        const room = rule.name.slice("room-".length);
        const allowed = (rule.to.pathNot ?? [])
          .map((pattern) => /^\^src\/(\w+)\/$/.exec(pattern)?.[1] ?? room)
          .filter((name) => name !== room);
        return [room, allowed.sort()] as const;
      }),
  );
  const told = tableUnder("Rooms").flatMap(([room = "", , imports = ""]) => {
    const name = /^`src\/(\w+)`$/.exec(room)?.[1];
    // Behind a semicolon stands what dependency-cruiser has rules of their own for.
    const [list = ""] = imports.split(";");
    const allowed = list === "nothing" ? [] : list.split(", ").sort();
    return name === undefined || name === "main" ? [] : [[name, allowed] as const];
  });

  it("are those of dependency-cruiser, with what each may import", () => {
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(checked));
  });

  it("have the floors that dependency-cruiser checks, and no folder beside them", () => {
    const rules = forbidden.map((rule) => rule.name).filter((name) => name.startsWith("floor-"));
    const named = tableUnder("Floors").map(([room = "", floors = ""]) => ({
      room: room.slice(1, -1),
      folders: floors.split(/[;,] /).sort(),
    }));
    const told = named.flatMap(({ room, folders }) =>
      folders.map((folder) => `floor-${room.replace("/", "-")}-${folder}`),
    );
    expect(told.sort()).toEqual(rules.sort());
    for (const { room, folders } of named) {
      const there = readdirSync(`${ROOT}${room}`, { withFileTypes: true });
      const names = there.filter((one) => one.isDirectory()).map((one) => one.name);
      expect(names.sort(), room).toEqual(folders);
    }
  });

  it("are the folders that there are", () => {
    expect([...told.map(([name]) => name), "main"].sort()).toEqual(
      readdirSync(`${ROOT}src`).sort(),
    );
  });
});

describe("ARCHITECTURE.md, packages", () => {
  const packages = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as {
    readonly dependencies: Readonly<Record<string, string>>;
    readonly devDependencies: Readonly<Record<string, string>>;
  };
  const named = tableUnder("Packages").flatMap(([cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) =>
      // "`@temporalio/client`, `worker`": the scope is said once.
      cell.startsWith("`@temporalio/") && !name.includes("/") ? `@temporalio/${name}` : name,
    ),
  );

  it("are those of package.json, but for types and pins", () => {
    const all = [...Object.keys(packages.dependencies), ...Object.keys(packages.devDependencies)];
    // Temporal's own dependency, pinned here: its typings ask for one version.
    const silent = (name: string) => name.startsWith("@types/") || name === "protobufjs";
    expect([...new Set(named)].sort()).toEqual(all.filter((name) => !silent(name)).sort());
  });

  it("the product imports no devDependency, and every dependency", () => {
    const imported = new Set(
      [...SOURCES.values()].flatMap((text) =>
        [...text.matchAll(/(?:from|import)\s*\(?"((?:@[\w-]+\/)?[\w-]+)/g)].map(
          ([, name = ""]) => name,
        ),
      ),
    );
    const names = (from: Readonly<Record<string, string>>) => Object.keys(from);
    expect(names(packages.devDependencies).filter((name) => imported.has(name))).toEqual([]);
    const idle = names(packages.dependencies).filter((name) => !imported.has(name));
    expect(idle).toEqual(["protobufjs"]);
  });
});

it("every path that ARCHITECTURE.md names is there", () => {
  const paths = [...page.matchAll(/`((?:src|workflows|activities|test|docs)(?:\/[\w.-]+)*)`/g)];
  expect(paths.length).toBeGreaterThan(10);
  for (const [, path = ""] of paths) expect(existsSync(`${ROOT}${path}`), path).toBe(true);
});
