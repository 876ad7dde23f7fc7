"""Suspects that belong together, each group with a short rule that a person can check. Changes no verdict."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.detectors.facts import facts, looked_at
from lazaretto.detectors.rules import Rule, short_rule
from lazaretto.errors import IntegrityViolated
from lazaretto.evidence import Evidence, load_evidence
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lazaretto.contract import Contract

    Flags = NDArray[np.bool_]

CLUSTERS = "clusters.json"
MOST = 12
"""Clusters described; a person reads no more."""
SMALLEST = 5
"""Fewer records than this are single cases: a rule for them would fit by chance."""
_DESCRIBED = 1_000
"""Members a rule is learnt on at most; whether it holds is then looked up for all."""
_RARE = 0.05
"""A trigger is what drove a record if its p-value is at most this, whichever detector leads."""
_LABELS_NAMED = 4
_SPOKEN = re.compile(r"also say ('[^']*'|\"[^\"]*\")")
_NAMED = re.compile(
    r"(?P<name>.+?)(?: \((?:range|exact value)\))?"
    r"(?:: (?:[\d,]+ )?of the records |, (?:not one record in|one record in|as is usual))",
    re.DOTALL,
)
"""The name of a trigger at the head of its explanation: what follows counts records, and differs from fold to fold."""


@dataclass(frozen=True)
class Cluster:
    """Suspects that one thing drove, and the rule that describes them."""

    id: int
    """From 1, the largest first."""
    records: int
    led_by: str
    """The family of detectors that speaks loudest of them; ``trigger`` where one was mined."""
    label: str | None
    """The label of all its records; None where they have several, what drove them looks at none, or it is personal."""
    token: str | None
    """What the mined trigger is: columns, words or pixels."""
    rule: tuple[str, ...]
    """Facts that hold together, at most three; empty where none describes the cluster."""
    matched: int
    """Records of the cluster that the rule holds of."""
    others_matched: int
    """Of the others that were compared, those it also holds of."""
    others: int
    """Records compared: a sample of those that are no suspects."""
    says: str
    rows: tuple[int, ...]
    """``_row`` of each record."""
    labels: tuple[tuple[str, int], ...] = ()
    """Where its records have several labels, how many have which, the most frequent first."""

    @property
    def driver(self) -> str:
        """What drove its records, in words."""
        of = f" ({self.token})" if self.token else ""
        if self.label is not None:
            return f"{self.led_by}{of}, labelled {self.label!r}"
        named = [f"{label!r} ({count:,})" for label, count in self.labels[:_LABELS_NAMED]]
        if len(self.labels) > _LABELS_NAMED:
            named.append(f"{len(self.labels) - _LABELS_NAMED} more")
        return f"{self.led_by}{of}" + (f", labelled {', '.join(named)}" if named else "")

    def brief(self) -> dict[str, Any]:
        """What the summary says of it: all but the rows."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


@dataclass(frozen=True)
class Compared:
    """Suspects and others that were drawn to be compared, as canonical records.

    Attributes:
        suspects: With ``_evidence``, the JSON of what was said of each.
        others: A sample of the judged records that are no suspects.
        arrived: How many there are of those.
        families: Detector -> family.
        labelled: Detectors that look at the label; what others find has nothing to do with it.
        sizes: Image column -> side and channels that the detectors see it at.
    """

    suspects: pl.DataFrame
    others: pl.DataFrame
    arrived: int
    families: Mapping[str, str]
    labelled: frozenset[str]
    sizes: Mapping[str, tuple[int, int]]


def find_clusters(compared: Compared, contract: Contract) -> tuple[Cluster, ...]:
    """Group the suspects by what drove them, and describe the largest groups.

    Suspects that are left and to which a group's rule applies join it: the nine windows around one patch are nine
    tokens, and a trigger's records are not all led by the same detector. A group that shares a mined trigger loses none
    to one that shares nothing of the kind: its records may well have their label wrong too.
    """
    labels = _said_labels(compared, contract)
    waiting = _seeds(compared, labels)
    if not waiting:
        return ()
    describe = _Describer(compared, contract)
    found: list[tuple[_Driver, NDArray[np.int64], Rule | None]] = []
    while waiting and len(found) < MOST:
        driver = max(waiting, key=lambda one: len(waiting[one]))
        rows = waiting.pop(driver)
        if len(rows) < SMALLEST:
            break
        rule = describe.rule(rows, driver.token)
        if rule is not None:
            able = {o: left for o, left in waiting.items() if driver.token or not o.token or len(left) < SMALLEST}
            joined = [left[rule.holds[left]] for left in able.values()]
            waiting |= {other: left[~rule.holds[left]] for other, left in able.items()}
            grown = np.sort(np.concatenate([rows, *joined]))
            if len(grown) > len(rows):
                rows, rule = grown, describe.rule(grown, driver.token) or rule
        found.append((driver, rows, rule))
    found.sort(key=lambda one: -len(one[1]))
    return tuple(_cluster(number, *one, compared, labels) for number, one in enumerate(found, start=1))


def write_clusters(clusters: Sequence[Cluster], folder: Path) -> None:
    """Write ``clusters.json``."""
    text = json.dumps([asdict(cluster) for cluster in clusters], indent=1) + "\n"
    (folder / CLUSTERS).write_text(text, encoding="utf-8")


