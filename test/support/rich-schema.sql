CREATE SCHEMA "App Space";
CREATE TYPE public.mood AS ENUM ('sad', 'ok; fine', 'it''s happy');
CREATE DOMAIN public.email AS text CONSTRAINT email_form CHECK (VALUE ~ '^[^@;]+@[^@;]+$');
CREATE TYPE public.address AS (street text, zip varchar(10));
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS $touch$
BEGIN
  -- Name: fake; Type: TABLE; Schema: public; Owner: -
  NEW.touched := now(); -- a comment; with semicolons
  RETURN NEW;
END;
$touch$;
CREATE FUNCTION public.twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE
  BEGIN ATOMIC
    SELECT CASE WHEN n IS NULL THEN 0 ELSE n * 2 END;
  END;
CREATE PROCEDURE public.nothing() LANGUAGE sql AS $$ SELECT ';'; SELECT '$'; $$;
CREATE AGGREGATE public.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE TABLE public.tenants (
  id bigint PRIMARY KEY,
  name text NOT NULL CHECK (name <> ';'),
  home public.address,
  moods public.mood[] DEFAULT '{}'
);
CREATE TABLE public.users (
  tenant_id bigint NOT NULL REFERENCES public.tenants,
  id bigint GENERATED ALWAYS AS IDENTITY (START WITH 100 INCREMENT BY 5),
  email public.email,
  mood public.mood DEFAULT 'ok; fine' NOT NULL,
  doubled integer GENERATED ALWAYS AS (public.twice(7)) STORED,
  touched timestamptz,
  legacy json,
  dropped text,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, email)
);
ALTER TABLE public.users DROP COLUMN dropped;
CREATE TABLE "App Space"."Mixed ""Case""" (
  "Tenant Id" bigint NOT NULL,
  "Serial" serial,
  "weird;column" text DEFAULT E'back\\slash; ''quote''',
  period tstzrange,
  EXCLUDE USING gist (period WITH &&)
);
CREATE UNIQUE INDEX "Mixed Key" ON "App Space"."Mixed ""Case""" ("Tenant Id", "Serial");
ALTER TABLE "App Space"."Mixed ""Case""" REPLICA IDENTITY USING INDEX "Mixed Key";
CREATE TABLE public.events (
  tenant_id bigint NOT NULL,
  id uuid NOT NULL,
  at date NOT NULL,
  payload jsonb,
  PRIMARY KEY (tenant_id, id, at)
) PARTITION BY RANGE (at);
CREATE TABLE public.events_2024 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.events_rest PARTITION OF public.events DEFAULT PARTITION BY HASH (id);
CREATE TABLE public.events_rest_0 PARTITION OF public.events_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.events_rest_1 PARTITION OF public.events_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE public.events ADD CONSTRAINT events_tenant FOREIGN KEY (tenant_id) REFERENCES public.tenants;
CREATE INDEX events_payload ON public.events USING gin (payload);
CREATE INDEX users_lower ON public.users (lower(email::text)) WHERE mood <> 'sad';
CREATE STATISTICS public.users_statistics ON tenant_id, mood FROM public.users;
CREATE TABLE public.log (line text);
ALTER TABLE public.log REPLICA IDENTITY FULL;
CREATE SEQUENCE public.tickets INCREMENT 10;
CREATE VIEW public.user_count AS SELECT t.id, t.name, count(*) FROM public.tenants t JOIN public.users u ON u.tenant_id = t.id GROUP BY t.id;
CREATE MATERIALIZED VIEW public.moods AS SELECT mood, count(*) FROM public.users GROUP BY mood;
CREATE UNIQUE INDEX moods_key ON public.moods (mood);
CREATE FUNCTION public.counts() RETURNS SETOF public.user_count LANGUAGE sql AS $$ SELECT * FROM public.user_count; $$;
CREATE TRIGGER touch BEFORE UPDATE OF email ON public.users FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE TRIGGER always AFTER INSERT ON public.users FOR EACH STATEMENT EXECUTE FUNCTION public.touch();
ALTER TABLE public.users ENABLE ALWAYS TRIGGER always;
CREATE RULE two AS ON INSERT TO public.user_count DO INSTEAD (INSERT INTO public.log VALUES ('a;'); INSERT INTO public.log VALUES ('b'));
ALTER TABLE public.log ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON public.log FOR SELECT USING (line <> ';');
COMMENT ON TABLE public.users IS 'a comment; with a semicolon -- and dashes';
COMMENT ON CONSTRAINT users_tenant_id_fkey ON public.users IS 'it''s; here';
COMMENT ON INDEX public.users_lower IS 'late';
GRANT SELECT ON public.users TO PUBLIC;
