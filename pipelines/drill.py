"""The drill: known attacks planted in a copy of a data set's latest batch, to measure what would be caught.

The copy is of records that were admitted, so it is clean as far as anyone knows; it is judged like any batch, with the
contract's own trusted set, in a folder that is removed afterwards. Nothing of it reaches the store or the ledger.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.errors import UsageError
from lazaretto.records import OnStep, no_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lazaretto.attacks.ground import Attack, Ground, Planted
    from lazaretto.config import Workspace
    from lazaretto.contract import Contract

RECORDS = 4_000
"""Most records of the copy: enough to measure, few enough to judge a dozen times."""
NIGHTLY_RECORDS = 1_500
"""The same, every night."""
_FEWEST = 200
_CONFIDENCE = 0.95
_ROW_COUNTS = "expect_table_row_count"


@dataclass(frozen=True)
class Found:
    """What became of one attack at one rate."""

    attack: str
    title: str
    family: str
    rate: float
    poisons: int
    caught: int
    """Poisons that were quarantined or rejected record by record; a batch that waits stops the others too."""
    recall: float
    low: float
    """Lower end of the 95 % confidence interval of the recall (Clopper and Pearson 1934)."""
    high: float
    ranked: float
    """Share of the poisons that rank above all but 1 % of the clean records."""
    false_quarantines: float
    """Share of the copy's clean records that were quarantined beside them."""
    held: bool
    """Whether the whole batch would have waited."""


