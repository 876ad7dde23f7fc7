"""The report says what the files say, shows hostile content as harmless text, and loads nothing."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lazaretto.contract import Contract, parse_contract
from lazaretto.dashboards import shown
from lazaretto.dashboards.pictures import Box, picture
from lazaretto.dashboards.report import render_report
from lazaretto.errors import UsageError
from lazaretto.records import DIGEST, RECORD_ID, ROW

CONTRACT = """
dataset: tickets
id: ticket
label: mood
source: partner
columns:
  words: {type: integer}
  note: {type: text, nullable: true}
  author: {type: text, pii: true, nullable: true}
"""
ROWS = 200
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Judged:
    """A small judged folder: rows 0 to 9 wait, rows 190 to 199 are rejected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contract = parse_contract(CONTRACT, "tickets.yaml")
        decision = ["quarantine"] * 10 + ["admit"] * 180 + ["reject"] * 10
        p = [(i + 1) / 2000 for i in range(10)] + list(np.linspace(0.02, 1, 180)) + [float("nan")] * 10
        self.ids = [f"t{i}" for i in range(ROWS)]
        self.verdicts = pl.DataFrame(
            {"record_id": self.ids, "decision": decision, "suspicion": [-x for x in p], "p_value": p, "q_value": p}
        )
        why = "most unusual: words (+6.0 sd)"
        evidence = json.dumps([{"detector": "iforest", "score": 1.0, "p_value": 1e-6, "why": why}])
        self.evidence = pl.DataFrame(
            {ROW: range(10), "record_id": self.ids[:10], "suspect": [True] * 10, "evidence": [evidence] * 10}
        )
        self.rejects = pl.DataFrame(
            {ROW: range(190, 200), "stage": "parse", "column": "words", "reason": "not a whole number", "original": b""}
        )
        self.records: dict[str, Any] = {"words": 7, "note": "hello", "author": "Ada", "mood": "good", "partner": "p1"}
        self.summary = _summary()

    def render(self, contract: Contract | None = None, *, known: bool = True) -> str:
        (self.path / "canonical").mkdir(exist_ok=True)
        records = pl.DataFrame({ROW: range(190), **self.records}).with_columns(
            pl.Series("ticket", self.ids[:190]), pl.Series(RECORD_ID, self.ids[:190]), pl.lit("d").alias(DIGEST)
        )
        records.cast({ROW: pl.UInt64}).write_parquet(self.path / "canonical" / "part-00000.parquet")
        self.verdicts.write_parquet(self.path / "verdicts.parquet")
        for name, frame in (("evidence", self.evidence), ("rejects", self.rejects)):
            frame.cast({ROW: pl.UInt64}).write_parquet(self.path / f"{name}.parquet")
        (self.path / "summary.json").write_text(json.dumps(self.summary))
        return render_report(self.path, (contract or self.contract) if known else None).read_text()


def _summary() -> dict[str, Any]:
    line = {"arrived": 200, "admitted": 180, "quarantined": 10, "rejected": 10}
    result = {"type": "expect_column_values_to_be_between", "columns": ["words"], "unexpected": 3, "success": False}
    return {
        "dataset": "tickets",
        "batch": "b-0123",
        **line,
        "suspects": 10,
        "hold": False,
        "hold_reasons": [],
        "null": {"kind": "trusted"},
        "false_quarantine_rate": 0.01,
        "detectors": [{"name": "iforest", "family": "outlier", "seconds": 1.5, "flagged": 12}],
        "stages": [{"name": "parse", "seconds": 0.5, "records_per_second": 400}],
        "per_source": [{"name": "p1", **line}],
        "per_class": [{"name": "good", **line}],
        "validation": {"evaluated": 190, "expected": 190, "results": [result]},
        "versions": {"lazaretto": "0.1.0"},
        "seed": 0,
        "device": "cpu",
        "digests": {"contract": "c" * 64, "files": {"tickets.csv": "f" * 64}},
        "ignored_columns": ["colour"],
    }


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    return Judged(tmp_path)


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def _words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


def _harmless(page: str) -> bool:
    seen = _Tags(page)
    loads = [value or "" for name, value in seen.attributes if name in {"src", "href", "srcset", "action", "data"}]
    return (
        not seen.tags & {"script", "iframe", "object", "embed", "link", "form", "base", "a"}
        and not any(name.startswith("on") for name, _ in seen.attributes)
        and all(value.startswith("data:image/png;base64,") for value in loads)
        and not re.search(r"url\(|@import|https?://", page.partition("</style>")[0])
    )


