import { builtWorkflows } from "./built.js";

/** The workflows of the checkout as the build bundles them, once for all test files. */
export async function bundleWorkflows(): Promise<{ readonly codePath: string }> {
  return { codePath: await builtWorkflows() };
}
