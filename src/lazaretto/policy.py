"""From p-values to decisions: a pure function of the numbers and the contract's policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Policy


@dataclass(frozen=True)
class Tallies:
    """What the hold rule looks at."""

    arrived: int
    rejected: int
    suspects: int
    """Records not rejected whose p-value is at most the policy's false-quarantine rate."""

    @property
    def judged(self) -> int:
        """Records that were not rejected."""
        return self.arrived - self.rejected


def hold_reasons(policy: Policy, tallies: Tallies, faults: Sequence[str]) -> tuple[str, ...]:
    """Why the whole batch must wait, one sentence each; empty when it need not.

    Args:
        policy: The contract's.
        tallies: What was counted.
        faults: What validation and the detectors found wrong with the batch as a whole.
    """
    reasons = list(faults)
    limit = policy.hold_when_quarantined_over
    if tallies.judged and tallies.suspects / tallies.judged > limit:
        share = tallies.suspects / tallies.judged
        reasons.append(f"{share:.1%} of its records are suspicious, over the limit of {limit:.0%}")
    if policy.min_records is not None and tallies.arrived < policy.min_records:
        reasons.append(f"{tallies.arrived} records arrived, fewer than the contract's minimum of {policy.min_records}")
    if policy.max_records is not None and tallies.arrived > policy.max_records:
        reasons.append(f"{tallies.arrived} records arrived, more than the contract's maximum of {policy.max_records}")
    return tuple(dict.fromkeys(reasons))
