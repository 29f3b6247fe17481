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
/** Why each room sees no more than that; printed beside a violation. */
const reasons = {
  core: "safe inside workflows, and the ground of everything: it needs nobody",
  config: "what the files say is read by everybody and acts on nobody",
  observe: "everything may log, so the log may need nothing",
  wire: "bytes to messages and back, tested without a socket",
  sql: "what a statement says is true of any number of shards",
  topology: "who owns which keys: a value that crosses processes, not a service",
  router: "a route follows from statement and shard map alone, so that its cases are data",
  backend: "a connection to a server serves clients and the engine alike: it knows neither",
  proxy: "serves clients while everything of a migration is down",
  replication: "slots, COPY and changes of one server: it knows no shards",
  resharding: "the engine runs without proxy, configuration files and Temporal",
  control:
    "what a node does for a migration; of the proxy it knows the messages, of workflows the orders",
  admin: "asks over interfaces that main fills, and works while Temporal is down",
};
const forbid = (name, from, to, comment) => ({
  name,
  severity: "error",
  from,
  to,
  ...(comment === undefined ? {} : { comment }),
});

/**
 * Floors inside a room: a folder imports what is on a floor below its own, and what stands in the room itself.
 * Each list goes from the ground up; the reason is printed beside a violation.
 */
const floors = {
  "src/control": {
    reason:
      "what gets a node out of trouble works without Temporal: node/ and temporal/ know of each other only what stands in the room itself",
    order: [["node", "temporal"]],
  },
  "src/main": {
    reason:
      "a command must not load what a node starts, nor a child process what a person types: the entry points put both together",
    order: [["cli", "processes"]],
  },
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
  "src/proxy": {
    reason:
      "sessions choose between two executors, which know neither sessions nor each other: both stand on the contract, the lending and the statements in execution/, and that on clients, databases and holds, which know nothing of statements",
    order: [["client", "databases", "hold"], ["execution"], ["single", "sharded"], ["session"]],
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
    forbid(
      "scatter-knows-no-session",
      { path: "^src/proxy/sharded/scatter/" },
      { path: "^src/proxy/", pathNot: "^src/proxy/sharded/scatter/" },
      "one statement over several servers is a job of its own, tested without a session",
    ),
    forbid(
      "data-plane-on-top",
      { path: "^src/proxy/[^/]+/" },
      { path: "^src/proxy/(data-plane|plane-rows)[.]ts$" },
      "the data plane puts the rooms of the proxy together; none of them leads back to it",
    ),
    forbid(
      "no-cycles",
      {},
      { circular: true },
      "two files that need each other, be it for types, are one idea, or a third one is missing below them",
    ),
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
        reasons[room],
      ),
    ),
    forbid(
      "temporal-only-in-control-and-main",
      { path: "^src/", pathNot: "^src/(control|main)/" },
      { path: "@temporalio/" },
      "everything else must work, and be tested, without Temporal",
    ),
    forbid(
      "pg-at-the-door",
      { pathNot: "^(test|src/(backend/sql-client|replication/walsender)[.]ts$)" },
      { path: "node_modules/pg/", dependencyTypesNot: ["type-only"] },
      "R56: errors of pg hold values; behind the door they are SqlError",
    ),
    forbid(
      "workflows-are-pure",
      { path: "^workflows/" },
      {
        path: "^(src|activities)/",
        pathNot: "^src/(core|resharding/model)/",
        dependencyTypesNot: ["type-only"],
      },
      "a workflow is replayed: what it runs must be deterministic",
    ),
    forbid(
      "model-imports-only-core",
      { path: "^src/resharding/model/" },
      { path: "^(src|workflows|activities)/", pathNot: "^src/(core|resharding/model)/" },
      "what is decided is decided without I/O, in workflows as in tests",
    ),
    forbid(
      "workflow-safe-code-does-no-io",
      { path: "^src/(core|resharding/model)/" },
      { dependencyTypes: ["core", "npm"] },
      "Node and packages do not exist, or are not deterministic, inside a workflow",
    ),
    forbid(
      "activities-are-thin",
      { path: "^activities/" },
      { path: "^src/", pathNot: "^src/(core|observe|resharding|replication)/" },
      "an activity is context, one step, one translation",
    ),
    forbid(
      "activities-do-not-know-workflows",
      { path: "^activities/" },
      { path: "^workflows/" },
      "a step can be run without a workflow: from a shell, and in tests",
    ),
    forbid(
      "nothing-imports-main-or-test",
      { pathNot: "^(src/main|test)/" },
      { path: "^(src/main|test)/" },
      "entry points put together and start; what others need has a room",
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