def test_a_few_suspects_stranger_than_any_clean_record_are_not_called_what_clean_data_gives(judged: Judged) -> None:
    judged.summary |= {"quarantined": 2, "suspects": 2, "admitted": 188}
    assert "2 of 200 records wait, about what clean data would give" in _words(judged.render())
    first = pl.int_range(pl.len()) < 2
    judged.verdicts = judged.verdicts.with_columns(p_value=pl.when(first).then(1e-12).otherwise("p_value"))
    assert "2 of 200 records wait, 2 of them are stranger than any clean record is likely to be" in _words(
        judged.render()
    )


def test_the_numbers_of_the_summary_are_on_the_page(judged: Judged) -> None:
    words = _words(judged.render())
    assert "10 of 200 records wait, 5.3 times what clean data would give" in words
    assert "200 arrived = 180 admitted + 10 quarantined + 10 rejected" in words
    assert "5.3 \u00d7 10 suspicious, 1.9 expected of clean data" in words
    assert "0 of 1 expectations are met, evaluated on 190 of 190 records" in words
    assert "iforest outlier 12 1.9 1.50 s" in words
    assert "words: not a whole number parse 10" in words
    assert "colour: neither judged nor kept" in words


def test_each_case_says_why_it_waits_and_marks_the_column_that_drove_it(judged: Judged) -> None:
    page = judged.render()
    assert page.count("most unusual: words (+6.0 sd)") == 2 * 10  # once in the line, once in the case
    assert '<div class="driving"><dt>words</dt><dd>7</dd></div>' in page
    assert '<div class="driving"><dt>note' not in page
    assert _words(page).index("t0 mood = good") < _words(page).index("t9 mood = good")


def test_hostile_content_stays_text_wherever_it_stands(judged: Judged) -> None:
    judged.records |= {"note": HOSTILE, "mood": HOSTILE, "partner": HOSTILE}
    judged.summary["per_class"][0]["name"] = judged.summary["per_source"][0]["name"] = HOSTILE
    judged.summary["hold"], judged.summary["hold_reasons"] = True, [HOSTILE]
    judged.summary["ignored_columns"] = [HOSTILE]
    judged.summary["digests"]["files"] = {HOSTILE: "f"}
    judged.rejects = judged.rejects.with_columns(pl.lit(HOSTILE).alias("reason"), pl.lit(HOSTILE).alias("column"))
    said = [{"detector": HOSTILE, "score": 1.0, "p_value": 0.1, "why": HOSTILE}]
    judged.evidence = judged.evidence.with_columns(pl.lit(json.dumps(said)).alias("evidence"))
    page = judged.render()
    assert _harmless(page)
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_loads_nothing_and_runs_nothing(judged: Judged) -> None:
    page = judged.render()
    assert _harmless(page)
    assert "default-src 'none'" in page


def test_a_check_that_finds_no_harm_in_harm_would_be_no_check() -> None:
    assert not _harmless("<style></style>" + HOSTILE)
    assert not _harmless('<style></style><img src="https://example.org/x.png">')


def test_text_that_would_read_backwards_is_written_out(judged: Judged) -> None:
    judged.records["note"] = "gpj\u202egood\u200b"
    page = judged.render()
    assert "gpj\\u{202e}good\\u{200b}" in page
    assert "\u202e" not in page


def test_personal_data_is_withheld_but_equal_values_read_the_same(judged: Judged) -> None:
    judged.records["author"] = pl.Series(["Ada", "Bob"] * 95)
    page = judged.render()
    assert "Ada" not in page
    assert page.count("withheld 1<") == page.count("withheld 2<") == 5


def test_personal_ids_and_sources_are_withheld_too(judged: Judged) -> None:
    private = CONTRACT.replace("columns:", "columns:\n  ticket: {type: category, pii: true}")
    private = private.replace("columns:", "columns:\n  partner: {type: category, pii: true}")
    judged.summary["per_source"][0]["name"] = judged.records["partner"] = "Ada Ltd"
    page = judged.render(parse_contract(private, "tickets.yaml"))
    assert "Ada Ltd" not in page
    assert not re.search(r"\bt[0-9]\b", _words(page))


def test_without_the_contract_no_value_of_a_record_is_shown(judged: Judged) -> None:
    words = _words(judged.render(known=False))
    assert "hello" not in words
    assert "p1" not in words
    assert "without the contract it is not known which hold personal data" in words


def test_a_batch_with_nothing_to_see_says_so(judged: Judged) -> None:
    judged.verdicts = judged.verdicts.with_columns(pl.lit("admit").alias("decision"), pl.lit(0.5).alias("p_value"))
    judged.evidence, judged.rejects = judged.evidence.clear(), judged.rejects.clear()
    judged.summary |= {"admitted": 200, "quarantined": 0, "rejected": 0, "suspects": 0}
    words = _words(judged.render())
    assert "All 200 records were admitted" in words
    assert "No record is suspicious on its own. 1 detector ran." in words
    assert "No record broke the contract." in words


