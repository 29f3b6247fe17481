import { expect, test } from "vitest";
import { Catalog } from "../../../src/router/catalog.js";
import { isPlainTrigger } from "../../../src/router/steadiness.js";
import { SHOP_FACTS, shop } from "./shop.js";

const isPlain = (source: string | null) =>
  isPlainTrigger({ name: "t", source }, new Catalog(shop(), SHOP_FACTS));

test.each([
  "BEGIN NEW.updated_at := now(); RETURN NEW; END",
  "BEGIN NEW.at = CURRENT_TIMESTAMP; RETURN NEW; END",
  "BEGIN IF NEW.name IS DISTINCT FROM OLD.name THEN NEW.slug := lower(pg_catalog.md5(NEW.name)); END IF; RETURN NEW; END",
])("makes something of its row and no more: %s", (source) => {
  expect(isPlain(source)).toBe(true);
});

test.each([
  null,
  "BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END",
  "BEGIN NEW.n := (SELECT count(*) FROM log); RETURN NEW; END",
  "BEGIN PERFORM ours(1); RETURN NEW; END",
  "BEGIN NEW.code := ours(NEW.id); RETURN NEW; END",
  "BEGIN NEW.code := app.lower(NEW.id); RETURN NEW; END",
  "BEGIN NEW.n := nowhere_known(1); RETURN NEW; END",
  "BEGIN EXECUTE 'DELETE ' || 'FROM log'; RETURN NEW; END",
  "BEGIN NEW.n := setval('s', 1); RETURN NEW; END",
])("may do more: %s", (source) => {
  expect(isPlain(source)).toBe(false);
});
