"""Signed contracts: which contract is in force for a data set, said by whoever holds the policy key.

Each version that was signed is an in-toto Statement v1 in a DSSE envelope and names the one before it. It binds the
contract file byte for byte, what the contract says (`Contract.digest`), its policy, and the files of its trusted set.
An attestation names the statement under which its records were judged. A data set of which nothing was ever signed is
as before, unless ``lazaretto.toml`` says that contracts must be signed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.attest import NOTHING, PAYLOAD_TYPE, STATEMENT_TYPE, canonical_json, numbered, unseal
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.key_history import signers_of
from lazaretto.keys import POLICY
from lazaretto.seen import check_seen_contracts

if TYPE_CHECKING:
    from lazaretto.attest import Attestation, Chain
    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.signers import Signers

PREDICATE_TYPE = "urn:lazaretto:contract:v1"
STATEMENT = "signed_contract"
"""Name of the digest by which an attestation says under which statement its records were judged."""
_SIGN = "have whoever holds the policy key look at it, then: lazaretto contract sign {}"


@dataclass(frozen=True)
class SignedContract:
    """One version of a contract that was signed."""

    workspace: str
    dataset: str
    epoch: int
    """1 for the first that was signed, then one more each time."""
    previous: str
    """Digest of the statement before this one."""
    file: str
    """SHA-256 of the contract file, byte for byte."""
    contract: str
    """`Contract.digest`."""
    policy: str
    """SHA-256 of its policy alone."""
    trusted: str
    """`trusted_digest`; empty where the contract names no trusted set."""
    after: int
    """Epoch of the newest attestation when it was signed: those up to the first statement's were made before."""
    at: str
    """UTC, ISO 8601."""
    by: str

    @property
    def said(self) -> dict[str, str]:
        """What an attestation of records that were judged by it says, too."""
        found = {"contract": self.contract, "policy": self.policy}
        return {**found, "trusted": self.trusted} if self.trusted else found

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the signed payload."""
        return hashlib.sha256(self.payload()).hexdigest()

    def payload(self) -> bytes:
        """The in-toto statement, canonical JSON."""
        subject = {"name": f"contracts/{self.dataset}.yaml", "digest": {"sha256": self.file}}
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": [subject],
            "predicateType": PREDICATE_TYPE,
            "predicate": asdict(self),
        }
        return canonical_json(statement)


def parse_statement(payload: bytes, where: str) -> SignedContract:
    """A statement from its signed bytes.

    Raises:
        IntegrityViolated: They are those of something else.
    """
    try:
        content: dict[str, Any] = json.loads(payload)
        statement = SignedContract(**content["predicate"])
        same = statement.payload() == payload and isinstance(statement.epoch, int) and isinstance(statement.after, int)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityViolated(f"{where} is no signed contract") from error
    if not same:
        raise IntegrityViolated(f"{where} is no signed contract")
    return statement


@dataclass(frozen=True)
class Statements:
    """The versions of a data set's contract that were signed, oldest first, verified together."""

    dataset: str
    versions: tuple[SignedContract, ...]
    signers: Signers | None
    """None where nothing was signed, and no policy key is needed."""

    def stands(self, statement: SignedContract) -> bool:
        """Whether it counts: not signed with a stolen key, or the same was signed again since with another."""
        signers = self.signers
        return signers is None or any(
            later.said == statement.said and signers.doubtful(self.dataset, later.epoch) is None
            for later in self.versions[statement.epoch - 1 :]
        )

    def in_force(self) -> SignedContract | None:
        """The newest; None where nothing was signed.

        Raises:
            IntegrityViolated: It was signed with a key that was stolen.
        """
        newest = self.versions[-1] if self.versions else None
        if newest is not None and not self.stands(newest):
            raise IntegrityViolated(
                f"the contract of {self.dataset} in force was signed with a policy key that was revoked as stolen",
                hint=_SIGN.format(self.dataset),
            )
        return newest


def read_statements(workspace: Workspace, dataset: str, *, remember: bool = False) -> Statements:
    """A data set's signed contracts.

    Args:
        workspace: Whose.
        dataset: The data set.
        remember: Whether this machine remembers how many there were, so that a later putting back is noticed.

    Raises:
        IntegrityViolated: One is missing, altered, moved, forged, or does not fit the one before it.
    """
    paths = numbered(workspace.signed_contracts(dataset), f"signed contract {{}} of {dataset}")
    signers = signers_of(workspace, POLICY) if paths else None
    versions: list[SignedContract] = []
    for number, path in enumerate(paths, start=1):
        assert signers is not None  # noqa: S101  there are paths
        payload = unseal(path, PAYLOAD_TYPE, signers.key(dataset, number), "policy")
        statement = parse_statement(payload, str(path))
        previous = versions[-1].digest if versions else NOTHING
        mine = (workspace.id, dataset, number, previous)
        if (statement.workspace, statement.dataset, statement.epoch, statement.previous) != mine:
            raise IntegrityViolated(f"signed contract {path} does not follow the one before it")
        versions.append(statement)
    digests = [statement.digest for statement in versions]
    if signers is not None:
        signers.check_pins(dataset, digests)
    check_seen_contracts(workspace, dataset, digests, remember=remember)
    return Statements(dataset, tuple(versions), signers)