def test_a_batch_too_small_to_judge_is_told_as_held_with_its_reason(judged: Judged) -> None:
    nothing = pl.lit(float("nan"))
    judged.verdicts = judged.verdicts.with_columns(nothing.alias("p_value"), nothing.alias("suspicion"))
    judged.evidence = judged.evidence.with_columns(pl.lit(value=False).alias("suspect"))
    judged.summary |= {"hold": True, "hold_reasons": ["12 records are fewer than the 200 the detectors need"]}
    judged.summary |= {"suspects": 0, "quarantined": 190, "admitted": 0, "null": {"kind": "none"}, "detectors": []}
    words = _words(judged.render())
    assert "The whole batch is held: none of its 200 records was admitted" in words
    assert "12 records are fewer than the 200 the detectors need" in words
    assert "190 records have no p-value; such a record always waits" in words
    assert "No detector ran on this batch." in words


def test_a_held_batch_shows_its_suspects_and_not_the_records_held_with_them(judged: Judged) -> None:
    judged.evidence = judged.evidence.with_columns((pl.col(ROW) < 4).alias("suspect"))
    judged.summary |= {"hold": True, "hold_reasons": ["too many"], "suspects": 4, "quarantined": 190, "admitted": 0}
    words = _words(judged.render())
    assert "The strongest 4 cases of 4" in words
    assert "The whole batch is held: 4 of 200 records are suspicious" in words


def test_cases_stand_in_the_order_of_the_review(judged: Judged) -> None:
    lower = pl.when(pl.col("record_id") == "t0").then(1e9).otherwise(pl.col("suspicion"))
    higher = pl.when(pl.col("record_id") == "t0").then(2 * pl.col("p_value").max()).otherwise(pl.col("p_value"))
    judged.verdicts = judged.verdicts.with_columns(lower.alias("suspicion"), higher.alias("p_value"))
    words = _words(judged.render())
    assert words.index("t1 mood") < words.index("t0 mood")


def test_a_record_without_a_score_comes_first(judged: Judged) -> None:
    for name in ("suspicion", "p_value"):
        unscored = pl.when(pl.col("record_id") == "t7").then(float("nan")).otherwise(pl.col(name))
        judged.verdicts = judged.verdicts.with_columns(unscored.alias(name))
    words = _words(judged.render())
    assert words.index("t7 mood") < words.index("t0 mood")


def test_a_source_that_sends_more_than_its_share_is_named_at_the_top(judged: Judged) -> None:
    quiet = {"arrived": 150, "admitted": 148, "quarantined": 0, "rejected": 2}
    loud = {"arrived": 50, "admitted": 32, "quarantined": 10, "rejected": 8}
    judged.summary["per_source"] = [{"name": "calm", **quiet}, {"name": "crawl", **loud}]
    assert "10 of the 10 suspects have partner = crawl, 24 % of all that do." in _words(judged.render())


def test_rendering_twice_gives_the_same_bytes(judged: Judged) -> None:
    assert judged.render() == judged.render()


def test_a_folder_that_holds_no_judged_batch_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no judged batch"):
        render_report(tmp_path)


def _png(width: int, height: int) -> bytes:
    target = io.BytesIO()
    Image.new("L", (width, height), 128).save(target, format="PNG")
    return target.getvalue()


def test_an_image_is_encoded_anew_and_the_named_pixels_are_outlined() -> None:
    data = _png(28, 28)
    shown_picture = picture(
        "photo", data + b"hidden after the end", ["pixels in rows 7-13, columns 21-27 of 28 x 28: of"]
    )
    assert shown_picture is not None
    assert shown_picture.boxes == (Box(left=75.0, top=25.0, width=25.0, height=25.0),)
    assert (shown_picture.width, shown_picture.height) == (168, 168)
    assert "hidden" not in shown_picture.uri


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", _png(2001, 2000)], ids=len)
def test_an_image_that_cannot_be_decoded_within_the_limits_is_not_shown(data: bytes) -> None:
    assert picture("photo", data, []) is None


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast_for_everyone(theme: int) -> None:
    style = (Path(shown.__file__).parent / "templates" / "report_style.html").read_text()
    colours = dict(
        re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", style.split("@media (prefers-color-scheme: dark)")[theme])
    )
    pairs = [(ink, ground) for ink in ("ink", "quiet", "red", "link") for ground in ("page", "card")]
    pairs += [("quiet", "soft"), *((tone, f"{tone}-soft") for tone in ("red", "amber", "green")), ("ink", "amber-soft")]
    for ink, ground in pairs:
        dark, light = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
