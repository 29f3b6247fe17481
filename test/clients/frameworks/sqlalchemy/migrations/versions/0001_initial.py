"""All tables of the first version, as the models of that version have them."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    from models import Base

    Base.metadata.create_all(op.get_bind())


def downgrade():
    from models import Base

    Base.metadata.drop_all(op.get_bind())
