"""Why a record was held: one piece of evidence per detector that spoke, and the verdict they add up to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Decision = Literal["admit", "quarantine", "reject"]


@dataclass(frozen=True)
class Evidence:
    """What one detector says about one record."""

    detector: str
    score: float
    """The detector's own scale; higher is more suspicious."""
    p_value: float
    """Probability of such a score for a clean record, from the detector's robust tail; an estimate."""
    why: str
    """A sentence an analyst can check against the record."""


def dump_evidence(evidence: list[Evidence]) -> str:
    """JSON text for the ledger and ``evidence.parquet``; floats are rounded to what a person can use."""
    return json.dumps(
        [{**asdict(e), "score": round(e.score, 4), "p_value": float(f"{e.p_value:.3g}")} for e in evidence]
    )


def load_evidence(text: str) -> list[Evidence]:
    """The inverse of `dump_evidence`."""
    return [Evidence(**item) for item in json.loads(text)]
