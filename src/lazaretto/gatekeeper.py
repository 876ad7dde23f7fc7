"""The gate: says yes to a store version only when every byte's account holds; anything else is a no with its reason.

It checks signatures and links of all attestations, that the Delta log is commit for commit the attested one, that its
active files are exactly the attested ones with the attested sizes, on the disk too, that no newer state was seen
before, and, where contracts are signed, that the records were judged by one that was. It does not hash the data: the
loader does, byte for byte, as it reads; ``verify`` does for the whole store.

The module is not called ``gate`` because the package offers a function of that name.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lazaretto import attest
from lazaretto.entrance import enter
from lazaretto.errors import Blocked, IntegrityViolated, LazarettoError, UsageError
from lazaretto.key_history import signers_of
from lazaretto.keys import PUBLISHER
from lazaretto.observed import STALE, note_refusal, reason_of
from lazaretto.operation import operation
from lazaretto.seen import check_seen
from lazaretto.signed_contract import check_contracts
from lazaretto.table import LOG, active_files, open_table
from lazaretto.timespan import timespan

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.attest import Attestation, Chain
    from lazaretto.config import Workspace

_HINT = "do not train on it; lazaretto verify says what is wrong"
_CLOCK_SKEW = timedelta(minutes=10)
_TRIES = 3
_RUN_LENGTH = 200
"""Longest id of a training run: what the ledger's column holds."""


def gate(
    dataset: str,
    *,
    version: int | None = None,
    max_age: timedelta | str | None = None,
    batch: str | None = None,
    run: str | None = None,
    workspace: Workspace | str | Path | None = None,
    now: datetime | None = None,
) -> Attestation:
    """Let a training job pass, or raise; gives the attestation of the store version it may read.

    Args:
        dataset: The data set.
        version: A store version; the newest by default.
        max_age: How old that version's attestation may be; a span, or text such as ``24h``.
        batch: Also require that this batch was let in and that any of its records are in that version; some of them
            may wait in quarantine or have been recalled.
        run: Id of a training run; recorded in ledger and audit log as a reader of that version.
        workspace: The workspace or its folder; found from the current folder by default.
        now: The time; the clock's by default.

    Raises:
        Blocked: Nothing was admitted, the version is unknown, too old or holds recalled records, the batch is held or
            not there.
        IntegrityViolated: Store or attestations are not what was signed.
        UsageError: No workspace, its public key is missing, or the run's id is none.
        Forbidden: The workspace has accounts, and whoever asks is not known there or may not ask.
    """
    oldest = timespan(max_age) if isinstance(max_age, str) else max_age
    place = enter(workspace, "gate.ask", dataset)
    return passed(place, dataset, version=version, max_age=oldest, batch=batch, run=run, now=now)


def passed(
    place: Workspace,
    dataset: str,
    *,
    version: int | None = None,
    max_age: timedelta | None = None,
    batch: str | None = None,
    run: str | None = None,
    now: datetime | None = None,
) -> Attestation:
    """As `gate`, to whoever came in already."""
    if run is not None:
        _check_run(run)
    moment = now or datetime.now(UTC)
    with operation(place, "gate", dataset=dataset, batch=batch, version=version) as told:
        try:
            attestation = answer(place, dataset, version=version, max_age=max_age, batch=batch, now=moment)
            if run is not None:
                from lazaretto.ledger import record_run

                record_run(place, attestation, run, moment.isoformat(timespec="seconds"))
        except LazarettoError as error:
            told.note(answer="no", reason=reason_of(error))
            note_refusal(place, dataset, error, moment)
            raise
        told.note(answer="yes", version=attestation.version, epoch=attestation.epoch, records=attestation.active_rows)
    return attestation


def answer(
    workspace: Workspace,
    dataset: str,
    *,
    version: int | None = None,
    max_age: timedelta | None = None,
    batch: str | None = None,
    now: datetime | None = None,
) -> Attestation:
    """What the gate says, told to nobody and not counted: for those who look, not for those who train.

    Arguments and errors as for `gate`.
    """
    chain = require(workspace, dataset)
    attestation = chain.head if version is None else chain.at(version)
    if attestation is None:
        raise _no_such_version(chain, version)
    if chain.head is not attestation:
        _check_active(workspace, chain, attestation)
    _check_recalled(chain, attestation)
    _check_age(attestation, max_age, now or datetime.now(UTC))
    if batch is not None and not chain.holds(attestation, batch):
        from lazaretto.blocked import batch_not_there

        raise batch_not_there(workspace, chain, batch, attestation)
    return attestation


