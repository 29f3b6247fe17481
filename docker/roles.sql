-- Roles belong to a server and do not travel with a schema, so every server gets them.
CREATE ROLE app LOGIN PASSWORD 'app';
GRANT CREATE ON DATABASE app TO app;
GRANT CREATE, USAGE ON SCHEMA public TO app;
