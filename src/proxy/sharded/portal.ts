import type { ServerConnection } from "../../backend/server-connection.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import type { BindPart } from "../execution/decoded-request.js";
import type { PreparedStatement } from "../execution/prepared-statements.js";
import type { HeldRows } from "./held-rows.js";

/** How far a portal has come. There is no way back: what has run never runs again. */
export type PortalPlace =
  | { readonly kind: "bound" }
  /** One server has it open, under a name of its own, and knows the place. */
  | { readonly kind: "server"; readonly server: ServerConnection; readonly name: string }
  /** It has run to its end; what is left of its answer is here. */
  | { readonly kind: "held"; readonly rows: HeldRows; readonly tag: string }
  /** All was given. */
  | { readonly kind: "ended"; readonly tag: string; readonly hasRows: boolean };

import type { PlannedStatement } from "./statements.js";

/** A statement with its values, as Bind made it; routed when somebody first asks, and once. */
export class Portal {
  readonly statement: PreparedStatement;
  readonly bind: BindPart;
  /** The transaction that it lives in. */
  readonly madeIn: number;
  wantsDescription = false;
  place: PortalPlace = { kind: "bound" };
  /** As it is sent, by the router that was last asked. */
  sql: string;
  #route: Route | null = null;
  #router: Router | null = null;

  constructor(statement: PreparedStatement, bind: BindPart, madeIn: number) {
    this.statement = statement;
    this.sql = statement.sql;
    this.bind = bind;
    this.madeIn = madeIn;
  }

  /** Another router than before has another topology or other tables: then it is asked anew. */
  route(router: Router): Route {
    if (this.#route && this.#router === router) return this.#route;
    return this.use({
      router,
      sql: router.written(this.statement.sql),
      route: router.route(this.statement.sql, this.parameters),
    });
  }

  /** What it is by a router that was asked for it. */
  use({ router, sql, route }: PlannedStatement): Route {
    this.sql = sql;
    this.#router = router;
    this.#route = route;
    return route;
  }

  /** The client's text as it is. */
  get isAsWritten(): boolean {
    return this.sql === this.statement.sql;
  }

  get parameters(): ParameterValues {
    const { parameters, parameterFormats } = this.bind.values;
    const { parameterTypes } = this.statement;
    return { values: parameters, formats: parameterFormats, typeOids: parameterTypes };
  }
}

/** The tag of a part of an answer, which counts the rows of the part. */
export function tagOfPart(tag: string, rowCount: number): string {
  return tag.replace(/ \d+$/, ` ${rowCount}`);
}
