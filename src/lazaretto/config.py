"""The workspace: one folder with its configuration, contracts, keys and state."""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.anchor_settings import AnchorSettings, anchor_settings
from lazaretto.durable import PRIVATE_FILE, make_folder, writable, write_durably
from lazaretto.errors import Unavailable, UsageError
from lazaretto.monitoring import KNOWN, TEMPLATE, Monitoring, read_monitoring
from lazaretto.monitoring import text_in as _text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.authorisation import Who
    from lazaretto.oidc import Provider

FILE = "lazaretto.toml"
VARIABLE = "LAZARETTO_WORKSPACE"
LEDGER_VARIABLE = "LAZARETTO_LEDGER_URL"
KEYS_VARIABLE = "LAZARETTO_KEYS"
FOLDERS = ("contracts", "landing", "trusted", "keys", "state")

_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ODD = set("%#?[]^|\\")
"""Characters that Delta Lake takes for an escape, a part of a URL or a pattern, when they stand in a path."""
_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,39}")
_KNOWN: dict[str, tuple[str, ...]] = {
    "": ("id", "ledger", "audit", "keys", "oidc", *KNOWN),
    "ledger": ("url",),
    "audit": ("anchor",),
    "keys": ("folder", "require_signed_contract"),
    "oidc": ("issuer", "client_id", "name_claim", "roles_claim", "roles"),
    **KNOWN,
}
_TEMPLATE = """\
# A Lazaretto workspace. Paths are relative to this file.

# Names this workspace in signatures and in the audit log; once data was published it must not change.
id = "{id}"

[ledger]
# Where cases, decisions and the audit log are kept. The default is an SQLite file in state/. A team shares a
# PostgreSQL server; the environment variable LAZARETTO_LEDGER_URL, when set, is used instead (for passwords).
# url = "postgresql+psycopg://lazaretto@db.example.org/lazaretto"

[audit]
# Where a copy of every signed audit checkpoint goes, best where the owner of the ledger cannot write back: a folder on
# a write-once share, a git repository that takes no force, a bucket with object lock; several of them as a list.
# `lazaretto verify` compares each with the log; what cannot be reached stops all work. More is said in docs/keys.md.
# anchor = "/mnt/worm/lazaretto"
# anchor = [{{git = "ssh://git@example.org/audit.git"}}, {{s3 = "bucket", prefix = "lazaretto/", retain = "3650d"}}]

[keys]
# publisher.key signs what is published, audit.key the audit log, policy.key the contracts (lazaretto contract sign),
# master.key locks the quarantine. Back them up; docs/keys.md says who should hold which.
# A machine that only runs the gate needs publisher.pub alone, and policy.pub once a contract was signed or a key
# changed; where others can write this workspace, let the environment variable LAZARETTO_KEYS name a folder of that
# machine's own instead.
folder = "keys"
# Whether nothing is ingested, and the gate says no, before a data set's contract was signed.
# require_signed_contract = true

# [oidc]
# Where people have accounts, they can log in at an identity provider (lazaretto login --oidc); see docs/people.md.
# issuer = "https://id.example.org"
# client_id = "lazaretto"
# roles = {{ "data-stewards" = ["analyst"], "leads" = ["analyst", "approver"] }}
"""


