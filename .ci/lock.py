"""Write the two locks from ``pyproject.toml``: the project's, and what the peers of the benchmarks add to it.

``requirements.lock`` is installable with and without a local CPU build of torch.

``pip-compile`` does the work and keeps every pin that still fits (``UPGRADE=1`` moves them). Two things it cannot do
are done here. Where a folder of wheels holds torch's CPU build (version ``2.13.0+cpu``), pip-compile pins that build
alone; the lock names the plain version with the hashes of both, the registry's and the CPU build's. And torch's CUDA
build asks for CUDA's libraries, several gigabytes that a machine without a GPU must not download: they stay out of the
lock, and the Makefile installs them only where pip chose the CUDA build (torch's wheel pins each of them exactly).

``requirements-peers.lock`` is resolved under the first lock's pins, and holds only the packages that are not in it:
installing the peers on top moves no version that the project is built and tested with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from piptools.repositories import PyPIRepository

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PEERS_LOCK = ROOT / "requirements-peers.lock"
HEADER = """\
# Every package of the project with its extras but the encoders and the peers, by exact version and hash. Written by
# `make lock` from pyproject.toml; do not edit. torch carries the hashes of the registry's builds and of the CPU build.
"""
PEERS_HEADER = """\
# What the extra `peers` adds to requirements.lock, by exact version and hash: the tools the benchmarks compare with.
# Written by `make lock` from pyproject.toml; do not edit.
"""
EXTRAS = ("dev", "oidc", "postgres", "s3", "telemetry")
"""Groups that requirements.lock holds, so that everything of them is tested."""
LEFT_OUT = re.compile(r"pip|triton|cuda-.*|nvidia-.*")
"""pip is the installer, not a dependency to replace while it runs; the others are CUDA's, see above."""


def compile_pins(lock: Path, *options: str) -> dict[str, str]:
    """Run pip-compile with ``lock`` as the pins to prefer, and give the entries it finds; ``lock`` stays as it is."""
    before = lock.read_text(encoding="utf-8") if lock.exists() else ""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / lock.name
        target.write_text(before, encoding="utf-8")
        run_compile(target, *options)
        return entries(target.read_text(encoding="utf-8"))


def run_compile(target: Path, *extra: str) -> None:
    """Run pip-compile with ``target`` as both the pins to prefer and the file to write."""
    options = ["--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe", "--no-header", "--newline=lf"]
    options += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"]
    options += ["--no-build-isolation", f"--output-file={target}", *extra]
    if os.environ.get("UPGRADE") == "1":
        options.append("--upgrade")
    command = [sys.executable, "-m", "piptools", "compile", *options, "pyproject.toml"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  our own command line, no shell


def entries(text: str) -> dict[str, str]:
    """Split a lock into its entries: package name -> ``name==version`` line with its hashes and comments."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:    .*\n)*", text, flags=re.MULTILINE)
    return {block.split("==")[0]: block for block in blocks}


def hashes_of(entry: str) -> set[str]:
    """The ``sha256:...`` hashes an entry allows."""
    return set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))


def registry_hashes(name: str, version: str) -> set[str]:
    """Hashes the registry's index gives for every wheel of exactly this version, without downloading one."""
    with tempfile.TemporaryDirectory() as cache:
        repository = PyPIRepository([], cache_dir=cache)
        with repository.allow_all_wheels():
            found = repository.find_all_candidates(name)
    links = [candidate.link for candidate in found if str(candidate.version) == version and candidate.link.is_wheel]
    return {f"sha256:{link.hash}" for link in links if link.hash_name == "sha256" and link.hash}


def both_builds(entry: str, kept: str) -> str:
    """Give torch's entry without its local version label, with the hashes of the CPU build and of the registry's.

    ``kept`` is torch's entry in the lock as it was: the CPU build's hash stays when a machine without it writes the
    lock, as long as the version stays.
    """
    match = re.match(r"torch==([0-9.]+)(\+cpu)?", entry)
    if match is None:
        raise SystemExit(f"lock: cannot read torch's version in {entry.splitlines()[0]!r}")
    version = match[1]
    published = registry_hashes("torch", version)
    if not published:
        raise SystemExit(f"lock: the index named no hash for torch {version}")
    hashes = hashes_of(entry) | published | (hashes_of(kept) if kept.startswith(f"torch=={version} ") else set())
    lines = [f"torch=={version}", *(f"    --hash={one}" for one in sorted(hashes))]
    comments = [line for line in entry.splitlines() if line.lstrip().startswith("#")]
    return " \\\n".join(lines) + "\n" + "\n".join(comments) + "\n"


def write(lock: Path, header: str, found: dict[str, str]) -> None:
    """Write the entries in the order of their names, without those that no lock holds."""
    kept = [block for name, block in sorted(found.items()) if not LEFT_OUT.fullmatch(name)]
    lock.write_text(header + "\n" + "".join(kept), encoding="utf-8")
    sys.stdout.write(f"{lock.name}: {len(kept)} packages\n")


def main() -> None:
    """Write the locks anew, next to nothing changed where nothing had to."""
    before = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    found = compile_pins(LOCK, *(f"--extra={name}" for name in EXTRAS))
    found["torch"] = both_builds(found["torch"], entries(before).get("torch", ""))
    write(LOCK, HEADER, found)
    added = compile_pins(PEERS_LOCK, "--extra=peers", f"--constraint={LOCK}")
    write(PEERS_LOCK, PEERS_HEADER, {name: block for name, block in added.items() if name not in found})


if __name__ == "__main__":
    main()
