from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("tasks_due", "tasks", ["due_on"], postgresql_concurrently=True)


def downgrade():
    op.drop_index("tasks_due", table_name="tasks")
