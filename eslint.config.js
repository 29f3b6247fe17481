import tseslint from "typescript-eslint";

// Only what needs types. Everything else is Biome's.
export default tseslint.config({
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
});
