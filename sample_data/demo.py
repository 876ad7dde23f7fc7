"""The main job on real data, end to end: what ``make demo`` runs.

A workspace is made in ``demo/``, poisons are planted in copies of the sample data (their truth is kept apart and read
only at the end), three batches arrive, and the real Prefect flow ingests each. Everything is made anew by every run.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
SEED = 7
BATCHES = (("flights", "flights.parquet"), ("fashion", "fashion"), ("flights", "flights-partner.parquet"))
"""Data set and file or folder, in order of arrival; the last deserves to be held."""
ATTACKS = {
    "badnets": "backdoor patch",
    "foreign": "foreign image",
    "label_flip": "flipped label",
    "trigger_table": "two-column trigger",
    "partner": "trigger, one source",
}


def main() -> int:
    """Run the demo; gives the exit code."""
    began = time.perf_counter()
    _quiet_prefect()
    from lazaretto.cli_shown import console, print_lines, show_summary
    from lazaretto.config import init_workspace
    from lazaretto.pipelines.summary import read_summary
    from sample_data.plant import plant

    shown = console()
    shutil.rmtree(DEMO, ignore_errors=True)
    workspace, _ = init_workspace(DEMO / "workspace")
    for name in ("flights", "fashion"):
        shutil.copytree(HERE / name, workspace.root / name)
        shutil.copy(HERE / "contracts" / f"{name}.yaml", workspace.root / "contracts")
    plant(DEMO, SEED)
    shown.print("\n[bold]Three batches arrive.[/] The first Prefect run also starts Prefect's own server, about 20 s.")
    from lazaretto.pipelines.flows import ingest_flow

    results = []
    for dataset, name in BATCHES:
        result = ingest_flow(str(workspace.root), dataset, [str(DEMO / "batches" / name)], SEED)
        results.append((name, result))
        show_summary(read_summary(Path(result["folder"])), report=str(Path(result["folder"]) / "report.html"))
    shown.print("\n[bold]What was planted, and what became of it[/]")
    for name, result in results:
        _compare(name, result)
    print_lines(
        "  Weather and schedule say little about who is late: a flipped label in flights looks like any other, and",
        "  hardly any is seen. Among images most are.",
    )
    shown.print("\n[bold]The gate[/]")
    held = results[-1][1]["batch"]
    yes = _gate("flights", None, workspace.root) and _gate("fashion", None, workspace.root)
    no = not _gate("flights", held, workspace.root)
    print_lines(
        "",
        f"done in {time.perf_counter() - began:.0f} s; look at the reports above, then at what waits for a person:",
        f"  {os.path.relpath(sys.executable).replace('python', 'lazaretto')} review list --workspace demo/workspace",
    )
    return 0 if yes and no else 1


def _quiet_prefect() -> None:
    """A Prefect home of the demo's own, a start-up limit that a small machine keeps, no analytics, no debug lines."""
    os.environ.setdefault("PREFECT_HOME", str(DEMO / "prefect"))
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def _compare(name: str, result: dict[str, object]) -> None:
    """Hold the verdicts against the truth that was kept apart."""
    from lazaretto.cli_shown import print_lines

    stem = name.removesuffix(".parquet") if name.endswith(".parquet") else f"{name}-folder"
    truth = pl.read_parquet(DEMO / "truth" / f"{stem}.parquet").sort("row")
    verdicts = pl.read_parquet(Path(str(result["folder"])) / "verdicts.parquet")
    joined = truth.with_columns(verdicts["decision"])  # verdicts come in input order, one for every record that arrived
    stopped = joined.filter(pl.col("attack").is_not_null()).with_columns(caught=pl.col("decision") != "admit")
    parts = [
        f"{ATTACKS[attack]} {rows['caught'].sum()} of {len(rows)}"
        for (attack,), rows in sorted(stopped.group_by("attack"))
    ]
    clean = joined.filter(pl.col("attack").is_null())
    held = int((clean["decision"] != "admit").sum())
    share = f"{held} of {len(clean):,} clean records held ({held / len(clean):.1%})"
    if result["held"]:
        print_lines(f"  {name}: the whole batch waits, {len(stopped)} poisoned and {len(clean):,} clean records")
    else:
        print_lines(f"  {name}: caught {', '.join(parts)}; {share}")


def _gate(dataset: str, batch: str | None, workspace: Path) -> bool:
    from lazaretto import Blocked, gate
    from lazaretto.cli_shown import console, print_lines

    asked = dataset if batch is None else f"{dataset} --batch {batch}"
    try:
        attestation = gate(dataset, batch=batch, workspace=workspace)
    except Blocked as blocked:
        console().print(f"  gate {asked}: [bold red]no[/]")
        print_lines(f"    {blocked.message}")
        return False
    console().print(f"  gate {asked}: [bold green]yes[/]")
    print_lines(f"    version {attestation.version}, {attestation.active_rows:,} records, attested")
    return True


if __name__ == "__main__":
    sys.exit(main())
