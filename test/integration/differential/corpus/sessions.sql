-- # settings
SHOW timezone;
SET timezone = 'America/New_York';
SHOW timezone;
SELECT created_at FROM tenants WHERE id = 1;
SELECT id, created_at FROM tenants ORDER BY id;
SELECT id, created_at FROM tasks ORDER BY created_at, id LIMIT 3;
SET datestyle = 'German';
SELECT due_on FROM tasks WHERE id = 1;
RESET datestyle;
BEGIN;
SET LOCAL timezone = 'Asia/Tokyo';
SELECT created_at FROM tenants WHERE id = 2;
COMMIT;
SHOW timezone;
BEGIN;
SET timezone = 'Europe/Paris';
ROLLBACK;
SHOW timezone;
SELECT set_config('timezone', 'Asia/Kolkata', false);
SHOW timezone;
SELECT created_at FROM tenants WHERE id = 3;
SELECT created_at FROM tenants WHERE id = 6;
RESET ALL;
SHOW timezone;
SET statement_timeout = '3s';
SHOW statement_timeout;
SET no_such_setting = 1;
SET my.own = 'value';
SHOW my.own;
SELECT current_setting('my.own');
RESET my.own;
SELECT current_setting('my.none', true);
SET extra_float_digits = 1;
SELECT 1 / 3.0::float8;
SET bytea_output = 'escape';
SELECT content FROM attachments WHERE id = 1;
SELECT id, content FROM attachments ORDER BY content, id;
SET intervalstyle = 'iso_8601';
SELECT interval '1 day 2 hours';
SET client_encoding = 'LATIN1';
SHOW client_encoding;
SET client_encoding TO DEFAULT;
SET application_name = 'mine';
SHOW application_name;
RESET application_name;
SET standard_conforming_strings = off;
SELECT 'a\\b';
SET standard_conforming_strings = on;
SELECT 'a\\b';
DISCARD ALL;
SHOW timezone;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
UPDATE users SET name = 'no' WHERE id = 1;
RESET ALL;
SHOW search_path;
SET search_path = public, pg_temp;
SELECT count(*) FROM users;
SET search_path = '';
SELECT count(*) FROM users;
SELECT count(*) FROM public.users;
SET seed = 0.5;
SELECT random();
SET role = 'nobody';
SHOW server_version_num;

-- # search_path leads elsewhere
CREATE SCHEMA other;
CREATE TABLE other.users (tenant_id bigint, note text);
INSERT INTO other.users VALUES (1, 'a'), (3, 'b');
SET search_path = other, public;
SELECT tenant_id, note FROM users ORDER BY tenant_id;
SELECT count(*) FROM public.users;
RESET search_path;
SELECT count(*) FROM users;
DROP SCHEMA other CASCADE;

-- # prepared statements of the protocol
-- name one
-- values [3]
SELECT id FROM users WHERE tenant_id = $1 ORDER BY id;
-- name one
-- values [4]
SELECT id FROM users WHERE tenant_id = $1 ORDER BY id;
-- name all
-- values [2]
SELECT id FROM users WHERE id % $1::int = 0 ORDER BY id;
-- name put
-- values [901, 2, "p1"]
INSERT INTO projects (id, tenant_id, name) VALUES ($1, $2, $3) RETURNING id, name;
-- name put
-- values [902, 3, "p2"]
INSERT INTO projects (id, tenant_id, name) VALUES ($1, $2, $3) RETURNING id, name;
-- name put
-- values [902, 3, "p3"]
INSERT INTO projects (id, tenant_id, name) VALUES ($1, $2, $3) RETURNING id, name;
-- name draw
-- values ["drawn 1", 1]
INSERT INTO tenants (slug, plan_id) VALUES ($1, $2) RETURNING slug;
-- name draw
-- values ["drawn 2", 2]
INSERT INTO tenants (slug, plan_id) VALUES ($1, $2) RETURNING slug;
-- name page
-- values [3, 4]
SELECT id FROM tasks ORDER BY id LIMIT $1 OFFSET $2;
-- values ["2026-03-05"]
SELECT count(*) FROM tasks WHERE due_on > $1;
-- values ["open"]
SELECT count(*) FROM tasks WHERE state = $1;
-- values [null]
SELECT count(*) FROM users WHERE tenant_id = $1;
-- values ["{1,2}", "{3,1}"]
UPDATE users SET is_active = true WHERE id = ANY($1) AND tenant_id = ANY($2);
-- values ["x"]
SELECT count(*) FROM users WHERE tenant_id = $1;
-- values [1, 2]
SELECT $1::int + $2::int AS sum;
-- values [9]
DELETE FROM comments WHERE task_id = $1;
BEGIN;
-- values [1]
SELECT count(*) FROM users WHERE tenant_id = $1;
-- values [0]
SELECT 1 / $1::int;
-- values []
ROLLBACK;

