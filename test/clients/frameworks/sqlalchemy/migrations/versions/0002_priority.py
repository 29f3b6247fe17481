import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("tasks", sa.Column("priority", sa.Integer, nullable=False, server_default="3"))
    op.create_index("tasks_tenant_priority", "tasks", ["tenant_id", "priority"])
    milestones = op.create_table(
        "milestones",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String, nullable=False),
    )
    connection = op.get_bind()
    projects = connection.execute(sa.text("SELECT id, tenant_id FROM projects")).all()
    op.bulk_insert(
        milestones,
        [{"tenant_id": tenant_id, "project_id": project_id, "name": "first"} for project_id, tenant_id in projects],
    )
    op.execute("UPDATE tasks SET priority = priority + 1 WHERE state = 'open'")
    op.alter_column("tasks", "title", type_=sa.String(300), existing_type=sa.String(200))
    op.create_check_constraint("tasks_priority_range", "tasks", "priority BETWEEN 0 AND 9")


def downgrade():
    op.drop_table("milestones")
    op.drop_column("tasks", "priority")
