"""Judges files: snapshot, parse, validate, score, decide; everything it finds goes into one folder.

Two passes over the canonical partitions: one draws the mergeable sample the panel is fitted on, one scores. Memory
holds one partition and the fitted state, whatever the number of records.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.errors import InputRefused, UsageError
from lazaretto.expectations.check import CheckResult, check
from lazaretto.expectations.suite import build_suite
from lazaretto.parquet import read_parquet, scan_parquet
from lazaretto.pipelines.compare import compare
from lazaretto.pipelines.confine import parse_confined
from lazaretto.pipelines.device import check_device, resolve_device
from lazaretto.pipelines.look_alikes import look_alikes
from lazaretto.pipelines.look_back import look_back, remembering, tonight_of
from lazaretto.pipelines.outcome import Outcome, write_outcome
from lazaretto.pipelines.score import Scoring, score_all
from lazaretto.pipelines.shift import label_shift
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.pipelines.trusted import read_trusted
from lazaretto.records import DIGEST, PARTITION_ROWS, RECORD_ID, ROW, OnRows, OnStep, Parsed, no_rows, no_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel
    from lazaretto.pipelines.window import Past
    from lazaretto.records import Batch

STEPS = ("snapshot", "parse", "validate", "fit", "score", "compare", "decide")


@dataclass(frozen=True)
class Options:
    """How to judge, beside what the contract says."""

    seed: int = 0
    device: str = "auto"
    trusted: tuple[str, ...] = ()
    """Files, folders or globs of records known good; by default what the contract's ``trusted`` names."""
    refuse_digests: Callable[[Sequence[str]], set[str]] | None = None
    """Of the given content digests, those an analyst discarded before; their records are rejected."""
    secret: bytes = field(default=b"", repr=False)
    """What only the workspace knows; folds and samples are drawn by it, so that no sender can choose his."""
    on_batch: Callable[[Batch], Batch] | None = None
    """Called once the batch is known, before anything is judged, and gives the batch to go on with; what it raises ends
    the judging."""
    past: Callable[[], Past | None] | None = field(default=None, repr=False)
    """What is remembered of the batches before; None where each is judged by itself."""
    vouched: tuple[str, ...] = ()
    """Files of records that were added to the trusted set since it was named."""


@dataclass(frozen=True)
class Judged:
    """A batch with its verdicts, all in one folder."""

    folder: Path
    parsed: Parsed
    contract: Contract
    summary: dict[str, Any] = field(repr=False)


@dataclass
class _Run:
    """One judging under way: where it writes, whom it tells, how long each stage took."""

    folder: Path
    contract: Contract
    options: Options
    on_step: OnStep
    on_rows: OnRows
    stages: list[dict[str, Any]] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)

    def step(self, name: str) -> None:
        self.on_step(name)
        self._began = time.perf_counter()

    def done(self, name: str, records: int) -> None:
        seconds = time.perf_counter() - self._began
        self.stages.append(
            {"name": name, "seconds": round(seconds, 3), "records_per_second": round(records / max(seconds, 1e-9))}
        )


