"""The one tree of errors a user can meet, each with its exit code and a hint that says what to do."""

from __future__ import annotations


def is_panic(error: BaseException) -> bool:
    """Whether an error is one of Rust's, as Polars raises for a bug of its own; it is no `Exception`."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """What an error says, on one line of a readable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class LazarettoError(Exception):
    """Base of every error that is shown to a user as one sentence.

    Args:
        message: What happened and where.
        hint: What to do about it; printed on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LazarettoError):
    """A wrong command line, configuration or contract. Nothing was changed."""

    exit_code = 2


class Unavailable(UsageError):  # noqa: N818  reads as what happened
    """A mount, a disk, the ledger or another process stands in the way just now; the same command may succeed later."""


class Forbidden(UsageError):  # noqa: N818  reads as what happened
    """Whoever asked is not known, or may not do that. Nothing was changed."""


class ContractError(UsageError):
    """A contract that cannot be read or does not say what it must."""


class Blocked(LazarettoError):  # noqa: N818  the gate's verdict, named in the public interface
    """The gate says no: this data must not be trained on.

    Args:
        message: What happened and where.
        hint: What to do about it.
        reason: Why, as one word that a program can compare and count.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None, reason: str = "other") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class BatchHeld(LazarettoError):  # noqa: N818  a state of the batch, not a fault
    """A whole batch waits for a person; nothing of it was admitted."""

    exit_code = 3


class InputRefused(LazarettoError):  # noqa: N818  reads as what happened
    """An input that is no data, or cannot be taken apart into records. Nothing was changed."""

    exit_code = 4


class IntegrityViolated(LazarettoError):  # noqa: N818  reads as what happened
    """Bytes, a signature or the audit chain are not what was attested."""

    exit_code = 5


class Interrupted(LazarettoError):  # noqa: N818  reads as what happened
    """Ctrl-C: what was begun is taken back, or is finished by the next command that comes to it."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted", hint="nothing is half-written; run the same command again to go on")
