"""What a recall takes out: the records of a source, of a batch, with certain ids, or all that came after a version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from lazaretto.errors import UsageError
from lazaretto.records import RECORD_ID
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
            return None if not self._before(chain).isdisjoint(chain.lineage(path)) else pl.lit(value=True)
        if contract.source is None:
            raise UsageError(
                f"the contract of {contract.dataset} names no source",
                hint="recall by batch or by records, or name the column with 'source:'",
            )
        return (pl.col(contract.source).cast(pl.String) == self.value).fill_null(value=False)

    def absent(self, taken: pl.Series) -> tuple[str, ...]:
        """Of the listed ids, in order, those that are not among these records'."""
        return tuple(sorted(self.ids.difference(taken.to_list())))

    def columns(self, contract: Contract) -> list[str]:
        """The store columns that `taken` reads."""
        return [BATCH_ID, RECORD_ID, *([contract.source] if self.kind == "source" and contract.source else [])]

    def _before(self, chain: Chain) -> set[str]:
        if self.value == "0":
            return set()  # the empty table: everything came after it
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

    Blanks around an id and a byte order mark are the file's, not the id's.

    Raises:
        UsageError: It cannot be read, is too large, or lists nothing.
    """
    try:
        with path.open("rb") as source:
            content = source.read(_LARGEST + 1)  # the size of a pipe or a device says nothing
        if len(content) > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB", hint="recall in several pieces")
        ids = _ids(content, path.suffix.lower())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(
            f"{path} holds no list of record ids: {first}",
            hint="one id a line, or a Parquet or CSV file with a column record_id",
        ) from error
    chosen = frozenset(text.strip() for text in ids if text.strip())
    if not chosen:
        raise UsageError(f"{path} lists no record ids", hint="one id a line; verdicts.parquet has them")
    return Selection("records", hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest(), chosen)


def _ids(content: bytes, suffix: str) -> list[str]:
    if suffix == ".parquet":
        return pl.read_parquet(content, columns=["record_id"])["record_id"].cast(pl.String).drop_nulls().to_list()
    text = content.decode("utf-8-sig")
    if suffix == ".csv":
        return pl.read_csv(text.encode(), columns=["record_id"], infer_schema=False)["record_id"].drop_nulls().to_list()
    return text.splitlines()
