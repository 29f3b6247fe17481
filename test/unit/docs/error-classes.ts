import ts from "typescript";
import { SQLSTATE } from "../../../src/core/sqlstate.js";
import { nodesOf, TREES } from "./sources.js";

export interface ErrorClass {
  readonly name: string;
  readonly file: string;
  readonly code: string;
  /** null: it differs from error to error. */
  readonly sqlState: string | null;
  readonly recovery: string | null;
}

/** Every class of the product that has a code, read from its declaration. */
export function errorClasses(): readonly ErrorClass[] {
  return TREES.flatMap((tree) =>
    [...nodesOf(tree)].filter(ts.isClassDeclaration).flatMap((declared) => {
      const code = textOf(declared, "code");
      return code === null
        ? []
        : [
            {
              name: declared.name?.text ?? "",
              file: tree.fileName,
              code,
              sqlState: sqlStateOf(declared),
              recovery: textOf(declared, "recovery"),
            },
          ];
    }),
  );
}

function sqlStateOf(declared: ts.ClassDeclaration): string | null {
  const value = initializerOf(declared, "sqlState");
  if (!value || !ts.isPropertyAccessExpression(value)) return null;
  return Object.entries(SQLSTATE).find(([name]) => name === value.name.text)?.[1] ?? null;
}

function textOf(declared: ts.ClassDeclaration, name: string): string | null {
  const value = initializerOf(declared, name);
  return value && ts.isStringLiteral(value) ? value.text : null;
}

function initializerOf(declared: ts.ClassDeclaration, name: string): ts.Expression | undefined {
  const member = declared.members.find(
    (one) => ts.isPropertyDeclaration(one) && one.name.getText() === name,
  );
  return member && ts.isPropertyDeclaration(member) ? member.initializer : undefined;
}
