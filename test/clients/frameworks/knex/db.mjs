import knexOf from "knex";
import { CONNECTION } from "../steps.mjs";

export const knex = knexOf({ client: "pg", connection: CONNECTION, pool: { min: 0, max: 4 } });