def judge(
    paths: Sequence[str | Path],
    contract: Contract,
    into: Path,
    options: Options | None = None,
    *,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
) -> Judged:
    """Judge files against a contract.

    Args:
        paths: Files, folders or globs.
        contract: What was promised and how to judge.
        into: Folder for everything that is written; made if absent.
        options: Seed, device, trusted set.
        on_step: Called with the name of each of `STEPS` before it starts.
        on_rows: Called with the number of records just handled within a step.

    Raises:
        InputRefused: A file is no data file, or no record of the batch is left to judge.
        UsageError: A file or the device is missing, or the trusted set cannot be used.
    """
    # Two scans at once on few cores: threads that spin while they wait take the processor from those that work. OpenMP
    # reads this when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run = _Run(into, contract, options or Options(), on_step, on_rows)
    _refuse_misspelt(contract, run.options)
    run.step("snapshot")
    batch = snapshot(paths, contract.dataset, into / "snapshot")
    run.done("snapshot", len(batch.files))
    if run.options.on_batch is not None:
        batch = run.options.on_batch(batch)
    run.step("parse")
    parsed = parse_confined(batch, contract, into, on_rows=on_rows)
    run.done("parse", parsed.arrived)
    run.step("validate")
    checked = check(parsed.partitions, contract, into, expected=parsed.arrived - parsed.rejected, on_rows=on_rows)
    refused = _refused(run, parsed, checked)
    run.done("validate", parsed.arrived)
    run.step("fit")
    trusted = _trusted(run, parsed)
    panel, faults = _fit(run, parsed, refused, trusted)
    run.done("fit", parsed.arrived)
    run.step("score")
    rate = contract.policy.false_quarantine_rate
    past = None if run.options.past is None else run.options.past()
    remembers = remembering(past, panel, contract, into)
    how = Scoring(panel, rate, into, contract.source, remembers)
    scored = score_all(sound_partitions(parsed, refused), how, on_rows)
    run.done("score", parsed.arrived)
    looked = None
    if past is not None and remembers is not None and panel is not None and scored.memory is not None:
        run.step("window")
        tonight = tonight_of(panel, trusted, remembers.marker, parsed.partitions)
        numbered = enumerate(sound_partitions(parsed, refused))
        looked = look_back(past, scored.memory, remembers.marker, numbered, tonight, into)
        run.done("window", parsed.arrived)
    run.step("compare")
    with _one_order_of_sums():
        clusters = compare(sound_partitions(parsed, refused), panel, trusted, contract, into)
    run.done("compare", parsed.arrived)
    run.step("decide")
    found = (*parsed.holds, *checked.holds, *faults, *_failures(scored.faults))
    known = None if trusted is None else trusted[RECORD_ID]
    outcome = Outcome(into, contract, parsed, checked, panel, scored, found, clusters, known, looked)
    summary = write_outcome(outcome, run.options)
    run.done("decide", parsed.arrived)
    summary["stages"] = run.stages
    (into / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True, default=str) + "\n")
    return Judged(into, parsed, contract, summary)


def _trusted(run: _Run, parsed: Parsed) -> pl.DataFrame | None:
    """The trusted set, with what people added to it unless another was named.

    Of what was added, a record that arrives again now vouches for nothing, nor does one that was discarded or recalled.
    """
    options = run.options
    named = read_trusted(run.contract, options.trusted, run.folder / "trusted")
    if named is None or options.trusted or not options.vouched:
        return named
    added = read_trusted(run.contract, options.vouched, run.folder / "vouched")
    if added is None:
        return named
    refused = options.refuse_digests(added[DIGEST].to_list()) if options.refuse_digests is not None else set()
    known = pl.concat([named[DIGEST], *(read_parquet(file, columns=[DIGEST])[DIGEST] for file in parsed.partitions)])
    return pl.concat([named, added.filter(~pl.col(DIGEST).is_in(known.append(pl.Series(sorted(refused))).implode()))])


def _refuse_misspelt(contract: Contract, options: Options) -> None:
    """What can be known to be wrong before anything is read."""
    from lazaretto.detectors.drawn import require_trusted
    from lazaretto.detectors.table import make_detectors
    from lazaretto.detectors.views.frozen import require_encoders

    require_trusted(contract.policy, given=bool(options.trusted) or contract.trusted is not None)
    check_device(options.device)
    require_encoders(contract)
    build_suite(contract)
    make_detectors(contract.policy.detectors)


def _refused(run: _Run, parsed: Parsed, checked: CheckResult) -> Path:
    """Parquet of the parsed rows that are rejected: ``_row``, ``column``, ``reason``, ``stage``, in the order found."""
    path = run.folder / "refused.parquet"
    failures = scan_parquet(checked.failures).select(ROW, "column", "reason").with_columns(stage=pl.lit("contract"))
    parts = [failures]
    if run.options.refuse_digests is not None:
        found = [_discarded(file, run.options.refuse_digests) for file in parsed.partitions]
        parts += [frame.lazy() for frame in found if len(frame)]
    pl.concat(parts).sink_parquet(path, row_group_size=PARTITION_ROWS)
    left = parsed.arrived - parsed.rejected - scan_parquet(path).select(pl.col(ROW).n_unique()).collect().item()
    if left == 0:
        raise InputRefused(
            f"all {parsed.arrived} records are rejected; "
            + (parsed.holds[0] if parsed.holds else f"the most frequent reason: {_top_reason(parsed, path)}"),
            hint="compare the contract with the data; lazaretto infer writes a contract that fits it",
        )
    return path


