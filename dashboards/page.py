"""One template filled in and put where it belongs, in one step."""

from __future__ import annotations

import os
from pathlib import Path

from lazaretto.dashboards import shown

_FILTERS = ("count", "percent", "probability", "seconds", "text")


def write_page(template: str, target: Path, content: dict[str, object]) -> Path:
    """Fill in a template and write it.

    Args:
        template: Its file name under `templates/`.
        target: The file to write, or to replace.
        content: Everything the template names.

    Returns:
        ``target``: no script, nothing loaded from elsewhere.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(shown, name) for name in _FILTERS}
    draft = target.with_name(f".{target.name}")
    draft.write_text(environment.get_template(template).render(content), encoding="utf-8")
    os.replace(draft, target)  # noqa: PTH105  one step: nobody reads half a page
    return target
