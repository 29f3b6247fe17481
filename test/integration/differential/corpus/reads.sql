-- # one tenant's rows
SELECT id, slug FROM tenants WHERE id = 3;
SELECT id, title FROM tasks WHERE tenant_id = 3 AND state = 'open' ORDER BY id DESC LIMIT 3;
-- values [5]
SELECT id, email FROM users WHERE tenant_id = $1 ORDER BY id;
SELECT t.id, p.name FROM tasks t JOIN projects p ON p.id = t.project_id WHERE t.tenant_id = 2 ORDER BY t.id;
SELECT count(*), min(id), max(id) FROM tasks WHERE tenant_id = 4;
SELECT state, count(*) FROM tasks WHERE tenant_id = 4 GROUP BY state ORDER BY state;
SELECT u.name, count(t.id) FROM users u LEFT JOIN tasks t ON t.assignee_id = u.id WHERE u.tenant_id = 1 GROUP BY u.name ORDER BY u.name;
SELECT id, row_number() OVER (PARTITION BY state ORDER BY id) AS n FROM tasks WHERE tenant_id = 6 ORDER BY id;
SELECT DISTINCT state FROM tasks WHERE tenant_id = 7 ORDER BY state;
SELECT id FROM tasks WHERE tenant_id = 1 UNION ALL SELECT id FROM projects WHERE tenant_id = 1 ORDER BY 1;
WITH mine AS (SELECT id FROM projects WHERE tenant_id = 8) SELECT count(*) FROM tasks WHERE tenant_id = 8 AND project_id IN (SELECT id FROM mine);
SELECT array_agg(id ORDER BY id) FROM users WHERE tenant_id = 2;
SELECT jsonb_agg(settings ORDER BY id) FROM tenants WHERE id = 2;
SELECT * FROM open_tasks WHERE tenant_id = 5 ORDER BY id;
SELECT id, settings->>'theme' AS theme FROM tenants WHERE id = 4;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY estimate) FROM tasks WHERE tenant_id = 3;

-- # all tenants' rows
SELECT count(*) FROM users;
SELECT count(*), sum(estimate), min(due_on), max(due_on) FROM tasks;
SELECT avg(estimate) FROM tasks;
SELECT avg(position) FROM projects;
SELECT id FROM tasks ORDER BY id LIMIT 5;
SELECT id FROM tasks ORDER BY id DESC LIMIT 5 OFFSET 3;
SELECT id FROM tasks ORDER BY due_on DESC, id LIMIT 7;
SELECT id, estimate FROM tasks ORDER BY estimate DESC NULLS LAST, id LIMIT 10;
SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state;
SELECT state, count(*), sum(estimate) FROM tasks GROUP BY state HAVING count(*) > 3 ORDER BY 1;
SELECT name, count(*) FROM users GROUP BY name ORDER BY count(*) DESC, name COLLATE "C";
SELECT DISTINCT is_active FROM users ORDER BY is_active;
SELECT tenant_id, count(*) FROM tasks GROUP BY tenant_id ORDER BY tenant_id;
SELECT tenant_id, avg(estimate), count(DISTINCT state) FROM tasks GROUP BY tenant_id ORDER BY tenant_id;
SELECT p.id, count(t.id) FROM projects p LEFT JOIN tasks t ON t.project_id = p.id GROUP BY p.id ORDER BY p.id;
SELECT t.slug, pl.name FROM tenants t JOIN plans pl ON pl.id = t.plan_id ORDER BY t.id;
SELECT id FROM users WHERE EXISTS (SELECT 1 FROM tasks WHERE assignee_id = users.id AND state = 'done') ORDER BY id;
SELECT id FROM users WHERE id IN (SELECT owner_id FROM projects WHERE archived) ORDER BY id;
SELECT id FROM users WHERE id NOT IN (SELECT author_id FROM comments) ORDER BY id;
SELECT count(*) FROM open_tasks;
SELECT id, tenant_id, title, project FROM open_tasks ORDER BY id LIMIT 4;
SELECT EXISTS (SELECT 1 FROM users WHERE email = 'user7@example.test');
SELECT * FROM users WHERE email = 'user7@example.test';
SELECT id FROM tasks WHERE labels @> ARRAY['l1'] ORDER BY id;
SELECT min(email COLLATE "C"), max(email COLLATE "C") FROM users;
SELECT id FROM tenants WHERE settings @> '{"theme": "t1"}' ORDER BY id;
SELECT count(*) FILTER (WHERE is_active), count(*) FROM users;
SELECT coalesce(sum(estimate), 0) FROM tasks WHERE due_on > '2030-01-01';
SELECT date_trunc('day', created_at) AS day, count(*) FROM tasks GROUP BY day ORDER BY day;
SELECT id, rank() OVER (PARTITION BY tenant_id ORDER BY id) FROM users ORDER BY id;

