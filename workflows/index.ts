// What Temporal registers by name. The one barrel that its bundler needs.

export { cutover } from "./cutover/cutover.js";
export { replicate } from "./replicate/replicate.js";
export { copyTable } from "./reshard/copy-table.js";
export { reshard } from "./reshard/reshard.js";
export { schemaSync } from "./reshard/schema-sync.js";
export { taskCounter } from "./task/task-counter.js";
