import { describe, expect, test } from "vitest";
import { planStatements } from "../../../src/resharding/schema/statement.js";

function dumpOf(...entries: readonly (readonly [type: string, sql: string])[]): string {
  return entries
    .map(([type, sql]) => `-- Name: x; Type: ${type}; Schema: public; Owner: -\n\n${sql};\n`)
    .join("\n");
}

const plan = (type: string, sql: string) =>
  planStatements(dumpOf([type, sql])).map(({ phases, sql: text }) => [phases.join("+"), text]);

describe("each kind of statement has its phase", () => {
  test.each([
    ["TABLE", "CREATE TABLE public.t (a int)", "pre"],
    ["TYPE", "CREATE TYPE public.e AS ENUM ('a')", "pre"],
    ["VIEW", "CREATE VIEW public.v AS SELECT 1", "pre"],
    ["DEFAULT", "ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT 1", "pre"],
    ["TABLE ATTACH", "ALTER TABLE ONLY public.t ATTACH PARTITION public.p DEFAULT", "pre"],
    ["CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (a)", "pre"],
    ["CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a)", "post+cutover"],
    [
      "CONSTRAINT",
      "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k EXCLUDE (a WITH =)",
      "post+cutover",
    ],
    [
      "CHECK CONSTRAINT",
      "ALTER TABLE public.t\n    ADD CONSTRAINT k CHECK (a > 0) NOT VALID",
      "post",
    ],
    ["INDEX", "CREATE INDEX i ON public.t USING btree (a)", "post"],
    ["INDEX", "CREATE UNIQUE INDEX i ON public.t USING btree (a)", "post+cutover"],
    ["TRIGGER", "CREATE TRIGGER g AFTER INSERT ON public.t EXECUTE FUNCTION public.f()", "post"],
    ["POLICY", "CREATE POLICY p ON public.t USING (true)", "post"],
    ["COMMENT", "COMMENT ON TABLE public.t IS 'x'", "pre"],
    ["COMMENT", "COMMENT ON INDEX public.i IS 'x'", "post+cutover"],
    ["ACL", "GRANT SELECT ON TABLE public.t TO PUBLIC", "pre"],
  ])("%s: %s", (type, sql, phases) => {
    expect(plan(type, sql)).toEqual([[phases, sql]]);
  });
});

test("the index of a replica identity comes before the copy, other unique ones after", () => {
  const planned = planStatements(
    dumpOf(
      ["INDEX", 'CREATE UNIQUE INDEX "An Index" ON public.t USING btree (a)'],
      ["INDEX", 'ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX "An Index"'],
      ["INDEX", "CREATE UNIQUE INDEX other ON public.t USING btree (b)"],
    ),
  );
  expect(planned.map(({ phases }) => phases)).toEqual([["pre"], ["pre"], ["post", "cutover"]]);
});

test("primary keys of partitions are attached before the copy, other indexes after", () => {
  const planned = planStatements(
    dumpOf(
      ["CONSTRAINT", "ALTER TABLE ONLY public.r ADD CONSTRAINT r_pkey PRIMARY KEY (a)"],
      ["CONSTRAINT", "ALTER TABLE ONLY public.p ADD CONSTRAINT p_pkey PRIMARY KEY (a)"],
      ["INDEX ATTACH", "ALTER INDEX public.r_pkey ATTACH PARTITION public.p_pkey"],
      ["INDEX ATTACH", "ALTER INDEX public.r_b ATTACH PARTITION public.p_b"],
    ),
  );
  expect(planned.map(({ phases }) => phases.join("+"))).toEqual([
    "pre",
    "pre",
    "pre",
    "post+cutover",
  ]);
});

test("a foreign key is added NOT VALID and validated last, after catch-up", () => {
  const key =
    'ALTER TABLE ONLY public."T"\n    ADD CONSTRAINT "K" FOREIGN KEY (a) REFERENCES public.u(a)';
  expect(plan("FK CONSTRAINT", key)).toEqual([
    ["post+cutover", `${key} NOT VALID`],
    ["cutover", 'ALTER TABLE "public"."T" VALIDATE CONSTRAINT "K"'],
  ]);
  expect(plan("FK CONSTRAINT", `${key} NOT VALID`)).toEqual([["post+cutover", `${key} NOT VALID`]]);
  const partitioned = key.replace("ONLY ", "");
  expect(plan("FK CONSTRAINT", partitioned)).toEqual([["cutover", partitioned]]);
});

test("what is ours, publications and subscriptions never travel", () => {
  const dump = dumpOf(
    [
      "TRIGGER",
      "CREATE TRIGGER sluice_gate_ab BEFORE INSERT ON public.t EXECUTE FUNCTION sluice.refuse()",
    ],
    ["TRIGGER", "ALTER TABLE public.t ENABLE ALWAYS TRIGGER sluice_gate_ab"],
    ["PUBLICATION", "CREATE PUBLICATION p"],
    ["SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p"],
  );
  expect(planStatements(dump)).toEqual([]);
});

test("owners and grants are told from other statements", () => {
  const dump = dumpOf(
    ["TABLE", 'ALTER TABLE public.t OWNER TO "Some One"'],
    ["ACL", "GRANT SELECT ON TABLE public.t TO x"],
    ["FUNCTION", "CREATE FUNCTION public.f() RETURNS void AS $$ ALTER x OWNER TO y $$"],
  );
  expect(planStatements(dump).map(({ isAccess }) => isAccess)).toEqual([true, true, false]);
});
