// What Temporal registers by name. The one barrel that its bundler needs.
export { copyTable } from "./copy-table.js";
export { cutover } from "./cutover.js";
export { replicate } from "./replicate.js";
export { reshard } from "./reshard.js";
export { schemaSync } from "./schema-sync.js";
export { taskCounter } from "./task-counter.js";