@dataclass(frozen=True)
class Drill:
    """One drill of one data set."""

    dataset: str
    batch: str
    records: int
    """Records of the copy."""
    false_quarantines: float
    """Share of the copy, nothing planted, that was quarantined."""
    null: str
    """trusted or estimated."""
    found: tuple[Found, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    """Attack -> why it could not be planted."""
    hold_reasons: tuple[str, ...] = ()
    """Why the whole copy would wait with nothing planted; then no attack shows anything by holding it."""

    @property
    def weakest(self) -> Found | None:
        """The attack of which the smallest share was caught; None where none was planted."""
        return min(self.found, key=lambda one: (one.recall, one.ranked), default=None)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        weakest = self.weakest
        return {**asdict(self), "weakest": None if weakest is None else weakest.attack}


def drill(
    workspace: Workspace,
    dataset: str,
    *,
    attacks: Sequence[str] = (),
    rate: float | None = None,
    records: int = RECORDS,
    how: tuple[int, str] = (0, "auto"),
    on_step: OnStep = no_step,
) -> Drill:
    """Plant attacks in a copy of the latest admitted batch, one at a time, and judge each copy.

    Args:
        workspace: The workspace.
        dataset: The data set.
        attacks: Names from the catalogue; every one that the records have the columns for by default.
        rate: Share of the copy to poison; each attack's own by default.
        records: Most records of the copy.
        how: The seed, which draws the copy and the poison, and the device: auto, cpu, cuda or mps.
        on_step: Called with the name of each attack before it is planted.

    Raises:
        UsageError: Nothing was admitted yet, an attack is unknown or does not fit, or too few records are there.
    """
    from lazaretto.attacks.ground import Ground
    from lazaretto.contract import load_contract

    seed, device = how
    contract = load_contract(workspace.contract(dataset))
    batch, frame = _latest(workspace, dataset, contract, records, seed)
    ground = Ground.of(frame, contract)
    chosen = _chosen(ground, attacks)
    on_step("nothing planted")
    state = workspace.work(dataset).parent
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    found, left_out = [], {}
    with tempfile.TemporaryDirectory(dir=state, prefix=".drill-") as folder:
        judge = _Judge(_of_any_size(contract), Path(folder), seed, device, _trusted(ground, contract, Path(folder)))
        verdicts, summary = judge(ground.with_images(ground.images()).frame if ground.image else frame)
        quiet = float(_stopped(verdicts, contract).mean())
        for attack in chosen:
            on_step(attack.title)
            try:
                planted = attack.plant(ground, rate or attack.rate, seed)
            except ValueError as error:
                left_out[attack.name] = str(error)
                continue
            verdicts, told = judge(planted.frame)
            judged = verdicts, _stopped(verdicts, contract)
            found.append(_found(attack, rate or attack.rate, planted, judged, held=bool(told["hold"])))
    reasons = tuple(summary["hold_reasons"]) if summary["hold"] else ()
    return Drill(dataset, batch, len(frame), quiet, summary["null"]["kind"], tuple(found), left_out, reasons)


def _latest(
    workspace: Workspace, dataset: str, contract: Contract, records: int, seed: int
) -> tuple[str, pl.DataFrame]:
    """The latest batch that has admitted records, and a sample of them with the contract's columns."""
    from lazaretto.attacks.ground import Ground
    from lazaretto.loader import opened
    from lazaretto.pipelines.trend import trend

    columns = tuple(contract.all_columns)
    batches = [night["batch"] for night in reversed(trend(workspace, dataset)) if night["admitted"]]
    if not batches:
        raise UsageError(f"no batch of {dataset} was admitted yet", hint=f"run lazaretto ingest --dataset {dataset}")
    admitted = opened(workspace, dataset, columns=(*columns, "_batch_id"))
    parts = [frame.filter(pl.col("_batch_id") == batches[0]).select(columns) for frame in admitted.frames()]
    frame = pl.concat(parts)
    if (image := Ground.of(frame, contract).image) is not None:
        frame = frame.filter(pl.col(image).is_not_null())
    if len(frame) < _FEWEST:
        raise UsageError(
            f"{len(frame)} records to drill on were admitted of batch {batches[0]}, too few",
            hint=f"at least {_FEWEST} are needed",
        )
    order = np.random.default_rng(seed).permutation(len(frame))[:records]
    return batches[0], frame[np.sort(order)]


def _of_any_size(contract: Contract) -> Contract:
    """The contract without its bounds on the number of records: the copy has as many as the drill draws."""
    policy = contract.policy.model_copy(update={"min_records": None, "max_records": None})
    kept = tuple(one for one in contract.expectations if not str(one.get("type", "")).startswith(_ROW_COUNTS))
    return contract.model_copy(update={"policy": policy, "expectations": kept})


def _trusted(ground: Ground, contract: Contract, folder: Path) -> tuple[str, ...]:
    """Where the trusted set lies, encoded like the copy; nothing where it may be read as it is, or there is none."""
    from lazaretto.pipelines.trusted import read_trusted

    if ground.image is None or (known := read_trusted(contract, (), folder / "trusted")) is None:
        return ()
    # A copy of other images than the trusted ones would be suspicious as a whole.
    ground.alike(known.select(ground.frame.columns)).write_parquet(folder / "trusted.parquet")
    return (str(folder / "trusted.parquet"),)


def _chosen(ground: Ground, names: Sequence[str]) -> list[Attack]:
    from difflib import get_close_matches

    from lazaretto.attacks.catalogue import ATTACKS, applicable

    fitting = {attack.name: attack for attack in applicable(ground)}
    for name in names:
        if name not in ATTACKS:
            near = get_close_matches(name, ATTACKS, n=1)
            hint = (f"did you mean {near[0]!r}? " if near else "") + f"known are: {', '.join(ATTACKS)}"
            raise UsageError(f"{name!r} is no attack", hint=hint)
        if name not in fitting:
            raise UsageError(
                f"attack {name!r} does not fit these records", hint=f"these do: {', '.join(fitting) or 'none'}"
            )
    return [fitting[name] for name in names] if names else list(fitting.values())


@dataclass(frozen=True)
class _Judge:
    """Judges copies as a batch would be, each in a folder of its own that is removed."""

    contract: Contract
    folder: Path
    seed: int
    device: str
    trusted: tuple[str, ...]

    def __call__(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Verdicts and summary of one copy."""
        from lazaretto.pipelines.scan import Options, judge

        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            here = Path(folder)
            frame.write_parquet(here / "copy.parquet")
            how = Options(seed=self.seed, device=self.device, trusted=self.trusted)
            judged = judge([here / "copy.parquet"], self.contract, here / "out", how)
            return pl.read_parquet(here / "out" / "verdicts.parquet"), judged.summary


def _stopped(verdicts: pl.DataFrame, contract: Contract) -> NDArray[np.bool_]:
    """(rows,) quarantined or rejected by itself, whether or not the whole batch waits."""
    suspect = (pl.col("p_value") <= contract.policy.false_quarantine_rate).fill_null(value=True)
    return verdicts.select(suspect | (pl.col("decision") == "reject")).to_series().to_numpy()


def _found(
    attack: Attack, rate: float, planted: Planted, judged: tuple[pl.DataFrame, NDArray[np.bool_]], *, held: bool
) -> Found:
    verdicts, stopped = judged
    suspicion = verdicts["suspicion"].fill_null(np.inf).fill_nan(np.inf).to_numpy()
    limit = np.quantile(suspicion[planted.clean], 0.99)
    poisons, caught = int(planted.truth.sum()), int(stopped[planted.truth].sum())
    low, high = interval(caught, poisons)
    return Found(
        attack.name,
        attack.title,
        attack.family,
        rate,
        poisons,
        caught,
        caught / poisons,
        low,
        high,
        float((suspicion[planted.truth] > limit).mean()),
        float(stopped[planted.clean].mean()),
        held,
    )


def interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Clopper and Pearson 1934), exact for any number of trials."""
    from scipy.stats import beta

    tail = (1 - _CONFIDENCE) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high