def require(workspace: Workspace, dataset: str) -> Chain:
    """The data set's attestations, once the store is known to be exactly what the newest one says.

    Raises:
        Blocked: Nothing was ever admitted, or a publication is under way.
        IntegrityViolated: Store or attestations are not what was signed.
    """
    chain = _read(workspace, dataset)
    for _ in range(_TRIES):
        try:
            check_store(workspace, chain)
            break
        except IntegrityViolated:
            # A publication may have ended between reading the attestations and looking at the store.
            again = _read(workspace, dataset)
            if len(again.attestations) == len(chain.attestations):
                if workspace.journal(dataset).exists():
                    raise Blocked(
                        f"a publication of {dataset} is under way or was interrupted",
                        hint="wait a moment; if nothing is running, lazaretto ingest finishes it",
                        reason="under_way",
                    ) from None
                raise
            chain = again
    check_seen(workspace, chain)
    if chain.head is None:
        from lazaretto.blocked import nothing_admitted

        raise nothing_admitted(workspace, dataset)
    check_contracts(workspace, chain)
    return chain


def _read(workspace: Workspace, dataset: str) -> Chain:
    signers = signers_of(workspace, PUBLISHER, remember=True)
    chain = attest.verify(workspace.attestations(dataset), workspace.id, dataset, signers)
    signers.require_sound(dataset, len(chain.attestations))
    return chain


def check_store(workspace: Workspace, chain: Chain) -> None:
    """Refuse a store that is not, commit for commit and file for file, the one the newest attestation describes.

    Raises:
        IntegrityViolated: It is not.
    """
    folder, head = workspace.store(chain.dataset), chain.head
    if head is None:
        return  # nothing to say yes to, whatever lies there
    expected = {f"{commit.version:020}.json": commit.sha256 for entry in chain.attestations for commit in entry.log}
    log = folder / LOG
    found = {path.name for path in log.iterdir()} if log.is_dir() else set()
    for name in sorted(found ^ set(expected)):
        what = "was never attested" if name in found else "is missing"
        raise IntegrityViolated(f"commit {name} of the store {folder} {what}", hint=_HINT)
    for name, sha256 in expected.items():
        try:
            same = hashlib.sha256((log / name).read_bytes()).hexdigest() == sha256
        except OSError as error:
            raise IntegrityViolated(f"{log / name} cannot be read: {error.strerror}", hint=_HINT) from error
        if not same:
            raise IntegrityViolated(f"commit {name} of the store {folder} was altered", hint=_HINT)
    _check_active(workspace, chain, head)


def _check_active(workspace: Workspace, chain: Chain, attestation: Attestation) -> None:
    """Refuse a version whose files, as the Delta log has them and as they lie on the disk, are not the attested."""
    folder = workspace.store(chain.dataset)
    attested = {path: file.size for path, file in chain.files(attestation.epoch).items()}
    table = open_table(folder, attestation.version)
    if table is None or table.version() != attestation.version or active_files(table) != attested:
        where = f"version {attestation.version} of the store {folder}"
        raise IntegrityViolated(f"{where} is not made of the files that were attested", hint=_HINT)
    for path, size in attested.items():
        file = folder / path
        if not file.is_file() or file.stat().st_size != size:
            raise IntegrityViolated(f"store file {file} is missing or has another size than attested", hint=_HINT)


def _check_run(run: str) -> None:
    if not run.strip() or len(run) > _RUN_LENGTH or not run.isprintable():
        raise UsageError(
            f"{run[:40]!r} is no id of a training run",
            hint=f"1 to {_RUN_LENGTH} printable characters, not all of them blank",
        )


def _check_recalled(chain: Chain, attestation: Attestation) -> None:
    recall = chain.recalled(attestation)
    if recall is not None:
        raise Blocked(
            f"version {attestation.version} of {chain.dataset} holds records that were recalled {recall.issued_at}"
            f" ({recall.unit})",
            hint="train on the newest version; lazaretto recall --list says what was taken out, and why",
            reason="recalled",
        )
    if attestation.active_rows == 0:
        raise Blocked(
            f"version {attestation.version} of {chain.dataset} holds no records: all were recalled",
            hint="lazaretto recall --list says why; ingest other data",
            reason="recalled",
        )


def _no_such_version(chain: Chain, version: int | None) -> Blocked:
    known = [str(attestation.version) for attestation in chain.attestations]
    newest = ", ".join(known[-10:])
    return Blocked(
        f"version {version} of {chain.dataset} was never published",
        hint=f"the newest published versions: {newest}",
        reason="unknown_version",
    )


def _check_age(attestation: Attestation, max_age: timedelta | None, now: datetime) -> None:
    if max_age is None:
        return
    age = now - datetime.fromisoformat(attestation.issued_at)
    what = f"version {attestation.version} of {attestation.dataset} was published {attestation.issued_at}"
    if age > max_age:
        said = f"{what}, longer ago than the {max_age} allowed"
        raise Blocked(said, hint="ingest newer data, or allow more", reason=STALE)
    if age < -_CLOCK_SKEW:
        raise Blocked(f"{what}, which is in the future", hint="set this machine's clock", reason="clock")
