import type { ServerConnection } from "../../backend/server-connection.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import type { BindPart } from "../execution/decoded-request.js";
import type { PreparedStatement } from "../execution/prepared-statements.js";
import type { PlannedStatement } from "./statements.js";

/** A statement with its values, as Bind made it; routed when somebody first asks, and once. */
export class Portal {
  readonly statement: PreparedStatement;
  readonly bind: BindPart;
  wantsDescription = false;
  /** Suspended there, with rows left. */
  openOn: ServerConnection | null = null;
  /** As it is sent, by the router that was last asked. */
  sql: string;
  #route: Route | null = null;
  #router: Router | null = null;

  constructor(statement: PreparedStatement, bind: BindPart) {
    this.statement = statement;
    this.sql = statement.sql;
    this.bind = bind;
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