def _discarded(file: Path, refuse: Callable[[Sequence[str]], set[str]]) -> pl.DataFrame:
    rows = read_parquet(file, columns=[ROW, DIGEST])
    known = refuse(rows[DIGEST].to_list())
    return rows.filter(pl.col(DIGEST).is_in(sorted(known))).select(
        ROW,
        column=pl.lit("", dtype=pl.String),
        reason=pl.lit("an analyst discarded this very record before"),
        stage=pl.lit("discarded"),
    )


def _top_reason(parsed: Parsed, refused: Path) -> str:
    reasons = pl.concat([scan_parquet(parsed.rejects).select("reason"), scan_parquet(refused).select("reason")])
    top = reasons.group_by("reason").len().sort("len", "reason", descending=[True, False]).head(1).collect()
    return str(top["reason"][0])


def sound_partitions(parsed: Parsed, refused: Path) -> Iterator[pl.DataFrame]:
    """The canonical records that were not rejected, partition by partition."""
    bad = scan_parquet(refused).select(ROW)
    for file in parsed.partitions:
        frame = read_parquet(file)
        low, high = frame[ROW][0], frame[ROW][-1]
        rows = bad.filter(pl.col(ROW).is_between(low, high)).collect()[ROW].unique()
        yield frame.filter(~pl.col(ROW).is_in(rows.implode())) if len(rows) else frame


_MORE_COPIES = 0.15
"""Share of copies by which a trusted set may be beyond the batch."""
_CIRCULAR = "trusted records must be others than those to judge, or every verdict on them is circular"


