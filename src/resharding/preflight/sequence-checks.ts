import { readSequenceStates, readSequences, type SequenceFacts } from "./sequence-facts.js";
import {
  displayName,
  eachShard,
  type Finding,
  type PreflightCheck,
  type ShardView,
  shardsOf,
  type World,
  warning,
} from "./world.js";

export const SEQUENCE_CHECKS: readonly PreflightCheck[] = [
  {
    id: "sequences",
    fine: "every sequence travels, and has ids left",
    run: (world) => eachShard(shardsOf(world, "source"), (shard) => checkSequences(world, shard)),
  },
];

/** Shards draw in turns: one that runs ahead of the others has its share only. */
const FEW = 10_000n;

async function checkSequences(world: World, shard: ShardView): Promise<readonly Finding[]> {
  const sequences = await readSequences(
    shard.client,
    world.tables.map(({ facts }) => facts),
  );
  const staying = sequences.filter(({ fate }) => fate === "its table stays").map(displayName);
  const left =
    staying.length === 0
      ? []
      : [
          warning(
            shard.scope,
            `left behind with the tables that they belong to: sequences ${staying.join(", ")}`,
            "Nothing to do, unless a moving table or the application uses one: then ALTER SEQUENCE ... OWNED BY NONE;",
          ),
        ];
  return [...left, ...(await checkEnds(shard, sequences))];
}

async function checkEnds(
  shard: ShardView,
  sequences: readonly SequenceFacts[],
): Promise<readonly Finding[]> {
  const endless = sequences.filter(({ fate, cycles }) => fate === "travels" && !cycles);
  const states = await readSequenceStates(shard.client, endless);
  return endless.flatMap((facts, index) => {
    const last = states[index]?.last ?? facts.start;
    const room = facts.increment > 0n ? facts.max - last : last - facts.min;
    const count = room / (facts.increment < 0n ? -facts.increment : facts.increment);
    // A range that was small from the beginning, and is hardly used, is no news.
    if (count >= FEW || room > (facts.max - facts.min) / 2n) return [];
    return [
      warning(
        `${shard.scope} ${displayName(facts)}`,
        `the sequence has ${count} values left for all shards together`,
        "Use a wider type before it ends: ALTER SEQUENCE ... AS bigint, and the columns that it feeds.",
      ),
    ];
  });
}
