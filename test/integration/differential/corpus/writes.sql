-- # a tenant's day
INSERT INTO projects (id, tenant_id, name) VALUES (101, 3, 'new one');
INSERT INTO projects (id, tenant_id, name) VALUES (101, 3, 'again');
INSERT INTO projects (tenant_id, name) VALUES (3, 'new one');
INSERT INTO projects (tenant_id, name) VALUES (3, 'new one') ON CONFLICT (tenant_id, name) DO NOTHING;
INSERT INTO projects (id, tenant_id, name) VALUES (102, 3, 'new one') ON CONFLICT (tenant_id, name) DO UPDATE SET position = 9 RETURNING id, position;
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (301, 3, 101, 'first'), (302, 3, 101, 'second') RETURNING id, state, labels;
UPDATE tasks SET state = 'doing' WHERE tenant_id = 3 AND id = 301;
UPDATE tasks SET state = 'done', estimate = estimate + 1 WHERE project_id = 101 RETURNING id, state;
UPDATE tasks t SET title = p.name || ' ' || t.id FROM projects p WHERE p.id = t.project_id AND p.tenant_id = 3;
SELECT id, title FROM tasks WHERE tenant_id = 3 ORDER BY id;
DELETE FROM tasks WHERE id = 302 RETURNING id, tenant_id;
DELETE FROM projects WHERE id = 101;
SELECT count(*) FROM tasks WHERE project_id = 101;
UPDATE users SET name = 'x' WHERE id = 7;
UPDATE users SET name = repeat('x', 300) WHERE id = 7;
DELETE FROM users WHERE id = 7;
DELETE FROM tenants WHERE id = 3;

-- # writes over all tenants
UPDATE users SET is_active = false WHERE id % 2 = 0;
UPDATE tasks SET estimate = estimate * 2 WHERE state = 'open';
UPDATE tenants SET settings = settings || '{"seen": true}';
SELECT id, settings FROM tenants ORDER BY id;
DELETE FROM comments WHERE body = 'comment 1';
DELETE FROM attachments;
UPDATE tasks SET due_on = due_on + 1 WHERE due_on IS NOT NULL AND id > 20;
UPDATE projects SET archived = NOT archived;
SELECT count(*) FROM projects WHERE archived;
DELETE FROM project_members USING users u WHERE u.id = user_id AND NOT u.is_active;
UPDATE tasks SET assignee_id = NULL WHERE assignee_id IN (SELECT id FROM users WHERE NOT is_active);
INSERT INTO comments (id, tenant_id, task_id, author_id, body) SELECT ('00000000-0000-0000-0002-' || lpad(id::text, 12, '0'))::uuid, tenant_id, id, assignee_id, 'copied' FROM tasks WHERE assignee_id IS NOT NULL;
INSERT INTO audit_log (tenant_id, action, created_at) SELECT tenant_id, 'note', '2025-05-05 00:00:00+00' FROM users;
UPDATE audit_log SET detail = '{"a": 1}', created_at = '2026-05-05 00:00:00+00' WHERE tenant_id < 4;
SELECT tableoid::regclass::text, count(*) FROM audit_log GROUP BY 1 ORDER BY 1;

-- # several rows for several shards
INSERT INTO users (id, tenant_id, email, name) VALUES (201, 1, 'a1', 'A'), (202, 2, 'a2', 'B'), (203, 3, 'a3', 'C'), (204, 4, 'a4', 'D'), (205, 1, 'a5', 'E') RETURNING id, tenant_id;
INSERT INTO users (id, tenant_id, email, name) VALUES (206, 1, 'b1', 'A'), (207, 2, 'b2', NULL);
SELECT id FROM users WHERE id > 200 ORDER BY id;
-- values [301, 5, "c1", 302, 6, "c2"]
INSERT INTO users (id, tenant_id, email, name) VALUES ($1, $2, $3, 'P'), ($4, $5, $6, 'Q') RETURNING id;
INSERT INTO users (id, tenant_id, email, name) VALUES (201, 1, 'a1', 'A'), (208, 3, 'a8', 'N') ON CONFLICT DO NOTHING RETURNING id;
INSERT INTO users (id, tenant_id, email, name) VALUES (201, 1, 'x1', 'A2'), (203, 3, 'x3', 'C2') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id, name;
INSERT INTO users (tenant_id, email, name) VALUES (1, 'd1', 'D'), (4, 'd2', 'D') RETURNING tenant_id, email;
INSERT INTO tenants (slug, plan_id) VALUES ('s1', 1), ('s2', 2), ('s3', 3) RETURNING slug;
INSERT INTO tenants (slug, plan_id) VALUES ('s4', 99);
INSERT INTO tenants (id, slug, plan_id) VALUES (50, 's50', 1) RETURNING *;
INSERT INTO tenants (id, slug, plan_id) VALUES (51, 's51', 1), (52, 's52', 1), (53, 's53', 1);
SELECT count(*) FROM tenants;
DELETE FROM tenants WHERE id >= 50 AND id < 1000;
INSERT INTO users (id, tenant_id, email, name) VALUES (NULL, 1, 'n', 'N');
INSERT INTO users (id, tenant_id, email, name) VALUES (210, NULL, 'n', 'N');
INSERT INTO tasks (id, tenant_id, project_id, title, labels, estimate) VALUES (401, 2, 3, 'arrays', '{a,"b c",NULL}', 1.5), (402, 7, 13, 'arrays', ARRAY['x'], NULL) RETURNING id, labels, estimate;

