"""What somebody who can write a store, its log, attestations, contract or public keys might do to them, one at a time.

Each mutation takes the workspace and a generator, changes something for real, and says what. None has the private keys.
"""

from __future__ import annotations

import base64
import json
import shutil
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.gate import DATASET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from lazaretto.config import Workspace

    Mutation = Callable[[Workspace, np.random.Generator], str]


def active(workspace: Workspace) -> list[Path]:
    """The store files of the newest version."""
    from lazaretto.table import active_files, open_table

    table = open_table(workspace.store(DATASET))
    return sorted(workspace.store(DATASET) / name for name in (active_files(table) if table else ()))


def commits(workspace: Workspace) -> list[Path]:
    """The commits of the Delta log."""
    return sorted((workspace.store(DATASET) / "_delta_log").glob("*.json"))


def attestations(workspace: Workspace) -> list[Path]:
    """The signed attestations."""
    return sorted(workspace.attestations(DATASET).iterdir())


def statements(workspace: Workspace) -> list[Path]:
    """The versions of the contract that were signed."""
    return sorted(workspace.signed_contracts(DATASET).iterdir())


def contracts(workspace: Workspace) -> list[Path]:
    """The contract in force."""
    return [workspace.contract(DATASET)]


SEVERAL: dict[str, Callable[[Workspace], list[Path]]] = {
    "store file": active,
    "commit": commits,
    "attestation": attestations,
    "signed contract": statements,
}
NEWER = "# the second version that was signed\n"
"""What the contract in force has more than the one before."""
PLACES = {**SEVERAL, "contract": contracts}


def _one(paths: list[Path], rng: np.random.Generator) -> Path:
    return paths[int(rng.integers(len(paths)))]


def _flipped(path: Path, rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return "a bit"


def _cut(path: Path, rng: np.random.Generator) -> str:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content)))])
    return "cut short"


def _longer(path: Path, rng: np.random.Generator) -> str:
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 100))))
    return "longer"


def _zeroed(path: Path, rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    end = min(len(content), start + int(rng.integers(1, 64)))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return "zeroed in part"


def _removed(path: Path, _rng: np.random.Generator) -> str:
    path.unlink()
    return "removed"


def _renamed(path: Path, _rng: np.random.Generator) -> str:
    path.rename(path.with_name(f"0{path.name}"))
    return "renamed"


def _emptied(path: Path, _rng: np.random.Generator) -> str:
    path.write_bytes(b"")
    return "emptied"


def _in_a_folder(path: Path, _rng: np.random.Generator) -> str:
    path.unlink()
    path.mkdir()
    return "made a folder"


def _swapped(place: str) -> Mutation:
    def mutate(workspace: Workspace, rng: np.random.Generator) -> str:
        paths = PLACES[place](workspace)
        first, second = (paths[int(at)] for at in rng.choice(len(paths), 2, replace=False))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
        return f"two exchanged: {first.name}, {second.name}"

    return mutate


def _replayed(place: str) -> Mutation:
    def mutate(workspace: Workspace, rng: np.random.Generator) -> str:
        paths = PLACES[place](workspace)
        first, second = (paths[int(at)] for at in rng.choice(len(paths), 2, replace=False))
        second.write_bytes(first.read_bytes())
        return f"{first.name} in the place of {second.name}"

    return mutate


def _each(place: str, change: Callable[[Path, np.random.Generator], str]) -> Mutation:
    def mutate(workspace: Workspace, rng: np.random.Generator) -> str:
        path = _one(PLACES[place](workspace), rng)
        return f"{path.name}: {change(path, rng)}"

    return mutate


def poisoned_file(workspace: Workspace, rng: np.random.Generator) -> str:
    """A file with one value changed, written anew, brought to the size it had where it is smaller."""
    path = _one(active(workspace), rng)
    size, frame = path.stat().st_size, pl.read_parquet(path)
    names = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    name = names[int(rng.integers(len(names)))]
    at = int(rng.integers(frame.height))
    changed = pl.when(pl.int_range(pl.len()) == at).then(pl.col(name) + 1).otherwise(name).alias(name)
    frame.with_columns(changed).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content.ljust(size, b"\0"))
    return f"{path.name}: {name} of record {at}"


def shuffled_file(workspace: Workspace, rng: np.random.Generator) -> str:
    """A file with its records in another order."""
    path = _one(active(workspace), rng)
    pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=int(rng.integers(2**31))).write_parquet(path)
    return path.name


def extra_commit(workspace: Workspace, rng: np.random.Generator) -> str:
    """A commit more, which adds a file that is there already under another name."""
    path, log = _one(active(workspace), rng), commits(workspace)
    copy = path.parent.with_name("b-0") / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    add = {"path": f"b-0/{path.name}", "partitionValues": {}, "size": path.stat().st_size, "modificationTime": 0}
    action = json.dumps({"add": {**add, "dataChange": True}})
    (log[-1].parent / f"{len(log):020}.json").write_text(action + "\n")
    return "a commit more"


def statistics(workspace: Workspace, rng: np.random.Generator) -> str:
    """A commit whose statistics make readers leave out its records."""
    path = _one([path for path in commits(workspace) if "numRecords" in path.read_text()], rng)
    path.write_text(path.read_text().replace('\\"numRecords\\":', '\\"numRecords\\":1'))
    return path.name