-- # statements that are prepared by SQL
PREPARE p (bigint) AS SELECT count(*) FROM users WHERE tenant_id = $1;
EXECUTE p (1);
DEALLOCATE p;
DEALLOCATE ALL;

-- # temporary tables and other things of one session
CREATE TEMP TABLE mine (id int);
LISTEN news;
UNLISTEN *;
NOTIFY news;
SELECT pg_backend_pid() > 0;
SELECT pg_advisory_lock(1);
SELECT pg_try_advisory_xact_lock(1);

-- # cursors
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM users WHERE tenant_id = 2 ORDER BY id;
FETCH 2 FROM c;
FETCH ALL FROM c;
CLOSE c;
DECLARE d CURSOR FOR SELECT id FROM users ORDER BY id;
FETCH 5 FROM d;
FETCH NEXT FROM d;
MOVE 3 FROM d;
FETCH FORWARD 2 FROM d;
FETCH nothing FROM e;
ROLLBACK;
DECLARE f CURSOR FOR SELECT 1;
BEGIN;
DECLARE g CURSOR WITH HOLD FOR SELECT id FROM tasks ORDER BY id;
COMMIT;
FETCH 3 FROM g;
CLOSE g;
FETCH 1 FROM g;

-- # COPY
COPY users (id, tenant_id, email, name) FROM STDIN;
1001	1	copy1	C
1002	2	copy2	C
1003	3	copy3	C
1004	4	copy4	\N
\.
COPY users (id, tenant_id, email, name) FROM STDIN;
1001	1	copy1	C
1002	2	copy2	C
1003	3	copy3	C
\.
COPY users (id, tenant_id, email, name) FROM STDIN WITH (FORMAT csv);
1005,5,"copy,5","C ""quoted"""
1006,6,copy6,C
\.
SELECT id, email, name FROM users WHERE id > 1000 ORDER BY id;
COPY tenants (slug, plan_id) FROM STDIN;
copied 1	1
copied 2	2
copied 3	3
\.
SELECT count(*) FROM tenants;
COPY plans (id, name) FROM STDIN;
70	seventy
71	seventy-one
\.
COPY users (id, tenant_id, email, name) FROM STDIN;
x	1	copyx	C
\.
BEGIN;
COPY projects (id, tenant_id, name) FROM STDIN;
1010	1	in a transaction
1011	3	in a transaction
\.
ROLLBACK;
SELECT count(*) FROM projects WHERE id > 1000;

-- # what the catalogs say
SELECT count(*) FROM pg_class WHERE relname = 'users';
SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 ORDER BY attnum;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name COLLATE "C";
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'tasks' ORDER BY ordinal_position;
SELECT conname FROM pg_constraint WHERE conrelid = 'tasks'::regclass ORDER BY conname;
SELECT enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typname = 'task_state' ORDER BY enumsortorder;
SELECT 'users'::regclass::text;
SELECT to_regclass('no_such_table') IS NULL;
SELECT pg_get_serial_sequence('tenants', 'id');
SELECT has_table_privilege('users', 'SELECT');
SELECT obj_description('users'::regclass);