-- # forms of INSERT
INSERT INTO tenants DEFAULT VALUES;
INSERT INTO projects VALUES (110, 2, NULL, 'whole row', 1, false, '2026-01-01 00:00:00+00');
INSERT INTO projects VALUES (111, 2, NULL, 'part of a row');
INSERT INTO projects SELECT 112, 2, NULL, 'selected';
INSERT INTO projects (id, tenant_id, name) SELECT 120 + n, 2, 'series ' || n FROM generate_series(1, 3) n;
INSERT INTO projects (name, tenant_id, id) VALUES ('other order', 2, 130);
INSERT INTO projects (id, tenant_id, name, archived) VALUES (131, 2, 'defaults', DEFAULT), (132, 7, 'defaults', true);
INSERT INTO projects AS p (id, tenant_id, name) VALUES (130, 2, 'y') ON CONFLICT (id) DO UPDATE SET name = p.name || '!' WHERE p.tenant_id = 2 RETURNING p.name;
WITH gone AS (DELETE FROM projects WHERE tenant_id = 2 AND id > 120 AND id < 130 RETURNING id) SELECT count(*) FROM gone;
WITH made AS (INSERT INTO projects (id, tenant_id, name) VALUES (140, 2, 'cte') RETURNING id, tenant_id) INSERT INTO tasks (id, tenant_id, project_id, title) SELECT 440, tenant_id, id, 'of cte' FROM made RETURNING id;
INSERT INTO audit_log (tenant_id, action) VALUES (2, 'a') RETURNING tenant_id, action;
INSERT INTO audit_log (id, tenant_id, action) VALUES (77, 2, 'a');
INSERT INTO audit_log (id, tenant_id, action, created_at) OVERRIDING SYSTEM VALUE VALUES (77, 2, 'a', '2025-01-01 00:00:00+00');
INSERT INTO attachments (id, tenant_id, task_id, file_name, content) VALUES (150, 2, 9, 'f', '\x00ff') RETURNING checksum;
INSERT INTO attachments (id, tenant_id, task_id, file_name, checksum) VALUES (151, 2, 9, 'f', 'x');
SELECT id, name FROM projects WHERE tenant_id = 2 ORDER BY id;

-- # a row's key is changed
UPDATE project_members SET tenant_id = tenant_id WHERE tenant_id = 1;
UPDATE attachments SET tenant_id = 1 WHERE id = 1;
UPDATE audit_log SET tenant_id = 2 WHERE tenant_id = 99;
UPDATE tenants SET id = 900 WHERE id = 900;
UPDATE comments SET tenant_id = 1, body = 'moved' WHERE tenant_id = 1 AND task_id = 1;
UPDATE users SET tenant_id = NULL WHERE id = 1;
INSERT INTO attachments (id, tenant_id, task_id, file_name) VALUES (160, 1, 1, 'here');
SELECT id, tenant_id FROM attachments ORDER BY id;

-- # constraints
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (500, 1, 9999, 'no project');
INSERT INTO comments (tenant_id, task_id, author_id, body) VALUES (1, 99999, 1, 'x');
INSERT INTO projects (id, tenant_id, name) VALUES (1, 1, 'taken id');
UPDATE projects SET name = 'project 1' WHERE id = 2;
INSERT INTO users (id, tenant_id, email, name) VALUES (220, 1, 'user1@example.test', 'taken');
INSERT INTO users (id, tenant_id, email) VALUES (221, 1, 'no name');
DELETE FROM plans WHERE id = 2;
UPDATE plans SET id = 99 WHERE id = 3;
BEGIN;
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (501, 1, 700, 'project comes later');
INSERT INTO projects (id, tenant_id, name) VALUES (700, 1, 'later');
COMMIT;
BEGIN;
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (502, 1, 701, 'project never comes');
COMMIT;
SELECT id FROM tasks WHERE id >= 500 ORDER BY id;
BEGIN;
INSERT INTO users (id, tenant_id, email, name) VALUES (230, 2, 'fine', 'F');
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (503, 5, 702, 'fails at commit');
COMMIT;
SELECT count(*) FROM users WHERE id = 230;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (504, 1, 703, 'fails now');
ROLLBACK;
