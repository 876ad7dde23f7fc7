"""Make the ledger: batches, cases, decisions, discards, training runs, audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lazaretto.migrations.triggers import make_append_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("decisions", "audit")
_FINAL = "action IN ('release', 'discard') AND case_id IS NOT NULL"


def upgrade() -> None:
    """Create the tables, and the triggers that keep decisions and audit log append-only."""
    _create_batches()
    _create_cases()
    _create_decisions()
    op.create_table(
        "discards",
        sa.Column("dataset", sa.String(100), primary_key=True),
        sa.Column("mac", sa.String(64), primary_key=True),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
    )
    op.create_table(
        "training_runs",
        sa.Column("id", _serial(), primary_key=True, autoincrement=True),
        sa.Column("run", sa.String(200), nullable=False),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attestation", sa.String(64), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.UniqueConstraint("run", "dataset", "version", name="one_row_a_reading"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    for table in APPEND_ONLY:
        make_append_only(table)


def downgrade() -> None:
    """Refuse: the audit log and the decisions are not to be dropped."""
    raise NotImplementedError("the ledger's first revision is not taken back")


def _serial() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("ingested_at", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("arrived", sa.BigInteger(), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("suspects", sa.BigInteger(), nullable=False),
        sa.Column("hold_reasons", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger()),
        sa.Column("epoch", sa.BigInteger()),
        sa.Column("digests", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("arrived = admitted + quarantined + rejected", name="nothing_lost"),
    )
    op.create_index("batches_by_dataset", "batches", ["dataset", "ingested_at"])


def _create_cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("suspicion", sa.Float()),
        sa.Column("p_value", sa.Float()),
        sa.Column("q_value", sa.Float()),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("assignee", sa.String(200)),
        sa.UniqueConstraint("batch_id", "row", name="one_case_a_record"),
    )
    op.create_index("cases_by_state", "cases", ["dataset", "state", "p_value"])


def _create_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", _serial(), primary_key=True, autoincrement=True),
        sa.Column("case_id", sa.String(60), sa.ForeignKey("cases.id")),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("unit", sa.String(40), nullable=False),
        sa.Column("assignee", sa.String(200)),
    )
    op.create_index(
        "one_final_decision",
        "decisions",
        ["case_id"],
        unique=True,
        sqlite_where=sa.text(_FINAL),
        postgresql_where=sa.text(_FINAL),
    )
    op.create_index("decisions_by_unit", "decisions", ["unit"])