@dataclass(frozen=True)
class Workspace:
    """Where everything lies. Holds no secret and opens nothing."""

    root: Path
    id: str
    ledger_url: str
    keys: Path
    anchors: tuple[AnchorSettings, ...] = ()
    """Where audit checkpoints are copied to."""
    require_signed_contract: bool = False
    monitoring: Monitoring = field(default_factory=Monitoring)
    oidc: Provider | None = None
    """Where people can log in, if that is configured."""
    who: Who | None = None
    """Who came in to act in it; see `lazaretto.entrance`."""

    @property
    def people(self) -> Path:
        """What is kept of accounts beside the ledger."""
        return self.state / "people"

    @property
    def accounts_mark(self) -> Path:
        """Is there as soon as there are accounts: from then on nobody acts without one."""
        return self.people / "accounts"

    @property
    def state(self) -> Path:
        """Everything Lazaretto writes for itself."""
        return self.root / "state"

    @property
    def landing(self) -> Path:
        """Where new files wait, one folder per data set."""
        return self.root / "landing"

    @property
    def checkpoint(self) -> Path:
        """The newest signed audit checkpoint."""
        return self.state / "audit" / "checkpoint"

    @property
    def changing_keys(self) -> Path:
        """The change of a key that is under way, if there is one."""
        return self.state / "keys" / "changing.json"

    def contract(self, dataset: str) -> Path:
        """The data set's contract file."""
        return self.root / "contracts" / f"{_checked(dataset)}.yaml"

    def signed_contracts(self, dataset: str) -> Path:
        """The versions of the data set's contract that were signed, one file per epoch."""
        return self.state / "contracts" / _checked(dataset)

    def store(self, dataset: str) -> Path:
        """The data set's Delta table."""
        return self.state / "store" / _checked(dataset)

    def attestations(self, dataset: str) -> Path:
        """The data set's signed attestations, one file per epoch."""
        return self.state / "attestations" / _checked(dataset)

    def quarantine(self, dataset: str, batch: str) -> Path:
        """One batch's encrypted payloads."""
        return self.state / "quarantine" / _checked(dataset) / batch

    def batch(self, batch: str) -> Path:
        """One batch's verdicts, evidence, summary and report."""
        return self.state / "batches" / batch

    def recall(self, dataset: str, unit: str) -> Path:
        """What is kept of one recall: the list of what was taken out, and the report to hand on."""
        return self.state / "recalls" / _checked(dataset) / unit

    def journal(self, dataset: str) -> Path:
        """The publication under way, if there is one."""
        return self.state / "journal" / f"{_checked(dataset)}.dsse.json"

    def work(self, dataset: str) -> Path:
        """Scratch space of the ingest under way; emptied before and after."""
        return self.state / "work" / _checked(dataset)


