"""The ledger's tables. Times are UTC text in ISO 8601: the same in every database, and what the audit log hashes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER
DECIDED = {"release": "released", "discard": "discarded"}
"""Actions that decide a case or a held batch, which has at most one, and the state each makes of it."""
FINAL = tuple(DECIDED)


class Base(DeclarativeBase):
    """All tables of the ledger."""


class BatchRow(Base):
    """One batch that was judged."""

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint("arrived = admitted + quarantined + rejected", name="nothing_lost"),
        Index("batches_by_dataset", "dataset", "ingested_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(20))
    """``admitted``, or ``held`` until its rest is ``released`` or ``discarded``."""
    ingested_at: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(200))
    arrived: Mapped[int] = mapped_column(BigInteger)
    admitted: Mapped[int] = mapped_column(BigInteger)
    quarantined: Mapped[int] = mapped_column(BigInteger)
    rejected: Mapped[int] = mapped_column(BigInteger)
    suspects: Mapped[int] = mapped_column(BigInteger)
    """Quarantined records that are suspicious themselves; each has a case."""
    hold_reasons: Mapped[str] = mapped_column(Text)
    """JSON list of sentences."""
    version: Mapped[int | None] = mapped_column(BigInteger)
    """Store version that admitted it; none when nothing was admitted."""
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    digests: Mapped[str] = mapped_column(Text)
    """JSON: SHA-256 of contract, policy, verdicts, evidence, quarantine manifest."""
    files: Mapped[int] = mapped_column(BigInteger)


class CaseRow(Base):
    """One quarantined record that waits for a person."""

    __tablename__ = "cases"
    __table_args__ = (
        UniqueConstraint("batch_id", "row", name="one_case_a_record"),
        Index("cases_by_state", "dataset", "state", "p_value"),
    )

    id: Mapped[str] = mapped_column(String(60), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    row: Mapped[int] = mapped_column(BigInteger)
    """Position of the record in the batch."""
    record_id: Mapped[str] = mapped_column(Text)
    suspicion: Mapped[float | None] = mapped_column(Float)
    p_value: Mapped[float | None] = mapped_column(Float)
    q_value: Mapped[float | None] = mapped_column(Float)
    reasons: Mapped[str] = mapped_column(Text)
    """JSON list of sentences."""
    evidence: Mapped[str] = mapped_column(Text)
    """JSON list, as in ``evidence.parquet``."""
    state: Mapped[str] = mapped_column(String(20))
    """``open``, ``released`` or ``discarded``; the decisions say who and why."""
    assignee: Mapped[str | None] = mapped_column(String(200))


class DecisionRow(Base):
    """What a person did with a case, or with the rest of a held batch (then without a case). Never changed."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index(
            "one_final_decision",
            "case_id",
            unique=True,
            sqlite_where=text("action IN ('release', 'discard') AND case_id IS NOT NULL"),
            postgresql_where=text("action IN ('release', 'discard') AND case_id IS NOT NULL"),
        ),
        Index("decisions_by_unit", "unit"),
    )

    id: Mapped[int] = mapped_column(_SERIAL, primary_key=True, autoincrement=True)
    case_id: Mapped[str | None] = mapped_column(ForeignKey("cases.id"))
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    action: Mapped[str] = mapped_column(String(20))
    """``release``, ``discard`` or ``assign``."""
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(200))
    at: Mapped[str] = mapped_column(String(40))
    unit: Mapped[str] = mapped_column(String(40))
    """The release this decision was part of; empty otherwise."""
    assignee: Mapped[str | None] = mapped_column(String(200))


class DiscardRow(Base):
    """A record that must not come back: the keyed digest of its content, useless without the master key."""

    __tablename__ = "discards"

    dataset: Mapped[str] = mapped_column(String(100), primary_key=True)
    mac: Mapped[str] = mapped_column(String(64), primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    at: Mapped[str] = mapped_column(String(40))


class RecallRow(Base):
    """Admitted records that were taken out of the store again. Never changed."""

    __tablename__ = "recalls"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    selection: Mapped[str] = mapped_column(Text)
    """JSON: what was recalled, as `lazaretto.pipelines.selection.Selection.told`."""
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(200))
    at: Mapped[str] = mapped_column(String(40))
    records: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    """Store version without them."""
    epoch: Mapped[int] = mapped_column(BigInteger)
    evidence: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the list of what was taken out."""


class MemoryRow(Base):
    """What is remembered of a batch so that evidence adds up over nights: keyed digests and counts. Never changed."""

    __tablename__ = "memories"

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    """As `lazaretto.pipelines.memory.Memory.to_bytes`; its SHA-256 is among the batch's digests."""


