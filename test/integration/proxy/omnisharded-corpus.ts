/** Tables as applications have them: all but `tenant` are the same on every shard. */
export const SCHEMA = `
  CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, plan_id int, name text);
  CREATE TABLE flag (
    id bigserial PRIMARY KEY, name varchar NOT NULL UNIQUE, enabled boolean NOT NULL DEFAULT false,
    token uuid NOT NULL DEFAULT gen_random_uuid(), created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    label text GENERATED ALWAYS AS (upper(name)) STORED);
  CREATE TABLE plan (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, price numeric(10, 2), ratio float8,
    notes text[], info jsonb, made_by text DEFAULT current_user, at timestamptz DEFAULT clock_timestamp());
  CREATE TABLE session (key varchar(40) PRIMARY KEY, data text NOT NULL, expires timestamptz NOT NULL);
  CREATE TABLE version (version varchar PRIMARY KEY);
  CREATE TABLE pair (a int, b int, note text DEFAULT 'x', at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (a, b));
  CREATE TABLE event (what text, at timestamptz DEFAULT clock_timestamp());
  CREATE TABLE child (id bigserial PRIMARY KEY, plan_id int REFERENCES plan ON DELETE CASCADE, code text);`;

/** What triggers make: of their row, of others, of other tables, by chance, and in sharded tables. */
export const TRIGGERS = `
  CREATE TABLE doc (
    id bigserial PRIMARY KEY, title text NOT NULL, slug text, revision int NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
  CREATE TABLE price (id bigserial PRIMARY KEY, amount numeric NOT NULL, note text);
  CREATE TABLE price_log (id bigserial PRIMARY KEY, price_id bigint, was numeric, at timestamptz DEFAULT clock_timestamp());
  CREATE TABLE tag (id bigserial PRIMARY KEY, doc_id bigint REFERENCES doc ON DELETE SET NULL, name text, updated_at timestamptz);
  CREATE TABLE usage (tenant_id bigint PRIMARY KEY, price_id bigint, amount numeric);
  CREATE TABLE spy (tenant_id bigint PRIMARY KEY);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
  CREATE TRIGGER doc_touch BEFORE INSERT OR UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE TRIGGER tag_touch BEFORE UPDATE ON tag FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE FUNCTION log_price() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO price_log (price_id, was) VALUES (OLD.id, OLD.amount);
      UPDATE usage SET amount = NEW.amount WHERE price_id = NEW.id;
      IF NEW.amount > 100 THEN UPDATE price SET note = md5(random()::text) WHERE id <> NEW.id; END IF;
      RETURN NEW;
    END $$;
  CREATE TRIGGER price_log AFTER UPDATE OF amount ON price FOR EACH ROW EXECUTE FUNCTION log_price();
  CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO price_log (price_id) VALUES (NEW.tenant_id); RETURN NEW; END $$;
  CREATE TRIGGER spy AFTER INSERT ON spy FOR EACH ROW EXECUTE FUNCTION spy();`;

/** A statement, and the number that one PostgreSQL says; -1: it depends, or it fails. */
export interface Step {
  readonly sql: string;
  readonly values?: readonly unknown[];
  readonly count: number;
}

/** What applications write, in the order of their lives; the number is what one PostgreSQL says. */
export const CORPUS: readonly Step[] = [
  { sql: "INSERT INTO flag (name) VALUES ('a'), ('b'), ('c')", count: 3 },
  { sql: "INSERT INTO flag (id, name, token) VALUES (DEFAULT, 'd', DEFAULT)", count: 1 },
  {
    sql: "INSERT INTO flag (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET enabled = NOT flag.enabled",
    values: ["a"],
    count: 1,
  },
  {
    sql: "INSERT INTO flag AS f (name) VALUES ('e'), ('b') ON CONFLICT (name) DO UPDATE SET token = gen_random_uuid() -- new",
    count: 2,
  },
  { sql: "INSERT INTO flag (name) VALUES ('a'), ('f') ON CONFLICT DO NOTHING", count: 1 },
  { sql: "UPDATE flag SET token = gen_random_uuid(), created_at = now() WHERE enabled", count: 1 },
  { sql: "UPDATE flag SET enabled = random() < 0.5", count: 6 },
  { sql: "INSERT INTO plan DEFAULT VALUES", count: -1 },
  {
    sql: "INSERT INTO plan (name, ratio) SELECT 'p' || g, random() FROM generate_series(1, 9) g",
    count: 9,
  },
  {
    sql: "INSERT INTO plan (name, notes, info) VALUES ('odd', ARRAY['a \"b\" \\ c', NULL, ''], '{\"k\": \"v, (x)\"}')",
    count: 1,
  },
  {
    sql: "INSERT INTO plan (name, made_by) VALUES ('mine', current_user), ('his', session_user)",
    count: 2,
  },
  { sql: "INSERT INTO plan (name, at) VALUES ('now', 'now')", count: 1 },
  { sql: "INSERT INTO plan (name, at) VALUES ($1, $2)", values: ["then", "now"], count: 1 },
  { sql: "INSERT INTO plan (id, name) OVERRIDING SYSTEM VALUE VALUES (1000, 'given')", count: 1 },
  { sql: "UPDATE plan SET price = random() * 100 WHERE id % 2 = 0", count: -1 },
  {
    sql: "UPDATE plan p SET ratio = 1.0 / 3 FROM flag f WHERE f.name = 'a' AND p.name LIKE 'p%'",
    count: 9,
  },
  { sql: "UPDATE plan SET (price, ratio) = (SELECT random(), avg(price) FROM plan)", count: 15 },
  { sql: "INSERT INTO child (plan_id, code) SELECT id, md5(random()::text) FROM plan", count: 15 },
  { sql: "DELETE FROM plan WHERE id IN (SELECT id FROM plan ORDER BY random() LIMIT 2)", count: 2 },
  { sql: "DELETE FROM plan WHERE ctid IN (SELECT ctid FROM plan LIMIT 1)", count: 1 },
  { sql: "DELETE FROM child USING plan WHERE plan.id = plan_id AND plan.name = 'odd'", count: -1 },
  {
    sql: "WITH old AS (SELECT id FROM plan ORDER BY id LIMIT 1) DELETE FROM plan USING old WHERE plan.id = old.id",
    count: 1,
  },
  {
    sql: "INSERT INTO session VALUES (md5($1), 'new', now() + interval '1 day')",
    values: ["s"],
    count: 1,
  },
  {
    sql: "INSERT INTO session VALUES (md5($1), 'new', now() + interval '2 days') ON CONFLICT (key) DO UPDATE SET expires = excluded.expires",
    values: ["s"],
    count: 1,
  },
  {
    sql: "INSERT INTO version VALUES ('1') ON CONFLICT (version) DO UPDATE SET version = excluded.version",
    count: 1,
  },
  { sql: "INSERT INTO version VALUES ('1') ON CONFLICT DO NOTHING", count: 0 },
  { sql: "INSERT INTO version VALUES ('2')", count: 1 },
  { sql: "INSERT INTO pair (a, b) SELECT g, g FROM generate_series(1, 3000) g", count: 3000 },
  { sql: "UPDATE pair SET at = clock_timestamp(), note = repeat('y', a % 400)", count: 3000 },
  { sql: "DELETE FROM pair WHERE a > 2990", count: 10 },
  { sql: "INSERT INTO event (what) VALUES ('x'), ('x')", count: 2 },
  { sql: "UPDATE event SET what = 'y'", count: 2 },
  { sql: "DELETE FROM event WHERE what = 'z'", count: 0 },
];
