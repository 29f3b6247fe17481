#!/usr/bin/env node
// The launcher: everything else is compiled by `npm ci` (script "prepare") into dist/.
import { existsSync } from "node:fs";

const entry = new URL("../dist/src/main/cli.js", import.meta.url);
if (!existsSync(entry)) {
  process.stderr.write("sluice: not built yet; run `npm run build` in the checkout first\n");
  process.exit(1);
}
await import(entry.href);