def checkpoint(workspace: Workspace, _rng: np.random.Generator) -> str:
    """A Delta checkpoint, which readers believe in place of the commits."""
    from lazaretto.table import open_table

    table = open_table(workspace.store(DATASET))
    if table is not None:
        table.create_checkpoint()
    return "a checkpoint"


def edited(workspace: Workspace, rng: np.random.Generator) -> str:
    """An attestation that says more records, under its old signature."""
    path = _one(attestations(workspace), rng)
    envelope = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["active_rows"] += 1
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(envelope))
    return path.name


def signed_by_another(workspace: Workspace, rng: np.random.Generator) -> str:
    """An attestation signed anew, with a key of the attacker's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lazaretto.attest import PAYLOAD_TYPE, seal

    path = _one(attestations(workspace), rng)
    payload = base64.b64decode(json.loads(path.read_bytes())["payload"])
    path.write_bytes(seal(payload, PAYLOAD_TYPE, Ed25519PrivateKey.generate()))
    return path.name


def put_back(workspace: Workspace, rng: np.random.Generator) -> str:
    """Store, log and attestations as they were some publications ago, every signature valid."""
    mine = attestations(workspace)
    count = int(rng.integers(1, len(mine)))
    for path in [*mine[-count:], *commits(workspace)[-count:]]:
        path.unlink()
    return f"by {count}"


def another_policy(workspace: Workspace, rng: np.random.Generator) -> str:
    """A contract that lets more through, and parses."""
    path = workspace.contract(DATASET)
    rate = rng.uniform(1e-9, 1e-4)
    path.write_text(f"{path.read_text().rstrip()}\npolicy: {{false_quarantine_rate: {rate:.12f}}}\n")
    return "another rate"


def contract_put_back(workspace: Workspace, _rng: np.random.Generator) -> str:
    """The contract and what was signed of it as they were one version ago, every signature valid."""
    path = workspace.contract(DATASET)
    path.write_text(path.read_text().removesuffix(NEWER))
    statements(workspace)[-1].unlink()
    return "by one version"


def contract_signed_by_another(workspace: Workspace, rng: np.random.Generator) -> str:
    """A signed contract under a key of the attacker's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lazaretto.attest import PAYLOAD_TYPE, seal

    path = _one(statements(workspace), rng)
    payload = base64.b64decode(json.loads(path.read_bytes())["payload"])
    path.write_bytes(seal(payload, PAYLOAD_TYPE, Ed25519PrivateKey.generate()))
    return path.name


def nothing_signed(workspace: Workspace, _rng: np.random.Generator) -> str:
    """As if no contract had ever been signed."""
    shutil.rmtree(workspace.signed_contracts(DATASET))
    return "every signed contract removed"


def key_endorsed_by_its_thief(workspace: Workspace, _rng: np.random.Generator) -> str:
    """A history of keys in which an attacker's key takes the publisher's place."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lazaretto.attest import NOTHING, seal
    from lazaretto.key_history import RECORD_TYPE, KeyRecord, envelope_texts, history_file
    from lazaretto.keys import PUBLISHER, public_key

    mine = Ed25519PrivateKey.generate()
    old = public_key(workspace.keys, PUBLISHER).public_bytes_raw().hex()
    new = mine.public_key().public_bytes_raw().hex()
    record = KeyRecord(workspace.id, 1, NOTHING, "rotated", PUBLISHER, "2026-01-01T00:00:00+00:00", "eve", old, new)
    path = history_file(workspace)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(envelope_texts([seal(record.payload(), RECORD_TYPE, mine).decode()]))
    return "a forged rotation"


def another_policy_key(workspace: Workspace, _rng: np.random.Generator) -> str:
    """The policy's public key exchanged."""
    return _exchanged(workspace, "policy.pub")


def another_key(workspace: Workspace, _rng: np.random.Generator) -> str:
    """The publisher's public key exchanged."""
    return _exchanged(workspace, "publisher.pub")


def _exchanged(workspace: Workspace, name: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate().public_key()
    (workspace.keys / name).write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return name


MUTATIONS: dict[str, Mutation] = {
    **{
        f"{place} {what}": _each(place, change)
        for place in PLACES
        for what, change in {
            "with a bit flipped": _flipped,
            "cut short": _cut,
            "made longer": _longer,
            "zeroed in part": _zeroed,
            "removed": _removed,
            "renamed": _renamed,
            "emptied": _emptied,
            "turned into a folder": _in_a_folder,
        }.items()
    },
    **{f"two {place}s exchanged": _swapped(place) for place in SEVERAL},
    **{f"{place} replayed": _replayed(place) for place in SEVERAL},
    "store file with one value changed": poisoned_file,
    "store file with its records in another order": shuffled_file,
    "a commit more": extra_commit,
    "a commit's statistics": statistics,
    "a checkpoint beside the log": checkpoint,
    "attestation edited": edited,
    "attestation signed with another key": signed_by_another,
    "everything put back to an older state": put_back,
    "the public key exchanged": another_key,
    "contract with another policy": another_policy,
    "contract put back with what was signed of it": contract_put_back,
    "contract signed with another key": contract_signed_by_another,
    "no contract as if ever signed": nothing_signed,
    "the policy's public key exchanged": another_policy_key,
    "a key endorsed by its thief": key_endorsed_by_its_thief,
}
"""What -> how."""
