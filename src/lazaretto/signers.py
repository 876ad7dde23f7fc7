"""Which key counts for what: every key a signer had, each with how far its signatures reach.

Where a key was retired, the history of keys pins the newest thing it had signed, by number and digest. Up to there the
chain is fixed, so that whoever holds a retired key can neither add to it nor date something back; from there on only
the next key counts. What is pinned is called by a subject: a data set for attestations and signed contracts, and
`WHOLE_LOG` for the audit log, of which there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lazaretto.errors import IntegrityViolated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WHOLE_LOG = "log"
"""Subject of the audit key."""


@dataclass(frozen=True)
class Pin:
    """A place in a chain: its number, counted from 1, and the digest of what stands there. 0 is before the first."""

    number: int
    digest: str


@dataclass(frozen=True)
class Generation:
    """One key of a signer."""

    key: Ed25519PublicKey
    until: Mapping[str, Pin] | None = None
    """Subject -> the newest that it signed; a subject that is not there had nothing yet. None for the key in use."""
    revoked_at: str = ""
    """When it was said to be stolen; empty where it was not."""
    since: str = ""
    """From when on it may have been in other hands."""
    sound: Mapping[str, int] = field(default_factory=dict)
    """Subject -> up to which number it was signed before that."""

    def reach(self, subject: str) -> int | None:
        """Number up to which the key counts; None for no end."""
        if self.until is None:
            return None
        return self.until[subject].number if subject in self.until else 0


@dataclass(frozen=True)
class Signers:
    """Every key of one name, oldest first."""

    name: str
    """publisher, audit or policy."""
    generations: tuple[Generation, ...]
    vouched: Mapping[str, Pin] = field(default_factory=dict)
    """Subject -> up to where what a stolen key had signed was attested anew."""

    @property
    def current(self) -> Ed25519PublicKey:
        """The key in use."""
        return self.generations[-1].key

    def generation(self, subject: str, number: int) -> Generation:
        """The one whose signature number ``number`` of a subject must bear."""
        for generation in self.generations:
            reach = generation.reach(subject)
            if reach is None or number <= reach:
                return generation
        raise AssertionError("the newest key has no end")

    def key(self, subject: str, number: int) -> Ed25519PublicKey:
        """The key whose signature it must bear."""
        return self.generation(subject, number).key

    def pins(self, subject: str) -> tuple[Pin, ...]:
        """Every place of a subject that the history of keys has fixed."""
        retired = [one.until[subject] for one in self.generations if one.until is not None and subject in one.until]
        return (*retired, *([self.vouched[subject]] if subject in self.vouched else []))

    def check_pins(self, subject: str, digests: Sequence[str]) -> None:
        """Refuse a chain that is not the one whose places were pinned when keys were changed.

        Raises:
            IntegrityViolated: It is shorter, or another.
        """
        for pin in self.pins(subject):
            if len(digests) < pin.number:
                raise IntegrityViolated(
                    f"{subject} ends at {len(digests)}, but the history of keys knows {pin.number}: it was put back"
                )
            if pin.number and digests[pin.number - 1] != pin.digest:
                raise IntegrityViolated(
                    f"number {pin.number} of {subject} is not the one the history of keys knows: it was written anew"
                )

    def doubtful(self, subject: str, number: int) -> Generation | None:
        """The stolen key that signed this one when it may have been in other hands, and nobody vouched for since."""
        vouched = self.vouched.get(subject)
        if vouched is not None and number <= vouched.number:
            return None
        generation = self.generation(subject, number)
        return generation if generation.revoked_at and number > generation.sound.get(subject, 0) else None

    def require_sound(self, subject: str, count: int) -> None:
        """Refuse what a stolen key signed and nobody vouched for since.

        Args:
            subject: Whose chain.
            count: How many it has.

        Raises:
            IntegrityViolated: There is such a one.
        """
        if not any(generation.revoked_at for generation in self.generations):
            return
        for number in range(count, 0, -1):
            stolen = self.doubtful(subject, number)
            if stolen is not None:
                raise IntegrityViolated(
                    f"number {number} of {subject} was signed with the {self.name}'s key that was revoked"
                    f" {stolen.revoked_at} as stolen since {stolen.since}",
                    hint="lazaretto keys reattest checks everything and, where nothing is found, vouches for it",
                )
