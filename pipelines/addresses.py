"""Where alerts go: addresses of Apprise, which hold passwords and are kept like keys; and the way to one of them."""

from __future__ import annotations

import os
import stat
import tomllib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.config import FILE
from lazaretto.durable import PRIVATE_FILE
from lazaretto.errors import UsageError
from lazaretto.monitoring import ALERTS_VARIABLE
from lazaretto.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.config import Workspace

_LOUD = "apprise"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def addresses(workspace: Workspace) -> tuple[str, ...]:
    """The addresses: those of the environment, else those of ``lazaretto.toml`` and of the file it names.

    Raises:
        UsageError: There are none, or a file that holds some cannot be read, or can be read by others.
    """
    said = os.environ.get(ALERTS_VARIABLE, "").split()
    if not said:
        said = list(_configured(workspace))
    if not said:
        hint = f"[alerts] in {FILE} names a file with them, or set {ALERTS_VARIABLE}"
        raise UsageError("no address for alerts is configured", hint=hint)
    return tuple(dict.fromkeys(said))


def _configured(workspace: Workspace) -> Iterator[str]:
    file = workspace.monitoring.alerts_file
    path = workspace.root / FILE
    content = tomllib.loads(_read(path, secret=False).decode())
    urls = content.get("alerts", {}).get("urls", [])
    if urls:
        _read(path, secret=True)  # only then is it a secret
    yield from (url.strip() for url in urls)
    if file is not None:
        lines = _read(file, secret=True).decode(errors="replace").splitlines()
        yield from (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


@dataclass(frozen=True)
class Service:
    """One address, ready to be sent to."""

    plugin: Any
    """Apprise's; None for an address that it does not know."""

    @property
    def name(self) -> str:
        """What kind of address it is, without anything of what it holds; empty for one that Apprise does not know."""
        return "" if self.plugin is None else str(self.plugin.service_name)

    def send(self, title: str, body: str) -> bool:
        """Send one message; whether it was taken."""
        try:
            with quiet(_LOUD):  # it logs what it sends and to whom
                return self.plugin is not None and bool(self.plugin.notify(body=body, title=title))
        except Exception:  # noqa: BLE001  of a plugin for somebody's service; what it says may hold the address
            return False


def service(url: str) -> Service:
    """The service at an address. To be called by the main thread: it loads Apprise, whose plugins warn as they load."""
    with warnings.catch_warnings(), quiet(_LOUD):
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        asset = apprise.AppriseAsset(app_id="Lazaretto", app_desc="Lazaretto", async_mode=False)
        return Service(apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True))


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            if secret and os.name != "nt" and mode & _OTHERS:
                raise UsageError(
                    f"{path} holds addresses for alerts and can be read or written by others"
                    f" (mode {stat.S_IMODE(mode):04o})",
                    hint=f"chmod {PRIVATE_FILE:o} {path}, and renew the passwords in it if others had access to it",
                )
            return source.read()
    except OSError as error:
        raise UsageError(f"{path}, which holds addresses for alerts, cannot be read: {error.strerror}") from error
