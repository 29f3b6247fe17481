-- # a row that nothing refers to goes to another tenant
UPDATE attachments SET tenant_id = 1, task_id = 1 WHERE id = 5;
UPDATE attachments SET tenant_id = 3, task_id = 17 WHERE id = 5 AND tenant_id = 1;
UPDATE attachments SET tenant_id = 2, task_id = 9, file_name = file_name || '!' WHERE tenant_id = 3 AND id = 5 RETURNING id, tenant_id, file_name, checksum;
-- values [4, 25, 5]
UPDATE attachments SET tenant_id = $1, task_id = $2 WHERE id = $3;
-- values [5, 33, 5]
UPDATE attachments SET tenant_id = $1, task_id = $2 WHERE id = $3 RETURNING *;
SELECT id, tenant_id, task_id, file_name, checksum FROM attachments ORDER BY id;
UPDATE comments SET tenant_id = 1, task_id = 1, author_id = 2 WHERE id = '00000000-0000-0000-0001-000000000060';
SELECT tenant_id, count(*) FROM comments GROUP BY tenant_id ORDER BY tenant_id;
UPDATE audit_log SET tenant_id = 5 WHERE tenant_id = 3;
INSERT INTO users (id, tenant_id, email, name) VALUES (600, 1, 'mover@x', 'Mover');
UPDATE users SET tenant_id = 3 WHERE id = 600;
UPDATE users SET tenant_id = 4, name = 'Moved' WHERE tenant_id = 3 AND id = 600 RETURNING id, tenant_id, name, is_active;
SELECT id, tenant_id, email FROM users WHERE email = 'mover@x';
INSERT INTO projects (id, tenant_id, name) VALUES (600, 2, 'mover');
UPDATE projects SET tenant_id = 7 WHERE id = 600;
UPDATE projects SET tenant_id = 1, name = 'project 1' WHERE id = 600;
INSERT INTO tenants (id, slug, plan_id) VALUES (70, 'mover', 1);
UPDATE tenants SET id = 71 WHERE slug = 'mover';
UPDATE tenants SET id = 74 WHERE id = 71;
UPDATE tenants SET id = 1 WHERE id = 74;
SELECT id, slug FROM tenants WHERE slug = 'mover';

-- # as Django's save() writes it
UPDATE users SET tenant_id = 2, email = 'user4@example.test', name = 'User 4', is_active = true, last_login_at = NULL WHERE id = 4;
-- values [2, "Saved", 5]
UPDATE users SET tenant_id = $1, name = $2 WHERE users.id = $3;
INSERT INTO users (id, tenant_id, email, name) VALUES (601, 1, 'saved@x', 'S');
-- values [6, "Saved", 601]
UPDATE users SET tenant_id = $1, name = $2 WHERE users.id = $3;
-- values [3, "Saved again", 601]
UPDATE users SET tenant_id = $1, name = $2 WHERE users.id = $3;
SELECT id, tenant_id, name FROM users WHERE name LIKE 'Saved%' ORDER BY id;
UPDATE users SET tenant_id = 3, name = 'nobody' WHERE id = 99999;

-- # several rows
INSERT INTO audit_log (tenant_id, action, created_at) VALUES (1, 'many', '2026-01-05 00:00:00+00'), (2, 'many', '2026-01-05 00:00:00+00'), (3, 'many', '2026-01-05 00:00:00+00'), (6, 'many', '2026-01-05 00:00:00+00');
UPDATE audit_log SET tenant_id = 8 WHERE action = 'many';
SELECT tenant_id, count(*) FROM audit_log WHERE action = 'many' GROUP BY tenant_id;
UPDATE audit_log SET tenant_id = 1 WHERE tenant_id IN (7, 8);
UPDATE attachments SET tenant_id = 1, task_id = 2;
SELECT tenant_id, task_id, count(*) FROM attachments GROUP BY tenant_id, task_id;
UPDATE project_members SET tenant_id = 6, project_id = 11, user_id = 16 WHERE tenant_id = 3 AND project_id = 5;
SELECT tenant_id, project_id, user_id FROM project_members ORDER BY project_id, user_id;

-- # in a transaction
BEGIN;
UPDATE attachments SET tenant_id = 3, task_id = 18 WHERE id = 1;
SELECT id, tenant_id FROM attachments WHERE id = 1;
ROLLBACK;
SELECT id, tenant_id FROM attachments WHERE id = 1;
BEGIN;
SAVEPOINT s;
UPDATE attachments SET tenant_id = 3, task_id = 18 WHERE id = 1;
ROLLBACK TO s;
UPDATE attachments SET tenant_id = 4, task_id = 26 WHERE id = 2;
COMMIT;
SELECT id, tenant_id FROM attachments WHERE id IN (1, 2) ORDER BY id;

-- # a tree goes together, its keys are deferred
BEGIN;
INSERT INTO projects (id, tenant_id, name) VALUES (610, 1, 'tree');
INSERT INTO tasks (id, tenant_id, project_id, title) VALUES (610, 1, 610, 'leaf'), (611, 1, 610, 'leaf');
COMMIT;
BEGIN;
UPDATE projects SET tenant_id = 3 WHERE id = 610;
UPDATE tasks SET tenant_id = 3 WHERE project_id = 610;
COMMIT;
SELECT t.id, t.tenant_id, p.tenant_id FROM tasks t JOIN projects p ON p.id = t.project_id WHERE p.id = 610 ORDER BY t.id;
BEGIN;
UPDATE tasks SET tenant_id = 5 WHERE project_id = 610;
UPDATE projects SET tenant_id = 5 WHERE id = 610;
COMMIT;
SELECT t.id, t.tenant_id, p.tenant_id FROM tasks t JOIN projects p ON p.id = t.project_id WHERE p.id = 610 ORDER BY t.id;

-- # rows that others refer to stay with them
UPDATE users SET tenant_id = 3 WHERE id = 1;
SELECT tenant_id FROM users WHERE id = 1;
SELECT count(*) FROM tasks WHERE assignee_id = 1;
UPDATE tenants SET id = 75 WHERE id = 2;
SELECT count(*) FROM users WHERE tenant_id = 2;
