"""The newest attestation a reader has seen: whoever saw epoch 7 does not accept 6 as the newest again.

A store, its log and its attestations can be put back to an older state, all of them together and every signature
valid. Only a memory kept elsewhere notices: a small file in the reader's own cache folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.durable import write_durably
from lazaretto.errors import IntegrityViolated, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.attest import Chain
    from lazaretto.config import Workspace


def memory_file(workspace: Workspace, dataset: str) -> Path:
    """Where the newest attestation seen is remembered: below ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    return _folder(workspace) / f"{dataset}.json"


def check_seen(workspace: Workspace, chain: Chain, *, remember: bool = True) -> None:
    """Refuse a chain that is older than, or not a continuation of, the one seen last; then remember this one.

    Args:
        workspace: Where the chain is from.
        chain: A data set's attestations.
        remember: Whether to remember it; else nothing is written.

    Raises:
        IntegrityViolated: The store was put back, or its history written anew.
        UsageError: The memory cannot be read or written: the next putting back would go unnoticed.
    """
    digests = [attestation.digest for attestation in chain.attestations]
    _check(memory_file(workspace, chain.dataset), _Seen(chain.dataset, "the store", digests), remember=remember)


def check_seen_contracts(workspace: Workspace, dataset: str, digests: Sequence[str], *, remember: bool = True) -> None:
    """The same of a data set's signed contracts, given their digests, oldest first."""
    path = _folder(workspace) / "contracts" / f"{dataset}.json"
    _check(path, _Seen(f"the signed contract of {dataset}", "it", digests), remember=remember)


def check_seen_keys(workspace: Workspace, digests: Sequence[str], *, remember: bool = True) -> None:
    """The same of the history of keys; a machine without a rotation writes nothing."""
    path = _folder(workspace) / "keys" / "history.json"
    _check(path, _Seen("the history of keys", "it", digests), remember=remember)


@dataclass(frozen=True)
class _Seen:
    """What is looked at."""

    name: str
    thing: str
    digests: Sequence[str]


def _folder(workspace: Workspace) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lazaretto" / "seen" / workspace.id


def _check(path: Path, seen: _Seen, *, remember: bool) -> None:
    epoch, digest = _read(path)
    newest = len(seen.digests)
    if newest < epoch:
        raise IntegrityViolated(
            f"{seen.name} ends at epoch {newest}, but epoch {epoch} was seen here before: {seen.thing} was put back",
            hint=f"if that was on purpose, remove {path}",
        )
    if epoch and seen.digests[epoch - 1] != digest:
        raise IntegrityViolated(
            f"epoch {epoch} of {seen.name} is another than the one seen here before: its history was written anew",
            hint=f"if that was on purpose, remove {path}",
        )
    if remember and newest > epoch:
        content = {"epoch": newest, "attestation": seen.digests[-1]}
        try:
            write_durably(path, json.dumps(content).encode() + b"\n", unlocked=True)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written ({error.strerror}): what was seen would be forgotten",
                hint="set XDG_CACHE_HOME to a folder that lasts and can be written",
            ) from error


def _read(path: Path) -> tuple[int, str]:
    try:
        content = json.loads(path.read_bytes())
        return int(content["epoch"]), str(content["attestation"])
    except FileNotFoundError:
        return 0, ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="remove it if nothing was tampered with") from error
