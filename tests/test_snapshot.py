from __future__ import annotations

import hashlib
import os
import pickle
import resource
from typing import TYPE_CHECKING

import pytest

from lazaretto.errors import InputRefused, LazarettoError, UsageError
from lazaretto.pipelines.snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.records import Batch

PNG = b"\x89PNG\r\n\x1a\nrest"


def write(path: Path, content: bytes = b"a,b\n1,2\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(batch: Batch) -> list[str]:
    return [file.name for file in batch.files]


def refusal(path: Path, into: Path) -> LazarettoError:
    with pytest.raises((InputRefused, UsageError)) as caught:
        snapshot([path], "d", into)
    return caught.value


def test_a_copy_lies_under_the_hash_of_what_was_read(tmp_path: Path) -> None:
    content = os.urandom(3_000_000).replace(b"\x80", b"x")
    file = snapshot([write(tmp_path / "a.csv", b"a" + content)], "d", tmp_path / "into").files[0]
    assert file.sha256 == hashlib.sha256(b"a" + content).hexdigest() == file.copy.name
    assert file.copy.read_bytes() == b"a" + content
    assert file.size == len(content) + 1


def test_the_batch_id_follows_content_not_names_or_order(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.csv", b"a\n1\n"), write(tmp_path / "2.csv", b"a\n2\n")
    same = write(tmp_path / "other.csv", b"a\n1\n")
    into = tmp_path / "into"
    assert snapshot([one, two], "d", into).id == snapshot([two, same], "d", into).id
    assert snapshot([one, two], "d", into).id != snapshot([one], "d", into).id
    assert snapshot([one], "d", into).id != snapshot([one], "e", into).id


def test_globs_and_folders_stand_for_their_files_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.jsonl", "sub/d.parquet"):
        write(tmp_path / "in" / name, b"PAR1" if name.endswith("parquet") else b"{}")
    folder = str(tmp_path / "in")
    assert names(snapshot([f"{folder}/*.csv"], "d", tmp_path / "into")) == [f"{folder}/a.csv", f"{folder}/b.csv"]
    everything = [f"{folder}/{name}" for name in ("a.csv", "b.csv", "c.jsonl", "sub/d.parquet")]
    assert names(snapshot([folder], "d", tmp_path / "into")) == everything


def test_a_file_named_twice_counts_once_and_a_second_file_of_equal_content_counts(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.csv"), write(tmp_path / "2.csv")
    batch = snapshot([two, tmp_path / "*.csv", one], "d", tmp_path / "into")
    assert names(batch) == [str(two), str(one)]


def test_an_image_folder_keeps_its_class_folders_and_every_file_in_it(tmp_path: Path) -> None:
    for name in ("dog/2.png", "cat/1.JPG", "cat/Thumbs.db", "cat/empty.png"):
        write(tmp_path / "pets" / name, b"" if "empty" in name else PNG)
    batch = snapshot([tmp_path / "pets"], "d", tmp_path / "into")
    assert names(batch) == ["cat/1.JPG", "cat/Thumbs.db", "cat/empty.png", "dog/2.png"]
    assert {file.root for file in batch.files} == {str(tmp_path / "pets")}


def test_moving_an_image_to_another_class_changes_the_batch_id(tmp_path: Path) -> None:
    write(tmp_path / "one" / "cat" / "1.png", PNG)
    write(tmp_path / "two" / "dog" / "1.png", PNG)
    into = tmp_path / "into"
    assert snapshot([tmp_path / "one"], "d", into).id != snapshot([tmp_path / "two"], "d", into).id


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", pickle.dumps([1, 2]), "a pickle"),
        ("a.pkl", b"x", "a pickle"),
        ("a.parquet", b"ARROW1\0\0", "Arrow IPC"),
        ("a.arrow", b"x", "Arrow IPC"),
        ("a.csv", b"\xff\xff\xff\xff\x10\0\0\0", "Arrow IPC"),
        ("a.csv", b"\x1f\x8b\x08", "gzip"),
        ("a.csv.gz", b"x", "a packed file"),
        ("a.jsonl", b"PK\x03\x04", "a zip archive"),
        ("a.csv", b"a" * 257 + b"ustar\x00", "a tar archive"),
        ("a.csv", b"PAR1....PAR1", "is Parquet but is not called so"),
        ("a.parquet", b"a,b\n", "is called Parquet but is not"),
        ("a.csv", PNG, "is an image"),
        ("a.csv", "a,b".encode("utf-16"), "must be UTF-8"),
        ("a.txt", b"a,b\n", "no data format"),
        ("README", b"a,b\n", "no data format"),
        ("a.png", PNG, "a single image"),
    ],
)
def test_what_is_no_data_file_is_refused_whole(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    error = refusal(write(tmp_path / "in" / name, content), tmp_path / "into")
    assert words in error.message
    assert error.exit_code == 4
    assert not any((tmp_path / "into").glob("*"))


def test_links_are_refused_wherever_they_lie(tmp_path: Path) -> None:
    target = write(tmp_path / "in" / "a.csv")
    (tmp_path / "link.csv").symlink_to(target)
    (tmp_path / "folder").symlink_to(tmp_path / "in")
    write(tmp_path / "data" / "b.csv")
    (tmp_path / "data" / "c.csv").symlink_to(target)
    write(tmp_path / "deep" / "b.csv")
    (tmp_path / "deep" / "sub").symlink_to(tmp_path / "in")
    for name in ("link.csv", "folder", "data", "deep"):
        error = refusal(tmp_path / name, tmp_path / "into")
        assert "is a link" in error.message
        assert error.exit_code == 4


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert "no regular file" in refusal(tmp_path / "a.csv", tmp_path / "into").message


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.csv", tmp_path / "into").message
    assert "no file matches" in refusal(tmp_path / "*.csv", tmp_path / "into").message


def test_a_folder_of_images_and_tables_or_of_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "in" / "cat" / "1.png", PNG)
    write(tmp_path / "in" / "labels.csv")
    (tmp_path / "empty").mkdir()
    assert "both images" in refusal(tmp_path / "in", tmp_path / "into").message
    assert "holds no data file" in refusal(tmp_path / "empty", tmp_path / "into").message


def test_a_file_that_is_no_data_refuses_the_folder_it_lies_in(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv")
    write(tmp_path / "in" / "notes.txt")
    assert "notes.txt" in refusal(tmp_path / "in", tmp_path / "into").message


def test_a_name_with_control_characters_is_refused(tmp_path: Path) -> None:
    assert "control characters" in refusal(write(tmp_path / "a\n.csv"), tmp_path / "into").message


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path) -> None:
    big = write(tmp_path / "a.csv", b"a\n" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        error = refusal(big, tmp_path / "into")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.message == f"no space left on the disk of {tmp_path / 'into'}"
    assert error.exit_code == 2
    assert not any((tmp_path / "into").iterdir())


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    write(tmp_path / "file")
    assert "cannot write to" in refusal(write(tmp_path / "a.csv"), tmp_path / "file" / "into").message
