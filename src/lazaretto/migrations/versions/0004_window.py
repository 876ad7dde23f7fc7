"""Make the tables of what is remembered of batches, what windows of them showed, and what was added to trusted sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lazaretto.migrations.triggers import make_append_only

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and their triggers."""
    op.create_table(
        "memories",
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("says", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "trusted_acts",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("of", sa.String(40), nullable=True),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("dataset", "version", name="one_act_a_version"),
    )
    for table in ("memories", "findings", "trusted_acts"):
        make_append_only(table)


def downgrade() -> None:
    """Refuse: what was found is not to be forgotten."""
    raise NotImplementedError("what was remembered and found is not taken back")
