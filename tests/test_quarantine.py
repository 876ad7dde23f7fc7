from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.errors import IntegrityViolated
from lazaretto.quarantine import Content, Identity, Quarantined, Sealed, erase_batch, seal_batch
from lazaretto.records import ROW, SourceFile
from lazaretto.sealed import CHUNK_BYTES, SealedReader, SealedWriter

KEY = bytes(range(32))
MASTER = bytes(32)
WHO = Identity("flights", "b-1")
PLAIN = "what-must-not-be-readable"


def seal(path: Path, content: bytes, name: str = "x") -> Path:
    with SealedWriter(path, KEY, name) as out:
        out.write(content)
    return path


def opened(path: Path, name: str = "x", key: bytes = KEY) -> bytes:
    with SealedReader(path, key, name) as source:
        return source.read()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_is_sealed_is_read_back(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    assert opened(seal(tmp_path / "x", content)) == content


@given(st.lists(st.tuples(st.integers(0, 700_000), st.integers(0, 300_000)), max_size=8))
def test_seeking_and_reading_is_that_of_a_plain_file(jumps: list[tuple[int, int]]) -> None:
    content = bytes(range(251)) * 2400
    with (
        tempfile.TemporaryDirectory() as folder,
        io.BytesIO(content) as plain,
        SealedReader(seal(Path(folder) / "x", content), KEY, "x") as sealed,
    ):
        for place, count in jumps:
            assert sealed.seek(place) == plain.seek(place)
            assert sealed.read(count) == plain.read(count)


def damage(content: bytes) -> dict[str, bytes]:
    chunk = CHUNK_BYTES + 16
    head, body = content[:24], content[24:]
    chunks = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    return {
        "a flipped bit in the first chunk": head + bytes([body[0] ^ 1]) + body[1:],
        "a flipped bit in the last chunk": content[:-1] + bytes([content[-1] ^ 1]),
        "a flipped bit in the salt": content[:10] + bytes([content[10] ^ 1]) + content[11:],
        "cut in a chunk": content[:-5],
        "cut between chunks": head + b"".join(chunks[:-1]),
        "chunks swapped": head + b"".join([chunks[1], chunks[0], *chunks[2:]]),
        "a chunk left out": head + b"".join([chunks[0], *chunks[2:]]),
        "a chunk twice": head + b"".join([chunks[0], *chunks]),
        "a byte appended": content + b"x",
        "header alone": head,
        "empty": b"",
        "something else": b"PAR1" * 100,
    }


@pytest.mark.parametrize("how", list(damage(bytes(24 + 3 * (CHUNK_BYTES + 16)))))
def test_a_damaged_file_is_never_read(how: str, tmp_path: Path) -> None:
    path = seal(tmp_path / "x", os.urandom(2 * CHUNK_BYTES + 1000))
    path.write_bytes(damage(path.read_bytes())[how])
    with pytest.raises(IntegrityViolated, match=r"altered|sealed"):
        opened(path)


def test_a_file_under_another_name_or_key_is_not_read(tmp_path: Path) -> None:
    path = seal(tmp_path / "x", b"content")
    for name, key in (("y", KEY), ("x", bytes(32))):
        with pytest.raises(IntegrityViolated, match="not what it is called"):
            opened(path, name, key)


def test_a_writer_that_is_interrupted_leaves_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), SealedWriter(tmp_path / "x", KEY, "x") as out:  # noqa: PT012  the body raises
        out.write(os.urandom(3 * CHUNK_BYTES))
        raise ValueError("stop")
    with pytest.raises(IntegrityViolated):
        opened(tmp_path / "x")


def test_equal_content_is_sealed_differently_each_time(tmp_path: Path) -> None:
    assert seal(tmp_path / "a", b"same").read_bytes() != seal(tmp_path / "b", b"same").read_bytes()