class FindingRow(Base):
    """What a window of batches showed when its newest one was judged. Never changed."""

    __tablename__ = "findings"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    """The newest batch of the window."""
    at: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(20))
    """trigger, suspicion, labels or copies."""
    says: Mapped[str] = mapped_column(Text)
    """The reason that its records wait for."""
    detail: Mapped[str] = mapped_column(Text)
    """JSON: the numbers."""
    admitted: Mapped[int] = mapped_column(BigInteger)
    """How many records that carry it were in the store by then."""


class TrustedActRow(Base):
    """One addition to a data set's trusted set, or its reversal. Never changed."""

    __tablename__ = "trusted_acts"
    __table_args__ = (UniqueConstraint("dataset", "version", name="one_act_a_version"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(20))
    """``add`` or ``revert``."""
    of: Mapped[str | None] = mapped_column(String(40))
    """The act that is reverted."""
    records: Mapped[int] = mapped_column(BigInteger)
    sources: Mapped[str] = mapped_column(Text)
    """JSON: source -> how many of the records are its."""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the file with the records."""
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(200))
    at: Mapped[str] = mapped_column(String(40))
    version: Mapped[int] = mapped_column(BigInteger)
    """Of the trusted set, counted from 1 for each data set."""


class RunRow(Base):
    """A training run that was let through the gate, and what it read."""

    __tablename__ = "training_runs"
    __table_args__ = (UniqueConstraint("run", "dataset", "version", name="one_row_a_reading"),)

    id: Mapped[int] = mapped_column(_SERIAL, primary_key=True, autoincrement=True)
    run: Mapped[str] = mapped_column(String(200))
    dataset: Mapped[str] = mapped_column(String(100))
    version: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[int] = mapped_column(BigInteger)
    attestation: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(String(40))


class AccountRow(Base):
    """A person who may log in. What gives rights is repeated in the audit log, so that a change past it is found."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    roles: Mapped[str] = mapped_column(Text)
    """JSON list."""
    active: Mapped[bool] = mapped_column(Boolean)
    password: Mapped[str] = mapped_column(Text)
    """Argon2id, in its usual form with salt and costs; empty for one who logs in elsewhere."""
    totp: Mapped[str] = mapped_column(Text)
    """Secret of the one-time codes, sealed with a key derived from the master key; empty before it is confirmed."""
    totp_step: Mapped[int] = mapped_column(BigInteger)
    """Time step of the newest code that was used: none is taken twice."""
    public_key: Mapped[str] = mapped_column(Text)
    """PEM; what their approvals are signed with. Empty for who is no approver."""
    private_key: Mapped[str] = mapped_column(Text)
    """PEM, encrypted with their password."""
    failures: Mapped[int] = mapped_column(Integer)
    """Wrong passwords and codes in a row."""
    blocked_until: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(Text)
    """Of one who logs in at an identity provider, the provider and its own id of them; else empty."""


class SessionRow(Base):
    """A login, or a program's token; known by the digest of a secret that is nowhere here."""

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_by_name", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 (hex) of the secret."""
    kind: Mapped[str] = mapped_column(String(10))
    """``login`` or ``token``."""
    name: Mapped[str] = mapped_column(String(60))
    """Of the account, or of the token."""
    scopes: Mapped[str] = mapped_column(Text)
    """JSON list; of a token."""
    datasets: Mapped[str] = mapped_column(Text)
    """JSON list; of a token, empty for all."""
    made_by: Mapped[str] = mapped_column(String(60))
    made_at: Mapped[str] = mapped_column(String(40))
    expires_at: Mapped[str] = mapped_column(String(40))
    closed_at: Mapped[str] = mapped_column(String(40))
    """Empty while it is open."""


class ProposalRow(Base):
    """What one person proposed, and another must approve before it is done."""

    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    dataset: Mapped[str] = mapped_column(String(100))
    statement: Mapped[str] = mapped_column(Text)
    """Canonical JSON: exactly what is proposed."""
    proposed_by: Mapped[str] = mapped_column(String(60))
    at: Mapped[str] = mapped_column(String(40))
    expires_at: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20))
    """``open``, ``approved``, ``done``, ``refused`` or ``withdrawn``."""
    decided_by: Mapped[str] = mapped_column(String(60))
    decided_at: Mapped[str] = mapped_column(String(40))
    approval: Mapped[str] = mapped_column(Text)
    """DSSE envelope around the statement, signed with the approver's key."""


class AuditRow(Base):
    """One entry of the audit log; see `lazaretto.audit.Entry`."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(60))
    dataset: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[str] = mapped_column(Text)
    """JSON."""
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
