"""The database under the ledger: SQLite or PostgreSQL, opened safely, migrated at first use, failing in sentences."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, ProgrammingError

from lazaretto.config import named_lock
from lazaretto.durable import PRIVATE_FILE, make_folder, sync_file, writable
from lazaretto.errors import IntegrityViolated, LazarettoError, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Connection, Engine

    from lazaretto.config import Workspace

REVISION = "0004"
"""Newest migration; a ledger at another revision is migrated when it is opened."""
BUSY_SECONDS = 30
"""How long a transaction waits for another process's before it gives up."""
WRITES = "lazaretto_writes"
"""Execution option of a connection that is going to write."""
_RESTORE = "restore it from a backup, then run lazaretto verify"
_DAMAGE = re.compile(
    r"file is not a database|malformed|could not decode to utf-8|invalid page in block"
    r"|no such (?:table|column)|has no column named|(?:relation|table|column) .*(?:already exists|does not exist)",
    re.IGNORECASE,
)
"""What SQLite and PostgreSQL say of a database that was broken, not of one that is out of reach."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x1A2A2E77
"""Key of PostgreSQL's advisory lock that lets one writer in at a time, so that audit entries follow one another."""


def take_turn(connection: Connection) -> None:
    """Wait until no other transaction writes. SQLite did so when the transaction began."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def open_engine(workspace: Workspace) -> Engine:
    """An engine for the workspace's ledger; nothing is connected yet.

    Raises:
        UsageError: The URL, its driver or the folder of the SQLite file cannot be used.
    """
    try:
        url = make_url(workspace.ledger_url)
        if url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise UsageError(
                f"ledger database {url.get_backend_name()!r} is not supported", hint="SQLite or PostgreSQL"
            )
        return _sqlite(url) if url.get_backend_name() == "sqlite" else create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "the ledger's database driver is not installed", hint="pip install 'lazaretto[postgres]'"
        ) from error
    except ArgumentError as error:
        raise UsageError("the ledger's url in lazaretto.toml is not a database URL") from error


def _sqlite(url: URL) -> Engine:
    if url.database:
        with writable(Path(url.database).parent):
            make_folder(Path(url.database).parent)
            _make_private(Path(url.database))
            # SQLite reads what a killed process wrote to the log and did not sync yet; we would build on it.
            with suppress(FileNotFoundError):
                sync_file(Path(f"{url.database}-wal"))
    engine = create_engine(url, module=_sqlite_module(), connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401  a DBAPI connection has no common type
        connection.isolation_level = None  # BEGIN is ours to say, see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401  the event's signature
        # A writer takes its lock at once: a reader that turned into a writer half-way could not be made to wait.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_private(path: Path) -> None:
    """Make the file where there is none, so that nobody else can read it however the umask is set.

    A file that is there is not opened: closing it would give up the locks of every connection this process has to it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None


def _sqlite_module() -> Any:  # noqa: ANN401  two modules of one interface
    """The SQLite that comes with a wheel, where there is one: many systems' own has the WAL-reset bug."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        from sqlite3 import dbapi2
    return dbapi2


def migrate(workspace: Workspace, engine: Engine) -> None:
    """Bring the ledger to the newest revision; a no-op when it is there.

    Raises:
        UsageError: It is of a newer Lazaretto.
        IntegrityViolated: It is at no revision that any Lazaretto makes.
    """
    if _revisions(engine) == [REVISION]:
        return
    with named_lock(workspace, "ledger-migration", wait=True):
        _check_revision(workspace, _revisions(engine))
        from alembic import command
        from alembic.config import Config

        with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            take_turn(connection)
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _check_revision(workspace: Workspace, found: list[str] | None) -> None:
    """Let pass what can be migrated: a ledger that is not made yet, or one of a revision we know."""
    known = {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("*_*.py")}
    if found is None or (len(found) == 1 and found[0] in known):
        return
    if len(found) == 1 and re.fullmatch("[0-9]{4}", str(found[0])) and str(found[0]) > REVISION:
        raise UsageError(
            f"the ledger is at revision {found[0]}, newer than this Lazaretto knows ({REVISION})",
            hint="upgrade Lazaretto",
        )
    said = ", ".join(map(repr, found)) or "none"
    raise IntegrityViolated(
        f"the ledger {_shown(workspace)} is damaged: its revision is {said}, where one number belongs", hint=_RESTORE
    )


def _revisions(engine: Engine) -> list[str] | None:
    """What the ledger says its revision is, which should be one; None before it is made."""
    try:
        with engine.connect() as connection:
            return list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    except (OperationalError, ProgrammingError) as error:
        if "alembic_version" in str(error.orig):
            return None
        raise


@contextmanager
def sentences(workspace: Workspace) -> Iterator[None]:
    """Turn what a database says into one sentence without a password in it.

    Raises:
        IntegrityViolated: The database is damaged.
        Unavailable: It cannot be reached or written.
        LazarettoError: It refuses a change.
    """
    try:
        yield
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())[:200]
        where = _shown(workspace)
        if _DAMAGE.search(said):
            raise IntegrityViolated(f"the ledger {where} is damaged: {said}", hint=_RESTORE) from error
        if "append-only" in said:
            raise LazarettoError(f"the ledger refuses to change what was decided: {said}") from error
        if isinstance(error, OperationalError):
            raise Unavailable(
                f"the ledger {where} cannot be used: {said}",
                hint="check that its folder can be written, that the disk is not full, and that the server runs",
            ) from error
        raise LazarettoError(f"the ledger {where} refuses a change: {said}") from error


def _shown(workspace: Workspace) -> str:
    """The ledger's URL without a password."""
    return make_url(workspace.ledger_url).render_as_string(hide_password=True)
