import type { FromDataPlane, ToDataPlane } from "../../proxy/channel.js";

/** All data-plane processes of this node as one. The supervisor implements it over IPC. */
export interface DataPlaneGroup {
  /** Live data planes now. */
  readonly planes: readonly number[];
  /**
   * To every live data plane. The last "topology", and every "hold", "maintenance" and "pause" in force, are
   * repeated to a data plane that starts later, before it listens.
   */
  broadcast(message: ToDataPlane): void;
  sendTo(plane: number, message: ToDataPlane): void;
  /** `left` is called when a data plane ends: what it owed will not come. */
  subscribe(listener: {
    message(plane: number, message: FromDataPlane): void;
    left(plane: number): void;
  }): () => void;
}
