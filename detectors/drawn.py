"""Which records do what: fit, judge each other fold by fold, or calibrate; and whether there are enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL, Views
from lazaretto.detectors.panel import fold_of
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.contract import Policy

_FOLDS = 5
_FOLDS_OF_MANY = 2
MANY_ROWS = 10_000
"""More fitted records are judged in fewer folds, and learnt from in fewer passes."""
FEWEST_OF_A_CLASS = 5
"""Without a trusted set a label that fewer records have is nobody's to vouch for: it is unknown, and waits."""
FEWEST_SCORES = 20
"""What a `Tail` is fitted on at least."""
_REFERENCE_SHARE = 2
"""One trusted record in this many joins the fit; the others are held out for calibration."""


@dataclass(frozen=True)
class Drawn:
    """The records drawn for each purpose."""

    fitted: Views
    folds: int
    which: NDArray[np.int64]
    """(fitted,) fold of each record."""
    is_reference: NDArray[np.bool_]
    """(fitted,) whether it is a trusted record."""
    calibration: Views | None
    """Trusted records that no fit sees; None without a trusted set."""
    fewest: int | None
    """Calibrating records that a class needs to be calibrated by itself; None where all are calibrated together."""
    shown: NDArray[np.bool_]
    """(folds, fitted) whether a fold's state is fitted on the record: it is of another fold, and the first of those
    that look the same and have the same label. A flood of copies is one witness, however many they are."""
    trusted_rows: NDArray[np.int64]
    """(trusted,) place in the trusted set of those in the fit, then of those that calibrate."""

    @classmethod
    def of(cls, base: Views, batch: int, policy: Policy) -> Drawn:
        """Draw from the batch's records, the first ``batch`` of ``base``, and the trusted records after them."""
        held_out = np.zeros(len(base), dtype=bool)
        rate = policy.false_quarantine_rate
        per_class = policy.calibration == "per_class" and len(base.classes) > 0
        if len(base) > batch:
            held_out[batch:] = base.keys[batch:] % np.uint64(_REFERENCE_SHARE) != 0
            _require_enough(int(held_out.sum()), len(base) - batch, rate)
            if per_class:  # a record without a class calibrates none
                _require_enough(int((held_out & (base.labels != UNKNOWN_LABEL)).sum()), len(base) - batch, rate)
        fitted = base.take(~held_out)
        folds = _FOLDS if len(fitted) <= MANY_ROWS else _FOLDS_OF_MANY
        calibration = base.take(held_out) if len(base) > batch else None
        is_reference = np.flatnonzero(~held_out) >= batch
        fewest = _fewest_calibrating(rate) if per_class else None
        rows = np.argsort(held_out[batch:], kind="stable")
        which = fold_of(fitted.keys, folds)
        shown = np.stack([_once(fitted, which != number) for number in range(folds)])
        return cls(fitted, folds, which, is_reference, calibration, fewest, shown, rows)


def require_trusted(policy: Policy, *, given: bool) -> None:
    """Refuse to calibrate class by class without a trusted set.

    A tail estimated from the batch assumes that less than a tenth of what it is fitted on is poison. Of a whole batch
    that can be hoped for; of one class a backdoor with a hundredth of the batch is easily a tenth or more.

    Raises:
        UsageError: The policy wants it, and no trusted set is given.
    """
    if policy.calibration == "per_class" and not given:
        raise UsageError(
            "policy.calibration is per_class, and there is no trusted set to calibrate each class on",
            hint="name records known good with 'trusted' in the contract or --trusted, or calibrate together",
        )


def _once(views: Views, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(rows,) which records inside are the first there with their looks and label."""
    rows = np.flatnonzero(inside)
    if "looks" not in views:
        return inside
    pairs = np.stack([views["looks"][rows], views.labels[rows].astype(np.uint64)], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    shown = np.zeros(len(views), dtype=np.bool_)
    shown[rows[first]] = True
    return shown


def _fewest_calibrating(rate: float) -> int:
    """Calibrating records from which on a p-value can be as small as the rate."""
    return int(np.ceil(1 / rate)) - 1


def _require_enough(calibration: int, trusted: int, rate: float) -> None:
    least = _fewest_calibrating(rate) + 1
    # Which half calibrates follows from the records' content: this many leave enough 999 times in a thousand.
    needed = _REFERENCE_SHARE * (least - 1) + 5 * int(np.ceil(np.sqrt(least)))
    if trusted - calibration < FEWEST_SCORES:
        what = f"the trusted set has {trusted} records, too few to say what is usual"
    elif calibration + 1 < least:
        what = f"the trusted set leaves {calibration} records to calibrate on, too few for the rate of {rate}"
    else:
        return
    enough = max(needed, 3 * FEWEST_SCORES)
    raise UsageError(
        what, hint=f"give at least {enough} trusted records, raise the rate, or scan without a trusted set"
    )
