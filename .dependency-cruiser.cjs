const rooms = {
  core: [],
  config: ["core"],
  observe: ["core"],
  wire: ["core"],
  sql: ["core"],
  topology: ["core"],
  router: ["core", "sql", "topology"],
  backend: ["core", "observe", "wire"],
  proxy: ["core", "config", "observe", "wire", "sql", "topology", "router", "backend"],
  replication: ["core", "observe", "wire", "backend"],
  resharding: ["core", "observe", "topology", "backend", "replication"],
  control: ["core", "config", "observe", "topology", "backend", "resharding"],
  admin: [
    "core",
    "config",
    "observe",
    "wire",
    "topology",
    "backend",
    "proxy",
    "resharding",
    "control",
  ],
};
const forbid = (name, from, to) => ({ name, severity: "error", from, to });

/**
 * Floors inside a room: a folder imports what is on a floor below its own, and what stands in the room itself.
 * Each list goes from the ground up; the reason is printed beside a violation.
 */
const floors = {
  "src/resharding": {
    reason:
      "a topic stands on the model, on what all topics share, and on the topics whose work comes before its own",
    order: [
      ["model"],
      ["control"],
      ["preflight", "schema", "copy", "stream"],
      ["verify"],
      ["switch"],
      ["ends"],
    ],
  },
  workflows: {
    reason:
      "a family starts those whose work is a part of its own, and knows of the others a signature in model/workflows.ts",
    order: [["task"], ["cutover"], ["replicate"], ["reshard"]],
  },
};
const floorRules = Object.entries(floors).flatMap(([room, { reason, order }]) =>
  order.flatMap((names, index) =>
    names.map((name) => ({
      ...forbid(
        `floor-${room.replace("/", "-")}-${name}`,
        { path: `^${room}/${name}/` },
        {
          path: `^${room}/[^/]+/`,
          pathNot: [name, ...order.slice(0, index).flat()].map((below) => `^${room}/${below}/`),
        },
      ),
      comment: reason,
    })),
  ),
);

module.exports = {
  forbidden: [
    ...floorRules,
    forbid("no-cycles", {}, { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } }),
    {
      ...forbid(
        "no-cycles-of-types",
        { path: "^(workflows|src/resharding/model)/" },
        { circular: true },
      ),
      comment: "what is declared once has one place below all who read it; a circle has no below",
    },
    ...Object.entries(rooms).map(([room, allowed]) =>
      forbid(
        `room-${room}`,
        { path: `^src/${room}/` },
        {
          path: "^(src|workflows|activities)/",
          pathNot: [room, ...allowed]
            .map((name) => `^src/${name}/`)
            .concat(
              room === "control"
                ? ["^workflows/task/messages[.]ts$", "^src/proxy/channel[.]ts$"]
                : [],
            ),
        },
      ),
    ),
    forbid(
      "temporal-only-in-control-and-main",
      { path: "^src/", pathNot: "^src/(control|main)/" },
      { path: "@temporalio/" },
    ),
    forbid(
      "workflows-are-pure",
      { path: "^workflows/" },
      {
        path: "^(src|activities)/",
        pathNot: "^src/(core|resharding/model)/",
        dependencyTypesNot: ["type-only"],
      },
    ),
    forbid(
      "model-imports-only-core",
      { path: "^src/resharding/model/" },
      { path: "^(src|workflows|activities)/", pathNot: "^src/(core|resharding/model)/" },
    ),
    forbid(
      "workflow-safe-code-does-no-io",
      { path: "^src/(core|resharding/model)/" },
      { dependencyTypes: ["core", "npm"] },
    ),
    forbid(
      "activities-are-thin",
      { path: "^activities/" },
      { path: "^src/", pathNot: "^src/(core|observe|resharding|replication)/" },
    ),
    forbid("activities-do-not-know-workflows", { path: "^activities/" }, { path: "^workflows/" }),
    forbid(
      "nothing-imports-main-or-test",
      { pathNot: "^(src/main|test)/" },
      { path: "^(src/main|test)/" },
    ),
  ],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: "specify",
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^dist" },
    enhancedResolveOptions: { extensions: [".ts", ".js"] },
  },
};
