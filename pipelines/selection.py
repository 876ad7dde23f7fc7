"""What a recall takes out: the records of a source, of a batch, with certain ids, or all that came after a version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from lazaretto.attest import RECALL
from lazaretto.errors import UsageError
from lazaretto.records import RECORD_ID
from lazaretto.retraction import origin
from lazaretto.store import BATCH_ID

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.attest import Chain
    from lazaretto.contract import Contract

Kind = Literal["source", "batch", "records", "finding", "after"]
_LARGEST = 1 << 28
"""Bytes of a list of ids at most."""


@dataclass(frozen=True)
class Selection:
    """Which admitted records are meant."""

    kind: Kind
    value: str
    """Name of the source, id of the batch or the finding, number of the version; of single records a digest of ids."""
    ids: frozenset[str] = frozenset()
    """Of records; of a finding the batch before each, with a blank between."""

    @property
    def told(self) -> dict[str, str]:
        """For plan and ledger."""
        return {"by": self.kind, "value": self.value}

    @property
    def said(self) -> str:
        """In words."""
        return {
            "source": f"of source {self.value!r}",
            "batch": f"of batch {self.value}",
            "records": f"among the {len(self.ids):,} listed",
            "finding": f"that carry {self.value}",
            "after": f"that came after version {self.value}",
        }[self.kind]

    def taken(self, chain: Chain, contract: Contract, path: str) -> pl.Expr | None:
        """Which records of an active file are meant; None where none can be.

        Raises:
            UsageError: The contract names no source, or the version was never published.
        """
        if self.kind == "batch":
            return pl.col(BATCH_ID) == self.value
        if self.kind == "records":
            return pl.col(RECORD_ID).is_in(pl.Series(sorted(self.ids), dtype=pl.String).implode())
        if self.kind == "finding":
            of_batch = pl.concat_str(BATCH_ID, pl.lit(" "), RECORD_ID)
            return of_batch.is_in(pl.Series(sorted(self.ids), dtype=pl.String).implode())
        if self.kind == "after":
            return None if _lineage(chain, path) & self._before(chain) else pl.lit(value=True)
        if contract.source is None:
            raise UsageError(
                f"the contract of {contract.dataset} names no source",
                hint="recall by batch or by records, or name the column with 'source:'",
            )
        return (pl.col(contract.source).cast(pl.String) == self.value).fill_null(value=False)

    def columns(self, contract: Contract) -> list[str]:
        """The store columns that `taken` reads."""
        return [BATCH_ID, RECORD_ID, *([contract.source] if self.kind == "source" and contract.source else [])]

    def _before(self, chain: Chain) -> set[str]:
        attestation = chain.at(int(self.value))
        if attestation is None:
            known = ", ".join(str(entry.version) for entry in chain.attestations[-10:])
            raise UsageError(
                f"version {self.value} of {chain.dataset} was never published",
                hint=f"the newest published versions: {known}",
            )
        return set(chain.files(attestation.epoch))


def carrying(finding: str, carriers: pl.DataFrame) -> Selection:
    """The records that carry a finding, by ``batch`` and ``record_id``: an id may come again in another batch."""
    pairs = carriers.select(pl.concat_str("batch", pl.lit(" "), "record_id")).to_series()
    return Selection("finding", finding, frozenset(pairs.to_list()))


def listed(path: Path) -> Selection:
    """The records whose ids stand in a file, one a line, or in the column ``record_id`` of a Parquet or CSV file.

    Raises:
        UsageError: It cannot be read, is too large, or lists nothing.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB", hint="recall in several pieces")
        if path.suffix == ".parquet":
            ids = pl.read_parquet(path, columns=["record_id"])["record_id"].cast(pl.String).drop_nulls().to_list()
        elif path.suffix == ".csv":
            ids = pl.read_csv(path, columns=["record_id"], infer_schema=False)["record_id"].drop_nulls().to_list()
        else:
            ids = [line.strip("\r\n") for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(
            f"{path} holds no list of record ids: {first}",
            hint="one id a line, or a Parquet or CSV file with a column record_id",
        ) from error
    chosen = frozenset(text for text in ids if text)
    if not chosen:
        raise UsageError(f"{path} lists no record ids", hint="one id a line; verdicts.parquet has them")
    return Selection("records", hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest(), chosen)


def _lineage(chain: Chain, path: str) -> set[str]:
    return set(lineage(chain, path))


def lineage(chain: Chain, path: str) -> list[str]:
    """A store file and what it is a remainder of, back to the file in which its records were admitted."""
    made = {file.path: entry for entry in chain.attestations if entry.kind == RECALL for file in entry.added}
    found = [path]
    while found[-1] in made:
        found.append(origin(found[-1], made[found[-1]].removed))
    return found
