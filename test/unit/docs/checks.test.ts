import { expect, it } from "vitest";
import { checksTable } from "../../../src/resharding/preflight/preflight-step.js";

const PAGE = `# Checks

<!-- Written by test/unit/docs/checks.test.ts out of the checks themselves: \`npx vitest run test/unit/docs --update\`. -->

What \`sluice migrate plan\` runs, and every migration as its first step. It changes nothing: what it tries, it rolls back.
Ids are stable. A finding has a severity:

- **error**: the migration does not begin. Each says what to do, as a statement to type where there is one.
- **warning**: something is otherwise afterwards, or may stand in the way. \`RESHARD\` is your consent.
- **note**: worth knowing. Nothing is to be done.

\`plan\` tells findings of one kind in one paragraph; \`--all\` tells each, \`--json\` is for programs. It exits 0 unless there is
an error.

${checksTable().join("\n")}

Besides, \`databases\` (both are configured), \`servers\` (every shard answers) and \`specification\` (the plan could be made).

## \`replica-identity\`

PostgreSQL refuses updates and deletes of a table that a publication names and that has no replica identity: no primary
key, one that is deferrable, or \`REPLICA IDENTITY NOTHING\`. Such a table gets one from us before our publication names it: a
unique index over NOT NULL columns if there is one (immediate, not partial, no expressions; one with the sharding key is
preferred), else FULL. Each partition has its own.

- What was there is noted in \`sluice.replica_identity\` of each database before anything is altered, and put back when the
  migration ends, by abort or finalize, on both sides. What somebody else alters meanwhile stays as they have it.
- \`ALTER TABLE\` needs the table for an instant alone. One table at a time, writers queue behind it for half a second at
  most, then it tries again; \`SLUICE_IDENTITY_LOCK_TIMED_OUT\` says which table it waits for. Never in the pause.
- Other readers of the table's changes see more meanwhile: with an index its old values, with FULL whole old rows, with each
  update and delete; FULL also makes more WAL. Where a publication of yours names the table already, its updates and deletes
  fail today, and work from then on.
- From PostgreSQL 18 on FULL is no way out for a table with generated columns: it needs a key, and \`plan\` says so.

\`[copy] replica_identity = "refuse"\` in \`sluice.toml\` makes it an error instead.

## \`unique-without-sharding-key\`

After the switch each shard sees to its own rows: a value may be taken on two of them, the proxy refuses nothing, and the way
back is "not ready" then, with both rows named by their keys. \`SHOW TASKS\` says which constraints it depends on. \`ON CONFLICT\`
on such a column finds rows of the new row's own shard only.

A note, since no two shards take the same value (one that a client gives may stand on two): columns that draw from a sequence (serial, identity, \`nextval\`), which we
make disjoint between shards; uuids (\`gen_random_uuid()\`, \`uuidv4()\`, \`uuidv7()\`, \`uuid_generate_v4()\`, or drawn by clients);
and columns that refer to a row which is on one shard only.

Anything else, as an e-mail address or a slug, is a warning; \`[copy] unique_without_sharding_key = "refuse"\` makes it an error.

## \`foreign-keys\`

A key that does not hold the sharding keys is checked by each shard among its own rows. It holds as long as both rows have the
same sharding key. Errors are a table that is on every shard and refers to one that is not, and a reference to a table that does not move.
`;

it("docs/checks.md lists every check", async () => {
  await expect(PAGE).toMatchFileSnapshot("../../../docs/checks.md");
});
