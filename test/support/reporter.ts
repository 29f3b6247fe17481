import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import type { SerializedError } from "vitest";
import type { Reporter, TestCase, TestModule } from "vitest/node";

/**
 * One line a file, failures with their stacks, and the counts as JSON in SLUICE_TEST_RESULT for
 * scripts/test.mjs. A test that was skipped was not judged: it failed.
 */
export default class LineReporter implements Reporter {
  onTestModuleEnd(module: TestModule): void {
    const tests = [...module.children.allTests()];
    const failed = tests.filter((test) => !hasPassed(test));
    const isOk = failed.length === 0 && module.ok();
    const seconds = (module.diagnostic().duration / 1000).toFixed(1);
    print(`${isOk ? "ok  " : "FAIL"} ${nameOf(module)} (${tests.length} tests, ${seconds} s)`);
    for (const error of module.errors()) print(describe(error));
    for (const test of failed) {
      const { state, errors } = test.result();
      print(`  ${state}: ${test.fullName}`);
      for (const error of errors ?? []) print(describe(error));
    }
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    for (const error of unhandledErrors) print(`unhandled error\n${describe(error)}`);
    const failed = [
      ...tests
        .filter((test) => !hasPassed(test))
        .map((test) => `${nameOf(test.module)}: ${test.fullName}`),
      // A file that did not load, or whose hooks failed, has no failed test to show for it.
      ...modules.filter((module) => module.errors().length > 0).map(nameOf),
      ...unhandledErrors.map((error) => `unhandled error: ${error.message}`),
    ];
    const passed = tests.length - tests.filter((test) => !hasPassed(test)).length;
    const file = process.env.SLUICE_TEST_RESULT;
    if (file) writeFileSync(file, JSON.stringify({ passed, failed }));
    else print(`${passed} passed, ${failed.length} failed`);
  }
}

function hasPassed(test: TestCase): boolean {
  return test.result().state === "passed";
}

/** With the project in front, where a run has several and a file may be in more than one. */
function nameOf(module: TestModule): string {
  const project = module.project.name === "" ? "" : `${module.project.name}: `;
  return project + relative(process.cwd(), module.moduleId);
}

function describe(error: SerializedError): string {
  const stack = (error.stack ?? "").split("\n").filter((line) => !line.includes("node_modules"));
  const text = [error.message, error.diff ?? "", ...stack.slice(1, 9)].filter(
    (line) => line !== "",
  );
  return text.join("\n").replaceAll(/^/gm, "    ");
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