def content_of(folder: Path) -> Content:
    folder.mkdir()
    frames = [
        pl.DataFrame({"v": [f"{PLAIN}-{i}" for i in rows], ROW: pl.Series(rows, dtype=pl.UInt64)})
        for rows in (range(10), range(20, 25), range(0))
    ]
    pl.DataFrame({ROW: pl.Series([11], dtype=pl.UInt64), "original": [PLAIN.encode()]}).write_parquet(folder / "rej")
    files = []
    for name in ("a.csv", "b.csv"):
        text = f"{PLAIN} {name}\n".encode() * 50_000
        (folder / name).write_bytes(text)
        files.append(SourceFile(name, hashlib.sha256(text).hexdigest(), len(text), folder / name))
    return Content(iter(frames), folder / "rej", tuple(files))


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return seal_batch(tmp_path / "q" / "b-1", WHO, MASTER, content_of(tmp_path / "in"))


def test_a_sealed_batch_is_read_back_whole_or_one_record_at_a_time(sealed: Sealed, tmp_path: Path) -> None:
    quarantined = Quarantined(tmp_path / "q" / "b-1", WHO, MASTER)
    assert quarantined.digest == sealed.digest
    assert quarantined.manifest == sealed.manifest
    assert [row for frame in quarantined.records() for row in frame[ROW]] == [*range(10), *range(20, 25)]
    assert quarantined.select([22, 3])["v"].to_list() == [f"{PLAIN}-3", f"{PLAIN}-22"]
    assert [frame["original"].to_list() for frame in quarantined.rejects()] == [[PLAIN.encode()]]
    second = quarantined.manifest.originals[1]
    assert hashlib.sha256(b"".join(quarantined.original(second))).hexdigest() == second.sha256
    assert quarantined.check() == []


def test_a_record_that_is_not_there_is_not_silently_left_out(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(IntegrityViolated, match="holds 1 of the 2"):
        Quarantined(tmp_path / "q" / "b-1", WHO, MASTER).select([3, 15])


def test_nothing_readable_lies_on_the_disk(sealed: Sealed, tmp_path: Path) -> None:
    for path in (tmp_path / "q").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
        if path.is_file():
            assert PLAIN.encode() not in path.read_bytes()
            assert b"a.csv" not in path.read_bytes()


@pytest.mark.parametrize("name", ["records-00000.parquet", "records-00001.parquet", "rejects.parquet", "originals"])
@pytest.mark.parametrize("how", ["flip", "remove", "swap"])
def test_every_damaged_part_is_found(name: str, how: str, sealed: Sealed, tmp_path: Path) -> None:
    folder = tmp_path / "q" / "b-1"
    path = folder / name
    if how == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "remove":
        path.unlink()
    else:
        path.write_bytes((folder / "manifest").read_bytes())
    assert any(name in fault for fault in Quarantined(folder, WHO, MASTER).check())


def test_a_batch_opens_only_with_its_own_key_as_itself(sealed: Sealed, tmp_path: Path) -> None:
    folder = tmp_path / "q" / "b-1"
    for identity, master in (
        (WHO, bytes([1]) * 32),
        (Identity("flights", "b-2"), MASTER),
        (Identity("x", "b-1"), MASTER),
    ):
        with pytest.raises(IntegrityViolated, match="another master key"):
            Quarantined(folder, identity, master)


def test_a_batch_whose_key_was_destroyed_is_gone(sealed: Sealed, tmp_path: Path) -> None:
    erase_batch(tmp_path / "q" / "b-1")
    with pytest.raises(IntegrityViolated, match="cannot be read again"):
        Quarantined(tmp_path / "q" / "b-1", WHO, MASTER)
    erase_batch(tmp_path / "q" / "b-1")


def test_a_sealed_batch_is_never_replaced(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(IntegrityViolated, match="exists"):
        seal_batch(tmp_path / "q" / "b-1", WHO, MASTER, content_of(tmp_path / "again"))


def test_a_stray_file_is_found(sealed: Sealed, tmp_path: Path) -> None:
    (tmp_path / "q" / "b-1" / "extra").write_text("x")
    assert "does not belong there" in Quarantined(tmp_path / "q" / "b-1", WHO, MASTER).check()[0]
