-- # over two shards, committed
BEGIN;
UPDATE users SET name = 'one' WHERE tenant_id = 1 AND id = 1;
UPDATE users SET name = 'three' WHERE tenant_id = 3 AND id = 7;
SELECT id, name FROM users WHERE id IN (1, 7) ORDER BY id;
COMMIT;
SELECT id, name FROM users WHERE id IN (1, 7) ORDER BY id;

-- # over two shards, rolled back
BEGIN ISOLATION LEVEL REPEATABLE READ;
SHOW transaction_isolation;
DELETE FROM comments;
SELECT count(*) FROM comments;
ROLLBACK;
SELECT count(*) FROM comments;

-- # an error in the middle
BEGIN;
INSERT INTO projects (id, tenant_id, name) VALUES (801, 1, 'a');
SELECT 1 / 0;
SELECT 1;
INSERT INTO projects (id, tenant_id, name) VALUES (802, 2, 'b');
COMMIT;
SELECT count(*) FROM projects WHERE id > 800;
SELECT 1;

-- # savepoints
BEGIN;
INSERT INTO projects (id, tenant_id, name) VALUES (811, 1, 'a');
SAVEPOINT one;
INSERT INTO projects (id, tenant_id, name) VALUES (812, 3, 'b');
SAVEPOINT two;
INSERT INTO projects (id, tenant_id, name) VALUES (811, 1, 'double');
SELECT 1;
ROLLBACK TO SAVEPOINT two;
SELECT id FROM projects WHERE id > 800 ORDER BY id;
ROLLBACK TO one;
SELECT id FROM projects WHERE id > 800 ORDER BY id;
RELEASE SAVEPOINT one;
RELEASE SAVEPOINT one;
ROLLBACK;
BEGIN;
SAVEPOINT s;
UPDATE users SET name = 's' WHERE id = 1;
RELEASE s;
SAVEPOINT s;
UPDATE users SET name = 't' WHERE id = 22;
ROLLBACK TO s;
COMMIT;
SELECT id, name FROM users WHERE id IN (1, 22) ORDER BY id;
SAVEPOINT outside;
ROLLBACK TO nowhere;
BEGIN;
ROLLBACK TO nowhere;
COMMIT;

-- # begin and end in odd ways
COMMIT;
ROLLBACK;
BEGIN;
BEGIN;
COMMIT;
START TRANSACTION READ ONLY;
UPDATE users SET name = 'z';
ROLLBACK;
BEGIN READ ONLY;
SELECT count(*) FROM users;
END;
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT count(*) FROM tasks;
COMMIT WORK;
ABORT;
BEGIN;
SELECT 1 / 0;
END;
BEGIN;
INSERT INTO projects (id, tenant_id, name) VALUES (821, 2, 'chained');
COMMIT AND CHAIN;
INSERT INTO projects (id, tenant_id, name) VALUES (822, 5, 'chained, too');
ROLLBACK AND CHAIN;
SELECT id FROM projects WHERE id > 820 ORDER BY id;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
COMMIT AND CHAIN;
SHOW transaction_isolation;
COMMIT;
SHOW transaction_isolation;
BEGIN ISOLATION LEVEL NONSENSE;
BEGIN;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
SHOW transaction_isolation;
SELECT 1;
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
ROLLBACK;

-- # several statements in one query
SELECT 1\; SELECT 2;
INSERT INTO projects (id, tenant_id, name) VALUES (831, 1, 'x')\; INSERT INTO projects (id, tenant_id, name) VALUES (832, 3, 'y');
INSERT INTO projects (id, tenant_id, name) VALUES (833, 1, 'x2')\; SELECT 1 / 0\; SELECT 2;
SELECT id FROM projects WHERE id > 830 ORDER BY id;
BEGIN\; INSERT INTO projects (id, tenant_id, name) VALUES (834, 1, 'z')\; COMMIT;
SELECT count(*) FROM projects WHERE id > 830;

-- # clients that leave
BEGIN;
UPDATE users SET name = 'gone' WHERE tenant_id = 1;
-- vanish
SELECT count(*) FROM users WHERE name = 'gone';
BEGIN;
UPDATE users SET name = 'gone';
-- vanish
SELECT count(*) FROM users WHERE name = 'gone';
BEGIN;
INSERT INTO plans (id, name) VALUES (60, 'gone');
SELECT 1 / 0;
-- vanish
SELECT id FROM plans ORDER BY id;
SET timezone = 'Asia/Tokyo';
SET search_path = nowhere;
-- vanish
SHOW timezone;
SELECT count(*) FROM users;
BEGIN;
SELECT count(*) FROM users FOR UPDATE;
-- vanish
UPDATE users SET name = 'stays' WHERE id = 4;
BEGIN;
CREATE TABLE half_made (id int, tenant_id bigint);
-- vanish
SELECT * FROM half_made;

-- # two-phase by hand
BEGIN;
UPDATE users SET name = 'prepared' WHERE id IN (1, 7, 10, 13);
PREPARE TRANSACTION 'mine';
COMMIT PREPARED 'mine';
ROLLBACK;
SELECT id, name FROM users WHERE id IN (1, 7, 10, 13) ORDER BY id;
COMMIT PREPARED 'nobody';

-- # locks
BEGIN;
SELECT id FROM users WHERE tenant_id = 1 ORDER BY id FOR UPDATE;
SELECT id FROM users WHERE id < 12 ORDER BY id FOR SHARE;
SELECT id FROM tasks WHERE state = 'open' ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED;
LOCK TABLE projects IN SHARE MODE;
SELECT pg_advisory_xact_lock(5);
COMMIT;
LOCK TABLE projects;