def find_workspace(given: str | Path | None = None) -> Workspace:
    """The workspace named, else the one of ``LAZARETTO_WORKSPACE``, else the nearest at or above the current folder.

    Raises:
        UsageError: There is none, or its configuration does not say what it must.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        root = Path(named)
        root = root.parent if root.name == FILE else root
        if not (root / FILE).is_file():
            raise Unavailable(f"{root} is no workspace: it has no {FILE}", hint=f"lazaretto init {root} makes one")
        return load_workspace(root)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return load_workspace(folder)
    raise UsageError(
        f"no {FILE} in {here} or above it",
        hint=f"lazaretto init DIR makes a workspace; or name one with --workspace or {VARIABLE}",
    )


def _refuse_odd(root: Path) -> None:
    """Refuse a place whose name the store's library would read as something else.

    Raises:
        UsageError: It is one.
    """
    odd = sorted({character for character in root.as_posix() if character in _ODD or not character.isprintable()})
    if odd:
        raise UsageError(
            f"a workspace cannot lie in {str(root)!r}: its path has {' '.join(map(repr, odd))}",
            hint="choose a folder without such characters, or rename it",
        )


def load_workspace(root: Path) -> Workspace:
    """Read ``lazaretto.toml``.

    Raises:
        UsageError: It cannot be read, holds an unknown key, or misses the workspace's id.
    """
    path = root / FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    _refuse_unknown(path, content)
    root = root.absolute()
    _refuse_odd(root)
    url = os.environ.get(LEDGER_VARIABLE) or _text(path, content, "ledger", "url")
    name = content.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise UsageError(f"{path}: 'id' must be 3 to 40 lower-case letters, digits and dashes, not {name!r}")
    return Workspace(
        root=root,
        id=name,
        ledger_url=url or f"sqlite:///{root / 'state' / 'ledger.db'}",
        keys=root / (os.environ.get(KEYS_VARIABLE) or _text(path, content, "keys", "folder") or "keys"),
        anchors=anchor_settings(path, root, content.get("audit", {}).get("anchor")),
        require_signed_contract=_flag(path, content, "keys", "require_signed_contract"),
        oidc=_provider(path, content) if "oidc" in content else None,
        monitoring=read_monitoring(root / FILE, content),
    )


def _provider(path: Path, content: dict[str, Any]) -> Provider:
    from lazaretto.authorisation import PEOPLE
    from lazaretto.oidc import Provider

    issuer, client = (_text(path, content, "oidc", key) for key in ("issuer", "client_id"))
    roles = content["oidc"].get("roles")
    if issuer is None or client is None or not isinstance(roles, dict) or not roles:
        raise UsageError(f"{path}: [oidc] needs 'issuer', 'client_id' and 'roles', a table of groups and their roles")
    for group, given in roles.items():
        if not isinstance(given, list) or not given or not set(given) <= set(PEOPLE):
            raise UsageError(f"{path}: the roles of {group!r} in [oidc] must be a list of {', '.join(PEOPLE)}")
    names = (_text(path, content, "oidc", key) for key in ("name_claim", "roles_claim"))
    name, claim = (said or usual for said, usual in zip(names, ("preferred_username", "groups"), strict=True))
    return Provider(issuer, client, name, claim, {group: tuple(given) for group, given in roles.items()})


def init_workspace(folder: str | Path) -> tuple[Workspace, tuple[Path, ...]]:
    """Make a workspace, or complete one; gives it and the files and folders made. Nothing that exists is changed.

    Raises:
        UsageError: The folder cannot be written, or state exists whose keys are gone.
    """
    from lazaretto.keys import create_keys

    root = Path(folder).absolute()
    _refuse_odd(root)
    made: list[Path] = []
    with writable(root):
        for path in (root, *(root / name for name in FOLDERS)):
            if not path.is_dir():
                make_folder(path)
                made.append(path)
        if not (root / FILE).exists():
            text = _TEMPLATE.format(id=f"lz-{os.urandom(6).hex()}") + TEMPLATE
            write_durably(root / FILE, text.encode())
            made.append(root / FILE)
        workspace = load_workspace(root)
        if (workspace.state / "attestations").exists() and not (workspace.keys / "publisher.key").exists():
            raise UsageError(
                f"{root} has published data but its keys are gone", hint=f"restore {workspace.keys} from its backup"
            )
        made += create_keys(workspace.keys)
    return workspace, tuple(made)


@contextmanager
def dataset_lock(workspace: Workspace, dataset: str) -> Iterator[None]:
    """Hold a data set for one process; ends with the process, however that ends.

    Raises:
        Unavailable: Another process holds it, or the workspace cannot be written.
    """
    with named_lock(workspace, f"dataset-{_checked(dataset)}", wait=False) as holder:
        if holder:
            raise Unavailable(
                f"data set {dataset} is being worked on by another lazaretto process ({holder})",
                hint="wait until it has finished, then run the same command again",
            )
        yield


@contextmanager
def named_lock(workspace: Workspace, name: str, *, wait: bool) -> Iterator[str]:
    """Hold a lock file of the workspace; gives the process that holds it instead, or nothing when we do.

    Raises:
        Unavailable: The workspace cannot be written.
    """
    with lock_file(workspace.state / "locks" / f"{name}.lock", wait=wait) as holder:
        yield holder


@contextmanager
def lock_file(path: Path, *, wait: bool) -> Iterator[str]:
    """Hold a lock file; gives the process that holds it instead, or nothing when we do.

    Raises:
        Unavailable: It cannot be written.
    """
    with writable(path.parent):
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), PRIVATE_FILE)
    try:
        if _take(descriptor, wait=wait):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield ""
        else:
            yield os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)


def _take(descriptor: int, *, wait: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _checked(dataset: str) -> str:
    if not _DATASET.fullmatch(dataset):
        raise UsageError(
            f"{dataset!r} is no name of a data set",
            hint="letters, digits, '_', '.' and '-', beginning with a letter or digit, at most 100",
        )
    return dataset


def _refuse_unknown(path: Path, content: dict[str, Any]) -> None:
    for section, known in _KNOWN.items():
        table = content.get(section, {}) if section else content
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section!r} must be a table, written [{section}]")
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                where = f" in [{section}]" if section else ""
                did = f"; did you mean {near[0]!r}?" if near else ""
                raise UsageError(f"{path}: unknown key {key!r}{where}{did}", hint=f"known keys: {', '.join(known)}")


def _flag(path: Path, content: dict[str, Any], section: str, key: str) -> bool:
    value = content.get(section, {}).get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{path}: {key!r} in [{section}] must be true or false, not {value!r}")
    return value
