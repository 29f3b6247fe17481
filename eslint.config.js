import tseslint from "typescript-eslint";

// Only what needs types. Everything else is Biome's.
export default tseslint.config(
  {
    files: ["src/**/*.ts", "workflows/**/*.ts", "activities/**/*.ts", "test/**/*.ts"],
    languageOptions: { parser: tseslint.parser, parserOptions: { projectService: true } },
    plugins: { "@typescript-eslint": tseslint.plugin },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/await-thenable": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      "@typescript-eslint/only-throw-error": "error",
      "@typescript-eslint/no-unnecessary-condition": "error",
      "max-lines": ["error", { max: 500, skipComments: true, skipBlankLines: true }],
    },
  },
  // R56: the text of a row is opened by those alone who write it into the column that keeps it.
  {
    files: ["src/**/*.ts", "activities/**/*.ts", "workflows/**/*.ts"],
    ignores: ["src/resharding/control/evidence.ts", "src/resharding/stream/lanes/lane.ts"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "MemberExpression[object.name='RowEvidence'][property.name='open']",
          message: "row text goes into the column `evidence` and nowhere else (R56)",
        },
      ],
    },
  },
);
