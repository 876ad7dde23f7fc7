"""Every attack by name, and which of them a batch gives occasion for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazaretto.attacks.on_images import IMAGE_ATTACKS
from lazaretto.attacks.on_labels import LABEL_ATTACKS
from lazaretto.attacks.on_tables import TABLE_ATTACKS
from lazaretto.attacks.on_texts import TEXT_ATTACKS

if TYPE_CHECKING:
    from lazaretto.attacks.ground import Attack, Ground

ATTACKS: dict[str, Attack] = {
    attack.name: attack for attack in (*IMAGE_ATTACKS, *LABEL_ATTACKS, *TEXT_ATTACKS, *TABLE_ATTACKS)
}


def applicable(ground: Ground) -> list[Attack]:
    """The attacks that the batch has the columns for, in the order of the catalogue."""
    return [attack for attack in ATTACKS.values() if attack.fits(ground)]