def read_clusters(folder: Path) -> tuple[Cluster, ...]:
    """What `write_clusters` wrote; nothing where an earlier version judged.

    Raises:
        IntegrityViolated: The file is not what was written.
    """
    path = folder / CLUSTERS
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Cluster(**{**one, **{k: tuple(one[k]) for k in ("rule", "rows")}, **_labels(one)}) for one in loaded
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityViolated(f"{path} cannot be read", hint="run lazaretto verify") from error


def _labels(one: Mapping[str, Any]) -> dict[str, tuple[tuple[str, int], ...]]:
    """What a cluster's JSON says of its labels, where it says anything."""
    return {"labels": tuple((str(label), int(count)) for label, count in one["labels"])} if "labels" in one else {}


def cluster_of(clusters: Sequence[Cluster]) -> dict[int, int]:
    """Row -> id of the cluster it is in."""
    return {row: cluster.id for cluster in clusters for row in cluster.rows}


@dataclass(frozen=True, order=True)
class _Driver:
    """What drove a suspect: suspects with the same begin as one group."""

    family: str
    label: str
    token: str


def _said_labels(compared: Compared, contract: Contract) -> list[str]:
    """The label of each suspect; empty where there is none, or it is personal."""
    if not contract.label or contract.all_columns[contract.label].pii:
        return [""] * len(compared.suspects)
    return compared.suspects[contract.label].cast(pl.String).fill_null("").to_list()


def _seeds(compared: Compared, labels: Sequence[str]) -> dict[_Driver, NDArray[np.int64]]:
    """Places of the suspects by what drove them, in the order of the drivers."""
    groups: dict[_Driver, list[int]] = {}
    for place, (text, said) in enumerate(zip(compared.suspects["_evidence"], labels, strict=True)):
        evidence = load_evidence(text)
        if evidence:
            leading, token = _driven(evidence, compared.families)
            family = compared.families.get(leading, leading)
            seen = said if leading in compared.labelled else ""
            groups.setdefault(_Driver(family, seen, token), []).append(place)
    return {driver: np.array(groups[driver], dtype=np.int64) for driver in sorted(groups)}


def _driven(evidence: Sequence[Evidence], families: Mapping[str, str]) -> tuple[str, str]:
    """The detector that drove a suspect, and what it mined."""
    mined = [item for item in evidence if families.get(item.detector) == "trigger" and item.p_value <= _RARE]
    if not mined:
        return evidence[0].detector, ""
    spoken = _SPOKEN.search(mined[0].why)
    if spoken:
        return mined[0].detector, spoken[1][1:-1]
    named = _NAMED.match(mined[0].why)
    return mined[0].detector, named["name"] if named else ""


class _Describer:
    """Learns rules against the same others, whatever the cluster."""

    def __init__(self, compared: Compared, contract: Contract) -> None:
        suspects = compared.suspects.select(compared.others.columns)
        self._frame = pl.concat([suspects, compared.others])
        self._pixels = looked_at(self._frame, contract, compared.sizes)
        self._suspects = len(suspects)
        self._contract = contract
        self._weight = compared.arrived / max(len(compared.others), 1)

    def rule(self, rows: NDArray[np.int64], token: str) -> Rule | None:
        """The rule of the suspects at these places; it says of every suspect whether it holds.

        Of words that describe them as well, those that the detectors mined are said.
        """
        members = np.zeros(len(self._frame), dtype=np.bool_)
        members[rows[:_DESCRIBED]] = True
        said = facts(self._frame, members, self._contract, self._pixels, token)
        # Other suspects may be of this cluster too: they speak neither for the rule nor against it.
        counted = members.copy()
        counted[self._suspects :] = True
        rule = short_rule([fact.where(counted) for fact in said], members[counted], self._weight)
        if rule is None:
            return None
        whole = {fact.words: fact.holds for fact in said}
        return Rule(rule.facts, np.logical_and.reduce([whole[words] for words in rule.facts]))


def _cluster(
    number: int,
    driver: _Driver,
    rows: NDArray[np.int64],
    rule: Rule | None,
    compared: Compared,
    labels: Sequence[str],
) -> Cluster:
    # Suspects that joined by the rule may have another label than those it was found by.
    counted = Counter(labels[row] for row in rows.tolist()) if driver.label else Counter[str]()
    counted.pop("", None)
    others = len(compared.others)
    matched = 0 if rule is None else int(rule.holds[rows].sum())
    also = 0 if rule is None else int(rule.holds[len(compared.suspects) :].sum())
    if rule is None:
        says = f"no rule of at most three conditions describes the {len(rows):,} records of this cluster"
    else:
        drawn = f"{others:,} records" if others == compared.arrived else f"a sample of {others:,} records"
        says = f"{rule.words}: {matched:,} of {len(rows):,} of the cluster, {also:,} of {drawn} that are no suspects"
    return Cluster(
        id=number,
        records=len(rows),
        led_by=driver.family,
        label=next(iter(counted)) if len(counted) == 1 else None,
        labels=tuple(counted.most_common()) if len(counted) > 1 else (),
        token=driver.token or None,
        rule=() if rule is None else rule.facts,
        matched=matched,
        others_matched=also,
        others=others,
        says=says,
        rows=tuple(compared.suspects[ROW][rows.tolist()].to_list()),
    )
