import ts from "typescript";
import { describe, expect, it } from "vitest";
import { GENERAL_KEYS, type GeneralKey } from "../../../src/config/general-keys.js";
import { parseConfig } from "../../../src/config/read-config.js";
import { SLUICE_KEYS } from "../../../src/config/sluice-keys.js";
import { nodesOf, ROOT } from "./sources.js";

/**
 * What carries a setting from the files to who obeys it, and the files that only pass it on. A property counts
 * as obeyed when something else reads it; being copied into the next carrier is being read, and that one's
 * property is asked for in its turn.
 */
const CARRIERS: Readonly<Record<string, readonly string[]>> = {
  "src/config/model.ts": [
    "GeneralConfig",
    "SluiceConfig",
    "TemporalConfig",
    "RewriteConfig",
    "DatabaseConfig",
    "UserConfig",
  ],
  "src/resharding/context.ts": ["EnginePolicy", "Cluster", "ShardedTableRule"],
  "src/resharding/model/policy.ts": ["TaskPolicy"],
  "src/topology/topology.ts": ["ShardServer", "ShardedTable", "DatabaseUser", "Database"],
};
/** Credentials obey: they decide which of several passwords a server gets. */
const isPassingOn = (path: string) =>
  path === "src/admin/settings.ts" ||
  (path.startsWith("src/config/") && path !== "src/config/credentials.ts");

const program = ts.createProgram(
  ts
    .parseJsonConfigFileContent(
      ts.readConfigFile(`${ROOT}tsconfig.json`, (path) => ts.sys.readFile(path)).config,
      ts.sys,
      ROOT,
    )
    .fileNames.filter((path) => !path.startsWith(`${ROOT}test/`)),
  { ...ts.getDefaultCompilerOptions(), ...compilerOptions(), noEmit: true },
);
const checker = program.getTypeChecker();

function compilerOptions(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.json`, (path) => ts.sys.readFile(path));
  return ts.parseJsonConfigFileContent(config, ts.sys, ROOT).options;
}

/** Declarations of properties that something reads which does not only pass them on. */
function readDeclarations(): ReadonlySet<ts.Declaration> {
  const read = new Set<ts.Declaration>();
  const note = (symbol: ts.Symbol | undefined) => {
    for (const declaration of symbol?.declarations ?? []) read.add(declaration);
  };
  for (const file of program.getSourceFiles()) {
    const path = file.fileName.slice(ROOT.length);
    if (!/^(src|workflows|activities)\//.test(path) || isPassingOn(path)) continue;
    for (const node of nodesOf(file)) {
      if (ts.isPropertyAccessExpression(node)) note(checker.getSymbolAtLocation(node.name));
      else if (ts.isBindingElement(node) && ts.isObjectBindingPattern(node.parent)) {
        const name = (node.propertyName ?? node.name).getText();
        note(checker.getTypeAtLocation(node.parent).getProperty(name));
      }
    }
  }
  return read;
}

const read = readDeclarations();
const fields = Object.entries(CARRIERS).flatMap(([path, names]) => {
  const file = program.getSourceFile(`${ROOT}${path}`);
  return names.flatMap((name) => {
    const declared = file?.statements.find(
      (one) => ts.isInterfaceDeclaration(one) && one.name.text === name,
    );
    if (!declared || !ts.isInterfaceDeclaration(declared)) throw new Error(`no ${name} in ${path}`);
    // `others` holds what is said to have no effect.
    const members = declared.members.filter((member) => member.name?.getText() !== "others");
    return members.map((member) => [`${name}.${member.name?.getText()}`, member] as const);
  });
});

describe("settings", () => {
  it.each(fields)("%s is obeyed", (_name, member) => {
    expect(read.has(member)).toBe(true);
  });

  it("a key of [general] has an effect exactly when it has a field of its own", () => {
    const { others } = parseConfig({ pgdog: "", users: "" }).general;
    const keys = Object.entries<GeneralKey>(GENERAL_KEYS);
    const withoutField = keys.filter(([name, key]) => name in others || key.initial === null);
    expect(keys.filter(([, key]) => key.effect === null)).toEqual(withoutField);
  });

  it("every key of sluice.toml has a field", () => {
    const { sluice } = parseConfig({ pgdog: "", users: "" });
    const { temporal, ...flat } = sluice;
    const names = [...Object.keys(flat), "temporalAddress", "temporalNamespace"];
    expect(names.sort()).toEqual(Object.keys(SLUICE_KEYS).sort());
    expect(Object.keys(temporal)).toEqual(["address", "namespace"]);
  });
});
