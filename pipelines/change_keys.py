"""Rotation, revocation and re-attestation of keys: each a signed record, audited, and finished by repeating it.

While a change is under way nothing else is signed: every data set is locked, and what would sign a checkpoint waits. So
the record can pin how far the old key's signatures reach.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lazaretto.attest import NOTHING, opened, seal
from lazaretto.audit import Entry, digest_of
from lazaretto.config import dataset_lock, named_lock
from lazaretto.durable import file_mode_like, make_folder, writable, write_durably
from lazaretto.entrance import acting
from lazaretto.errors import IntegrityViolated, Unavailable, UsageError
from lazaretto.key_history import (
    HISTORY,
    REATTESTED,
    RECORD_TYPE,
    REVOKED,
    ROTATED,
    WITNESS,
    KeyRecord,
    envelope_texts,
    history_file,
    read_envelopes,
    read_history,
    record_of,
    signers_of,
    signing_key,
)
from lazaretto.keys import AUDIT, POLICY, PUBLISHER, new_private_key, private_key
from lazaretto.ledger import CHECKPOINTS, append_once, checkpoint, open_ledger, read_audit, sign_newest
from lazaretto.pipelines.datasets import find_datasets
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.sign_contract import CONTRACT_SIGNED
from lazaretto.signed_contract import read_statements
from lazaretto.signers import WHOLE_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger
    from lazaretto.signers import Signers

_NEXT = ".key.next"


@dataclass(frozen=True)
class Change:
    """A change of a key."""

    record: KeyRecord
    unsigned: tuple[str, ...] = ()
    """Data sets whose contract has to be signed again, because a stolen policy key may have signed it."""


def rotate(workspace: Workspace, name: str, why: str, now: datetime | None = None) -> Change:
    """Put a new key in the place of one that is not known to be stolen; what it signed stays valid.

    Args:
        workspace: Whose.
        name: publisher, audit or policy.
        why: Kept in the history of keys; the audit log holds its digest.
        now: The time to write down; the clock's by default.

    Raises:
        UsageError: There is no such key, its private key or the witness's is not here, or work is under way.
        IntegrityViolated: What the key signed does not hold.
    """
    with _changing(workspace, name) as change:
        return Change(change.make(ROTATED, why, now, pins=change.pins()))


def revoke(workspace: Workspace, name: str, since: datetime, why: str, now: datetime | None = None) -> Change:
    """Put a new key in the place of a stolen one; what it signed since then counts no more until it is vouched for.

    Args:
        workspace: Whose.
        name: publisher, audit or policy.
        since: From when on it may have been in other hands.
        why: As for `rotate`.
        now: The time to write down; the clock's by default.

    Raises:
        UsageError: As for `rotate`, or ``since`` is in the future.
        IntegrityViolated: What the key signed does not hold.
    """
    if since > (now or datetime.now(UTC)):
        raise UsageError(
            f"{since.isoformat()} is in the future", hint="--since says when the key was last surely yours"
        )
    with _changing(workspace, name) as change:
        said = {"since": since.isoformat(timespec="seconds"), "sound": change.signed_by(since)}
        record = change.make(REVOKED, why, now, pins=change.pins(), **said)
        unsigned = [dataset for dataset in record.pins if _unsigned(workspace, dataset)] if name == POLICY else []
    return Change(record, tuple(unsigned))


def _unsigned(workspace: Workspace, dataset: str) -> bool:
    try:
        read_statements(workspace, dataset).in_force()
    except IntegrityViolated:
        return True
    return False


def reattest(workspace: Workspace, name: str, now: datetime | None = None) -> Change | None:
    """Vouch with the new key for what a stolen one signed, once everything there is was verified and nothing found.

    Args:
        workspace: Whose.
        name: publisher or audit. A contract is looked at by a person, and signed again.
        now: The time to write down; the clock's by default.

    Returns:
        The change; None where nothing has to be vouched for.

    Raises:
        IntegrityViolated: Something was found; nothing is vouched for.
        UsageError: The policy key is asked for, or work is under way.
    """
    from lazaretto.pipelines.verify import verify

    if name == POLICY:
        raise UsageError(
            "what a stolen policy key signed is not vouched for as a whole",
            hint="read each contract, then: lazaretto contract sign DATASET",
        )
    finish(workspace)
    signers = signers_of(workspace, name)
    stolen = [generation for generation in signers.generations if generation.revoked_at]
    pins = {subject: pin for generation in stolen for subject, pin in (generation.until or {}).items()}
    pending = {
        subject: [pin.number, pin.digest]
        for subject, pin in pins.items()
        if any(signers.doubtful(subject, number) for number in range(1, pin.number + 1))
    }
    if not pending:
        return None
    # The audit log is the witness for all else: while it is in doubt, nothing else is vouched for.
    doubted = {PUBLISHER, POLICY} if name == PUBLISHER else {PUBLISHER, POLICY, AUDIT}
    verify(workspace, ignore_doubt=frozenset(doubted)).require()
    with _changing(workspace, name) as change:
        return Change(change.make(REATTESTED, "", now, pins=pending))


def finish(workspace: Workspace) -> KeyRecord | None:
    """Finish a change that was interrupted; gives its record, if there was one.

    Raises:
        IntegrityViolated: What lies there as a change is none that was signed here.
    """
    if not workspace.changing_keys.exists():
        return None
    with (
        writable(workspace.state),
        _alone(workspace),
        open_ledger(workspace) as ledger,
    ):
        return _finish(workspace, ledger)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    with named_lock(workspace, "keys", wait=False) as holder:
        if holder:
            raise Unavailable(
                f"a key is being changed by another lazaretto process ({holder})",
                hint="wait until it has finished, then run the same command again",
            )
        yield


@contextmanager
def _changing(workspace: Workspace, name: str) -> Iterator[_Changing]:
    """Everything locked and finished, so that nothing is signed meanwhile."""
    if name not in WITNESS:
        raise UsageError(f"there is no key {name!r}", hint=f"the keys that sign: {', '.join(WITNESS)}")
    with ExitStack() as stack:
        stack.enter_context(writable(workspace.state))
        stack.enter_context(_alone(workspace))
        ledger = stack.enter_context(open_ledger(workspace))
        _finish(workspace, ledger)
        with ledger.reading() as session:
            datasets = find_datasets(workspace, session).planned
        for dataset in datasets:
            stack.enter_context(dataset_lock(workspace, dataset))
            if workspace.journal(dataset).exists():
                raise UsageError(
                    f"a publication of {dataset} was interrupted",
                    hint=f"lazaretto ingest --dataset {dataset} finishes it; then change the key",
                )
        checkpoint(ledger)
        with named_lock(workspace, CHECKPOINTS, wait=True):
            yield _Changing(workspace, ledger, datasets, name)
        checkpoint(ledger)


@dataclass(frozen=True)
class _Changing:
    """A change under way."""

    workspace: Workspace
    ledger: Ledger
    datasets: tuple[str, ...]
    name: str

    def pins(self) -> dict[str, list[Any]]:
        """The newest thing of each subject that the key has signed."""
        if self.name == AUDIT:
            with self.ledger.reading() as session:
                newest = sign_newest(self.workspace, session)
            return {WHOLE_LOG: [newest.size, newest.head]} if newest else {}
        return {dataset: [len(chain), chain[-1]] for dataset, chain in self._chains().items() if chain}

    def signed_by(self, moment: datetime) -> dict[str, int]:
        """Subject -> number of the last thing that was signed at a time or before.

        When something was signed, the audit log says: whoever has the key can write any time into what he signs.
        """
        with self.ledger.reading() as session:
            entries = [entry for entry, _ in read_audit(session)]
        if self.name == AUDIT:
            return {WHOLE_LOG: _until([entry.at for entry in entries], moment)}
        told = {
            entry.subject if entry.action == CONTRACT_SIGNED else entry.detail.get("attestation", ""): entry.at
            for entry in reversed(entries)
        }
        chains = self._chains().items()
        return {dataset: _until([told.get(digest, "") for digest in chain], moment) for dataset, chain in chains}

    def _chains(self) -> dict[str, list[str]]:
        """Data set -> digest of everything that the key signed for it."""
        if self.name == POLICY:
            return {
                dataset: [one.digest for one in read_statements(self.workspace, dataset).versions]
                for dataset in self.datasets
            }
        return {
            dataset: [entry.digest for entry in read_chain(self.workspace, dataset, sound=False).attestations]
            for dataset in self.datasets
        }

    def make(
        self,
        kind: str,
        why: str,
        now: datetime | None,
        *,
        pins: dict[str, list[Any]],
        **said: Any,  # noqa: ANN401  fields
    ) -> KeyRecord:
        """Sign the record, audit it, and let it count."""
        workspace, name = self.workspace, self.name
        old = signing_key(workspace, name)
        witness = signing_key(workspace, WITNESS[name])
        before = read_history(workspace)
        record = KeyRecord(
            workspace=workspace.id,
            number=len(before) + 1,
            previous=before[-1].digest if before else NOTHING,
            kind=kind,
            name=name,
            at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            by=acting(workspace).name,
            old=old.public_key().public_bytes_raw().hex(),
            new=old.public_key().public_bytes_raw().hex(),
            pins=pins,
            why=why,
            **said,
        )
        if kind != REATTESTED:
            new_private_key(workspace.keys / f"{name}{_NEXT}")
            key = private_key(workspace.keys, name, suffix=_NEXT)
            record = replace(record, new=key.public_key().public_bytes_raw().hex())
        make_folder(workspace.changing_keys.parent)
        write_durably(workspace.changing_keys, seal(record.payload(), RECORD_TYPE, old, witness))
        _carry_out(workspace, self.ledger, record)
        return record


def _until(times: list[str], moment: datetime) -> int:
    """How many from the start on are not after a moment; what follows one that is, or has no time, is in doubt."""
    count = 0
    for at in times:
        if not at or datetime.fromisoformat(at) > moment:
            break
        count += 1
    return count


def _finish(workspace: Workspace, ledger: Ledger) -> KeyRecord | None:
    path = workspace.changing_keys
    if not path.exists():
        return None
    record = record_of(path.read_text(encoding="utf-8"), str(path))
    history = read_history(workspace)
    if not history or history[-1].digest != record.digest:
        keys = {name: signers_of(workspace, name).current for name in (record.name, WITNESS[record.name])}
        payload = opened(path.read_bytes(), RECORD_TYPE, keys, str(path))
        previous = history[-1].digest if history else NOTHING
        if payload != record.payload() or (record.workspace, record.previous) != (workspace.id, previous):
            raise IntegrityViolated(f"{path} is no change of a key that follows from those before it")
    with named_lock(workspace, CHECKPOINTS, wait=True):
        _carry_out(workspace, ledger, record)
    checkpoint(ledger)
    return record


def _carry_out(workspace: Workspace, ledger: Ledger, record: KeyRecord) -> None:
    """Do what a signed change says, leaving out what is done already."""
    with ledger.writing() as session:
        append_once(session, entry_of(record))
    envelopes = read_envelopes(workspace)
    if len(envelopes) < record.number:
        envelopes = [*envelopes, workspace.changing_keys.read_text(encoding="utf-8")]
    for path in (history_file(workspace), workspace.keys / HISTORY):
        make_folder(path.parent)
        write_durably(path, envelope_texts(envelopes), mode=file_mode_like(path.parent))
    waiting = workspace.keys / f"{record.name}{_NEXT}"
    if record.old != record.new and waiting.exists():
        if private_key(workspace.keys, record.name, suffix=_NEXT).public_key().public_bytes_raw().hex() != record.new:
            raise IntegrityViolated(f"{waiting} is not the key that the history of keys names")
        waiting.replace(workspace.keys / f"{record.name}.key")
    workspace.changing_keys.unlink()


def entry_of(record: KeyRecord) -> Entry:
    """The audit entry of a change."""
    detail: dict[str, Any] = {"name": record.name, "number": record.number}
    if record.kind == REVOKED:
        detail["since"] = record.since
    detail["reason"] = digest_of(record.why)
    return Entry(0, record.at, record.by, f"key.{record.kind}", "", record.digest, detail)


@dataclass(frozen=True)
class KeyState:
    """One key that signs."""

    name: str
    generations: int
    """How many keys there were."""
    current: str
    """The key in use, raw, hexadecimal."""
    here: bool
    """Whether its private key is on this machine."""
    since: str
    """When it was made; empty for the first."""
    doubtful: Mapping[str, int]
    """Subject -> how many of its signatures a stolen key may have made, for which nobody vouched."""


def list_keys(workspace: Workspace) -> tuple[KeyState, ...]:
    """Every key that signs, as far as its public key is on this machine."""
    history = read_history(workspace)
    found = []
    for name in WITNESS:
        if not (workspace.keys / f"{name}.pub").exists():
            continue
        signers = signers_of(workspace, name)
        current = signers.current.public_bytes_raw().hex()
        made = [record.at for record in history if record.name == name and record.kind in {ROTATED, REVOKED}]
        subjects = {subject for generation in signers.generations for subject in generation.until or {}}
        doubtful = {subject: _doubted(signers, subject) for subject in sorted(subjects)}
        here = (workspace.keys / f"{name}.key").exists()
        here = here and private_key(workspace.keys, name).public_key().public_bytes_raw().hex() == current
        found.append(
            KeyState(
                name, len(signers.generations), current, here, made[-1] if made else "",
                {subject: count for subject, count in doubtful.items() if count},
            )
        )  # fmt: skip
    return tuple(found)


def _doubted(signers: Signers, subject: str) -> int:
    reach = max(pin.number for pin in signers.pins(subject))
    return sum(signers.doubtful(subject, number) is not None for number in range(1, reach + 1))