def _fit(
    run: _Run, parsed: Parsed, refused: Path, trusted: pl.DataFrame | None
) -> tuple[Panel | None, tuple[str, ...]]:
    """The fitted panel, or None with the reason the batch is held."""
    from lazaretto.detectors.fitting import SAMPLE_ROWS, fit_panel
    from lazaretto.detectors.table import make_detectors
    from lazaretto.detectors.views.sample import Sample, key_seed

    detectors = make_detectors(run.contract.policy.detectors)
    has_image = any(run.contract.all_columns[name].type == "image" for name in run.contract.feature_names)
    limit = SAMPLE_ROWS["image" if has_image else "table"]
    keys = key_seed(run.options.seed, run.options.secret, parsed.batch.id)
    sample: Sample | None = None
    for frame in sound_partitions(parsed, refused):
        if trusted is not None and (shared := _overlap(frame, trusted)):
            raise UsageError(
                f"{shared} records of the batch are also in the trusted set",
                hint=_CIRCULAR,
            )
        part = Sample.of(frame, limit, keys)
        sample = part if sample is None else sample.merge(part)
    device = resolve_device(run.options.device)
    fitted = 0 if sample is None else len(sample.frame)
    looked_at = [name for name in (*run.contract.feature_names, run.contract.label) if name is not None]
    if sample is not None and trusted is not None and (again := _again(sample.frame, trusted, looked_at)):
        raise UsageError(
            f"{again} of {fitted} records of the batch are also in the trusted set, under other ids",
            hint=_CIRCULAR,
        )
    if sample is not None and trusted is not None and (copies := _copies(sample.frame, trusted, looked_at)):
        raise UsageError(
            f"{copies:.0%} of the trusted records are copies of others under other ids, far more than of the batch",
            hint="give every trusted record once: copies vouch for each other, and more clean records would wait",
        )
    distinct = 0 if sample is None else sample.frame.select(looked_at).n_unique()
    reason = _too_few(fitted, distinct, 0 if trusted is None else len(trusted) // 2)
    if sample is None or reason:
        return None, (reason,)
    with _one_order_of_sums():
        panel = fit_panel(sample.frame, trusted, run.contract, detectors, run.options.seed, device, keys)
    faults = _failures(panel.failed)
    if not panel.names:
        faults.append("no detector of the policy could judge this batch: nothing was scored")
    if panel.label is None and _should_be_classes(run.contract, sample.frame):
        faults.append(f"its label {run.contract.label!r} has too many values to be classes: no label was judged")
    if trusted is not None and panel.label is not None:
        shift = label_shift(sample.frame[panel.label], trusted[panel.label], withheld=panel.label in panel.withheld)
        faults += [shift] if shift else []
    faults += _look_alikes(run.contract, sample.frame, trusted)
    return panel, tuple(faults)


def _look_alikes(contract: Contract, sample: pl.DataFrame, trusted: pl.DataFrame | None) -> list[str]:
    """What is wrong with labels that look the same; a contract that lists its labels has said which are meant."""
    column = None if contract.label is None else contract.all_columns[contract.label]
    if column is None or column.type != "category" or column.values is not None:
        return []
    labels = [frame[str(contract.label)].drop_nulls() for frame in (sample, trusted) if frame is not None]
    distinct, counts = pl.concat(labels).rename("label").value_counts(name="records").get_columns()
    said = look_alikes(dict(zip(distinct.to_list(), counts.to_list(), strict=True)), withheld=column.pii)
    return [said] if said else []


def _should_be_classes(contract: Contract, sample: pl.DataFrame) -> bool:
    """Whether the contract's label is one of a set of things, and the batch has several of them.

    A whole number may be one or not, unless the policy says that it is.
    """
    if contract.label is None:
        return False
    if contract.all_columns[contract.label].type == "integer" and contract.policy.calibration == "together":
        return False
    return sample[contract.label].drop_nulls().n_unique() > 1


def _too_few(records: int, distinct: int, trusted: int) -> str:
    """Why a batch is too small to judge, or nothing; half of the trusted records count with it."""
    from lazaretto.detectors.fitting import FEWEST_DISTINCT, FEWEST_ROWS

    if records + trusted < FEWEST_ROWS:
        beside = f", with {trusted} trusted ones beside them," if trusted else ""
        return f"{records} records{beside} are fewer than the {FEWEST_ROWS} the detectors need to say anything"
    if distinct < FEWEST_DISTINCT:
        what = "records" if distinct == records else f"records, {distinct} of them different,"
        return f"{records} {what} are fewer than the {FEWEST_DISTINCT} a batch needs to be judged"
    return ""


def _one_order_of_sums() -> AbstractContextManager[object]:
    """Linear algebra on one thread: more would add up in another order, and a last bit moves a value across a bin."""
    import scipy.linalg  # noqa: F401  what is loaded later would not be limited
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def _failures(failed: Mapping[str, str]) -> list[str]:
    return [f"detector {name} failed ({why}); what it says of this batch is incomplete" for name, why in failed.items()]


def _again(frame: pl.DataFrame, trusted: pl.DataFrame, looked_at: Sequence[str]) -> int:
    """How many records are in both but for their ids, if that is most of them; 0 where so many may be alike by chance.

    Records that look the same by nature do so within the batch, too: only those that are there once count.
    """
    mine, theirs = (records.select(looked_at).hash_rows(0) for records in (frame, trusted))
    once = mine.is_unique() & mine.is_in(theirs.filter(theirs.is_unique()).implode())
    return int(once.sum()) if 2 * int(once.sum()) > len(frame) else 0


def _copies(frame: pl.DataFrame, trusted: pl.DataFrame, looked_at: Sequence[str]) -> float:
    """Share of trusted records that look like another, if it is far above that of as many of the batch; else 0.

    A calibrating record that has a copy is a little less strange to what it was calibrated with than any new one is.
    """
    count = max(min(len(frame), len(trusted)), 1)
    of_batch, of_trusted = (_alike(records.sample(count, seed=0), looked_at) for records in (frame, trusted))
    return _alike(trusted, looked_at) if of_trusted > of_batch + _MORE_COPIES else 0.0


def _alike(records: pl.DataFrame, looked_at: Sequence[str]) -> float:
    """Share of records that are beyond the first of their look."""
    return 1 - records.select(looked_at).hash_rows(0).n_unique() / len(records)


def _overlap(frame: pl.DataFrame, trusted: pl.DataFrame) -> int:
    return int(frame[DIGEST].is_in(trusted[DIGEST].implode()).sum())
