"""Where every command and page comes in: the workspace, and who acts in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lazaretto.authorisation import Who, authorise, everybody
from lazaretto.config import Workspace, find_workspace

if TYPE_CHECKING:
    from pathlib import Path


def enter(given: str | Path | Workspace | None, action: str, dataset: str | None = None) -> Workspace:
    """The workspace, with who acts in it, once it is clear that they may do this to something at least.

    Raises:
        UsageError: There is no workspace.
        Forbidden: Nobody is logged in where there are accounts, or they may not do this.
    """
    place = given if isinstance(given, Workspace) else find_workspace(given)
    who = acting(place)
    authorise(who, action, dataset=dataset)
    return replace(place, who=who)


def acting(workspace: Workspace) -> Who:
    """Who acts in a workspace: whoever came in, else whoever is logged in; where there are no accounts, everybody.

    Raises:
        Forbidden: There are accounts, and nobody is logged in.
    """
    if workspace.who is not None:
        return workspace.who
    if not workspace.accounts_mark.exists():
        return everybody()
    from lazaretto.sessions import identify

    return identify(workspace)
