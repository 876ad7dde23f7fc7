"""Great Expectations Data Docs of some files under a contract, on demand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.expectations.check import check
from lazaretto.expectations.docs import data_docs
from lazaretto.pipelines.confine import parse_confined
from lazaretto.pipelines.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lazaretto.contract import Contract


def write_data_docs(contract: Contract, files: Sequence[str], into: Path, made: datetime) -> Path:
    """Validate files and write the page that says how each expectation fared; gives its path.

    Raises:
        InputRefused: A file is no data file.
        UsageError: A file is missing.
    """
    with tempfile.TemporaryDirectory(prefix="lazaretto-") as name:
        work = Path(name)
        parsed = parse_confined(snapshot(files, contract.dataset, work / "snapshot"), contract, work)
        return data_docs(check(parsed.partitions, contract, work), into, made)
