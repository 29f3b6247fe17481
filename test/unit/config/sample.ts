/** One unsharded source, two shards; users of one name only and of both. */
export const PGDOG = `# our proxies
[general]
port = 7000 # not the default
workers = 1
cutover_save_config = true

[[databases]]
name = "prod" # the old one
host = "10.0.0.1"

[[databases]]
name = "prod_sharded"
database_name = "shard_0"
host = "10.0.0.2"
shard = 0

[[databases]]
name = "prod_sharded"
database_name = "shard_1"
host = "10.0.0.3"
shard = 1

[[sharded_tables]]
database = "prod_sharded"
column = "tenant_id"

[[omnisharded_tables]]
database = "prod_sharded"
tables = [
  "countries", # [ISO]
  "plans",
]

[admin]
password = "secret"

[rewrite]
shard_key = "rewrite"
`;

export const USERS = `# people
[[users]]
name = "app"
database = "prod"
password = "app-client"

[[users]]
name = "app"
database = "prod_sharded"
password = "app-sharded-client"
server_user = "app_s"
server_password = "app-sharded-server" # rotated

[[users]]
name = "reports"
database = "prod"
password = "reports-client"

[[users]]
name = "owner"
database = "prod"
password = "owner-client"
schema_admin = true

[[users]]
name = "sharder"
database = "prod_sharded"
password = "sharder-client"
schema_admin = true
`;
