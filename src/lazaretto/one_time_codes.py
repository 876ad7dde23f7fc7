"""One-time codes of people (RFC 6238), their secrets sealed with a key that only this workspace has."""

from __future__ import annotations

import base64
import hmac
import os
from typing import TYPE_CHECKING

from lazaretto.errors import Forbidden
from lazaretto.keys import derived_key, master_key

if TYPE_CHECKING:
    from datetime import datetime

    from lazaretto.config import Workspace

_NONCE = 12


def new_secret() -> str:
    """A secret for one-time codes (RFC 6238), base 32, to be confirmed with a code of it."""
    import pyotp

    return pyotp.random_base32()


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step a one-time code is of, one step to either side allowed; None for one that is none of them."""
    import pyotp

    codes = pyotp.TOTP(secret)
    steps = int(now.timestamp()) // codes.interval
    given = code.replace(" ", "")
    return next((step for step in (steps, steps - 1, steps + 1) if _equal(codes.generate_otp(step), given)), None)


def unsealed(workspace: Workspace, name: str, kept: str) -> str:
    """The secret of an account's one-time codes.

    Raises:
        Forbidden: It was not sealed in this workspace for this account.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        content = base64.b64decode(kept)
        return AESGCM(_key(workspace)).decrypt(content[:_NONCE], content[_NONCE:], name.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise Forbidden(
            f"the one-time codes of {name} cannot be read", hint="lazaretto verify says what was altered"
        ) from error


def _key(workspace: Workspace) -> bytes:
    return derived_key(master_key(workspace.keys), "one-time codes")


def sealed(workspace: Workspace, name: str, secret: str) -> str:
    """A secret as the ledger may hold it: bound to this workspace and this account."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    return base64.b64encode(nonce + AESGCM(_key(workspace)).encrypt(nonce, secret.encode(), name.encode())).decode()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