-- # some tenants' rows
SELECT id FROM users WHERE tenant_id IN (1, 2, 3) ORDER BY id;
-- values ["{1,4,6}"]
SELECT id FROM users WHERE tenant_id = ANY($1) ORDER BY id;
-- values [2, 7]
SELECT count(*) FROM tasks WHERE tenant_id = $1 OR tenant_id = $2;
SELECT id FROM users WHERE tenant_id BETWEEN 3 AND 5 ORDER BY id;
SELECT id FROM tenants WHERE id > 4 AND id <= 7 ORDER BY id;
SELECT id FROM users WHERE tenant_id = 2 AND tenant_id = 5;
SELECT id FROM users WHERE tenant_id = NULL;
SELECT id FROM users WHERE tenant_id IS NULL;
SELECT a.id, b.id FROM users a JOIN users b ON a.tenant_id = b.tenant_id AND a.id < b.id WHERE a.tenant_id IN (1, 5) ORDER BY a.id, b.id;
SELECT id FROM tasks WHERE (tenant_id, id) IN ((1, 2), (2, 9)) ORDER BY id;
SELECT id FROM tasks WHERE tenant_id = 1 + 1 ORDER BY id;
SELECT id FROM tasks WHERE tenant_id = '3' ORDER BY id LIMIT 2;
SELECT id FROM tasks WHERE tenant_id = 3::int ORDER BY id LIMIT 2;

-- # reads that need rows of several shards together
SELECT a.id FROM users a JOIN users b ON a.name = b.name WHERE a.id < b.id ORDER BY a.id;
SELECT array_agg(id ORDER BY id) FROM users;
SELECT string_agg(slug, ',' ORDER BY id) FROM tenants;
SELECT id FROM tasks WHERE estimate > (SELECT avg(estimate) FROM tasks) ORDER BY id;
SELECT DISTINCT ON (state) state, id FROM tasks ORDER BY state, id;
SELECT state, rank() OVER (ORDER BY count(*)) FROM tasks GROUP BY state;
SELECT id FROM tasks UNION SELECT id FROM projects ORDER BY 1;
SELECT id FROM users EXCEPT SELECT owner_id FROM projects ORDER BY 1;
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t ORDER BY n;
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT count(*) FROM users, t;
SELECT name FROM users ORDER BY name LIMIT 3;
SELECT count(DISTINCT state) FROM tasks;
SELECT state, count(*) FROM tasks GROUP BY ROLLUP (state) ORDER BY state;
SELECT * FROM (SELECT id FROM tasks ORDER BY id LIMIT 3) s ORDER BY id;
SELECT u.id, t.n FROM users u, LATERAL (SELECT count(*) AS n FROM tasks WHERE assignee_id = u.id) t ORDER BY u.id;
SELECT plans.name, tenants.slug FROM plans LEFT JOIN tenants ON tenants.plan_id = plans.id ORDER BY 2;
SELECT stddev(estimate) FROM tasks;
SELECT bool_and(is_active), bool_or(is_active) FROM users;

-- # what is wrong is as wrong
SELECT nonsense FROM users;
SELECT * FROM no_such_table;
SELECT 1 / 0;
SELECT id / 0 FROM users;
SELECT id FROM users WHERE tenant_id = 'x';
SELECT count(* FROM users;
SELECT id, count(*) FROM users;
SELECT tenants.id FROM users;
SELECT no_such_function(1);
SELECT 1;
;
SELECT id FROM users ORDER BY 5;
SELECT sum(name) FROM users;
SELECT 'a'::int;
SELECT generate_series(1, 3);
SELECT now() - now();
SELECT length(version()) > 5;
SELECT current_database() IS NOT NULL;
SELECT pg_typeof(1.5), pg_typeof('x'::text);
VALUES (1, 'a'), (2, 'b');
TABLE plans;
SELECT * FROM plans ORDER BY id;
SELECT * FROM generate_series(1, 3) g (n) JOIN plans ON plans.id = g.n ORDER BY g.n;