def check_contracts(workspace: Workspace, chain: Chain, *, remember: bool = True) -> Statements:
    """Refuse data that was not judged by a signed contract, where contracts are signed.

    Args:
        workspace: Whose.
        chain: A data set's attestations.
        remember: As for `read_statements`.

    Raises:
        IntegrityViolated: An attestation's contract was never signed, or the contract file is not the signed one.
    """
    dataset = chain.dataset
    statements = read_statements(workspace, dataset, remember=remember)
    newest = statements.in_force()
    judged = [entry for entry in chain.attestations if "contract" in entry.digests]
    if newest is None:
        if named := next((entry for entry in judged if STATEMENT in entry.digests), None):
            raise IntegrityViolated(
                f"the signed contract that attestation {named.epoch} of {dataset} names is gone",
                hint=f"restore {workspace.signed_contracts(dataset)} from a backup",
            )
        if workspace.require_signed_contract:
            raise IntegrityViolated(f"the contract of {dataset} was never signed", hint=_SIGN.format(dataset))
        return statements
    for entry in judged:
        if entry.epoch > statements.versions[0].after or STATEMENT in entry.digests:
            _check_attested(statements, entry)
    check_file(workspace, newest)
    return statements


def _check_attested(statements: Statements, entry: Attestation) -> None:
    named = entry.digests.get(STATEMENT, "")
    statement = next((one for one in statements.versions if one.digest == named), None)
    what = f"attestation {entry.epoch} of {entry.dataset}"
    if statement is None or {name: entry.digests.get(name) for name in statement.said} != statement.said:
        raise IntegrityViolated(
            f"{what} is of records that were judged by a contract that was never signed",
            hint="do not train on it; lazaretto recall takes them out",
        )
    if not statements.stands(statement):
        raise IntegrityViolated(
            f"{what} is of records judged by a contract that was signed with a policy key revoked as stolen",
            hint="sign that version again if it is sound, or take the records out with lazaretto recall",
        )


def check_file(workspace: Workspace, statement: SignedContract) -> None:
    """Refuse a contract file that is not the signed one.

    Raises:
        IntegrityViolated: It differs, or cannot be read.
    """
    path = workspace.contract(statement.dataset)
    try:
        same = hashlib.sha256(path.read_bytes()).hexdigest() == statement.file
    except OSError as error:
        raise IntegrityViolated(f"contract {path}, which was signed, cannot be read: {error.strerror}") from error
    if not same:
        raise IntegrityViolated(
            f"contract {path} is not the one that was signed {statement.at} by {statement.by}",
            hint=f"put the signed one back, or {_SIGN.format(statement.dataset)}",
        )


def judged_by(workspace: Workspace, contract: Contract) -> dict[str, str]:
    """The digests by which an attestation says what its records were judged by; refuses an unsigned contract.

    Raises:
        IntegrityViolated: A contract was signed, and this one, or its trusted set, is another.
        UsageError: None was signed, and ``lazaretto.toml`` says that it must be.
    """
    digests = contract_digests(contract)
    statement = read_statements(workspace, contract.dataset).in_force()
    if statement is None:
        if workspace.require_signed_contract:
            raise UsageError(
                f"the contract of {contract.dataset} is not signed, and lazaretto.toml says that it must be",
                hint=_SIGN.format(contract.dataset),
            )
        return digests
    check_file(workspace, statement)
    if digests != statement.said:
        changed = next(
            name for name in ("contract", "policy", "trusted") if digests.get(name) != statement.said.get(name)
        )
        what = {"trusted": "trusted set"}.get(changed, changed)
        raise IntegrityViolated(
            f"the {what} of {contract.dataset} is not the one that was signed {statement.at} by {statement.by}",
            hint=f"put the signed one back, or {_SIGN.format(contract.dataset)}",
        )
    return {**digests, STATEMENT: statement.digest}


def contract_digests(contract: Contract) -> dict[str, str]:
    """SHA-256 of the contract, of its policy alone, and of the trusted set it names."""
    policy = json.dumps(contract.policy.model_dump(mode="json"), sort_keys=True).encode()
    found = {"contract": contract.digest, "policy": hashlib.sha256(policy).hexdigest()}
    trusted = trusted_digest(contract)
    return {**found, "trusted": trusted} if trusted else found


def trusted_digest(contract: Contract) -> str:
    """SHA-256 (hex) over names and digests of the trusted files; empty where the contract names none.

    Raises:
        UsageError: A trusted file cannot be read.
    """
    if contract.trusted is None or contract.path is None:
        return ""
    base, lines = contract.path.parent, []
    # Of the folder's own name nothing is a pattern, whatever characters it has.
    pattern = os.path.join(glob.escape(str(base)), contract.trusted)  # noqa: PTH118  a Path would drop the escapes
    whole = os.path.lexists(base / contract.trusted)
    for name in [str(base / contract.trusted)] if whole else sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        path = Path(name)
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            if file.is_dir():
                continue
            try:
                with file.open("rb") as source:
                    digest = hashlib.file_digest(source, "sha256").hexdigest()
            except OSError as error:
                raise UsageError(f"trusted file {file} cannot be read: {error.strerror}") from error
            lines.append(f"{file.relative_to(path.parent)}\0{digest}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
