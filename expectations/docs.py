"""Great Expectations' own Data Docs page for one verdict, on demand.

Two departures from what Great Expectations writes. No value of a record is in it: only yes or no per expectation, as
its ``BOOLEAN_ONLY`` results have it, since Data Docs otherwise quote cells. And nothing is loaded from elsewhere: the
page as generated pulls scripts, styles and a picture from eight hosts, which would tell them who looks at what and
could change what is seen. Those are taken out, and a content security policy keeps what is left from fetching or
running anything. Search, filters and pop-ups are lost with them.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from lazaretto.expectations.gx import results_page

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from lazaretto.expectations.check import CheckResult
    from lazaretto.expectations.suite import Expectation

PAGE = "index.html"

_HEAD = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font-family: sans-serif; margin: 2rem; max-width: 70rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.badge { background: #eee; padding: 0 .3rem; }
.btn, .modal, .navbar, nav, footer, .dropdown { display: none; }
</style>
"""
_SCRIPTS = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_FETCHING = re.compile(r"<(?:link|img|iframe|base|object|embed)\b[^>]*>", re.IGNORECASE)


def data_docs(result: CheckResult, into: Path, made: datetime) -> Path:
    """Write the Data Docs page of a verdict.

    Args:
        result: What ``check`` gave.
        into: Folder for the page; created if absent.
        made: When the verdict was given, as the page says it.

    Returns:
        The page.
    """
    # The results also hold our own looks at vectors, after those of the suite.
    answered = zip(result.suite.expectations, result.results, strict=False)
    promised = [(_harmless(item), bool(found["success"])) for item, found in answered]
    page = results_page(result.suite.name, promised, made)
    page = _FETCHING.sub("", _SCRIPTS.sub("", page))
    into.mkdir(parents=True, exist_ok=True)
    path = into / PAGE
    path.write_text(page.replace("<head>", f"<head>\n{_HEAD}", 1), encoding="utf-8")
    return path


def _harmless(expectation: Expectation) -> tuple[str, dict[str, Any], str]:
    """Type, arguments and severity; Great Expectations writes column names into the page as they are."""
    named = {"column", "columns", "names"}
    forms = expectation.kind.arguments
    kwargs = {
        name: _escaped(value) if forms.get(name) in named else value
        for name, value in expectation.kwargs.items()
        if name != "row_condition"  # rendered unescaped too, and not needed to know what was met
    }
    return expectation.type, kwargs, expectation.severity


def _escaped(value: Any) -> Any:  # noqa: ANN401  a name or a list of names
    return [html.escape(item) for item in value] if isinstance(value, list) else html.escape(value)
