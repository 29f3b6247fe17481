/**
 * What each statement on a gate's row does (R27), without its SQL: who may turn it, give it away, open it again,
 * or take its key. The state-space search of the switch walks these; `switch/gate.ts` has the same conditions as
 * SQL, held to them by test/integration/resharding/protocol.pg.test.ts. null: the row stays as it is.
 */
export interface GateRow {
  readonly epoch: number;
  readonly token: string;
  readonly isOpen: boolean;
  /** Epochs in which it was open: what a witness remembers. */
  readonly openedEpochs: readonly number[];
}

export interface GateHolder {
  readonly epoch: number;
  readonly token: string;
}

export type GateMove =
  /** To a new attempt; the side that serves is opened by it. */
  | { readonly kind: "assign"; readonly key: GateHolder; readonly opens: boolean }
  | { readonly kind: "open"; readonly key: GateHolder }
  | { readonly kind: "close"; readonly key: GateHolder }
  | { readonly kind: "reopen"; readonly epoch: number; readonly nextToken: string }
  | { readonly kind: "revoke"; readonly epoch: number; readonly nextToken: string };

/** Effects are conditional on (epoch, token): whoever comes late has an old one. */
export function isKeyOf(key: GateHolder, gate: GateHolder): boolean {
  return gate.epoch === key.epoch && gate.token === key.token;
}

export function moveGate(gate: GateRow, move: GateMove): GateRow | null {
  switch (move.kind) {
    case "assign": {
      const { epoch, token } = move.key;
      if (gate.epoch >= epoch && !isKeyOf(move.key, gate)) return null;
      return move.opens ? opened({ ...gate, epoch, token }) : { ...gate, epoch, token };
    }
    case "open":
      return isKeyOf(move.key, gate) ? opened(gate) : null;
    case "close":
      return isKeyOf(move.key, gate) ? { ...gate, isOpen: false } : null;
    // `aborted` is for ever, so this is right as long as the gate belongs to that epoch, whoever has the key.
    case "reopen":
      return gate.epoch === move.epoch ? { ...gate, isOpen: true, token: move.nextToken } : null;
    // A gate that was open in this epoch is a witness: its key stays.
    case "revoke": {
      const isShut = !gate.isOpen && !gate.openedEpochs.includes(move.epoch);
      return gate.epoch === move.epoch && isShut ? { ...gate, token: move.nextToken } : null;
    }
  }
}

function opened(gate: GateRow): GateRow {
  const isNoted = gate.openedEpochs.includes(gate.epoch);
  const openedEpochs = isNoted ? gate.openedEpochs : [...gate.openedEpochs, gate.epoch];
  return { ...gate, isOpen: true, openedEpochs };
}
