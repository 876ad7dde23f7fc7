"""Make the table of recalls, append-only like the decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lazaretto.migrations.triggers import make_append_only

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "recalls",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(64), nullable=False),
    )
    make_append_only("recalls")


def downgrade() -> None:
    """Refuse: what was recalled is not to be forgotten."""
    raise NotImplementedError("recalls are not taken back")
