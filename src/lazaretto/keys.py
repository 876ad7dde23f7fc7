"""The workspace's keys: one signs what is published, one the audit log, one the contracts; one locks the quarantine."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING

from lazaretto.durable import PRIVATE_FILE, write_durably
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLISHER = "publisher"
AUDIT = "audit"
POLICY = "policy"
"""Signs the contract in force, and witnesses a change of the other two."""
SIGNING = (PUBLISHER, AUDIT, POLICY)
MASTER = "master.key"
MASTER_BYTES = 32
_HISTORY = "history.json"
"""Beside the keys once one was changed; see `lazaretto.key_history`."""
_PUBLIC_FILE = 0o644
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_keys(folder: Path) -> tuple[Path, ...]:
    """Write the keys that are not there yet; a key that exists is never touched. Gives the files written."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    written: list[Path] = []
    for name in SIGNING:
        private, public = folder / f"{name}.key", folder / f"{name}.pub"
        if not private.exists() and public.exists():
            raise UsageError(f"{public} is there but {private} is not", hint="restore the private key from its backup")
        if not private.exists():
            new_private_key(private)
            written.append(private)
        if not public.exists():
            if (folder / _HISTORY).exists():
                raise UsageError(
                    f"{public}, the first public key, is gone, and the key in use may be a later one",
                    hint="restore it from its backup or from a machine that has pinned it",
                )
            key = private_key(folder, name).public_key()
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            write_durably(public, pem, mode=_PUBLIC_FILE)
            written.append(public)
    master = folder / MASTER
    if not master.exists():
        write_durably(master, base64.b64encode(os.urandom(MASTER_BYTES)) + b"\n")
        written.append(master)
    return tuple(written)


def new_private_key(path: Path) -> None:
    """Make a signing key and write it to a file of the owner's alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    write_durably(path, Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def raw_public_key(raw: str) -> Ed25519PublicKey:
    """A verification key from its 32 bytes, hexadecimal."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw))


def private_key(folder: Path, name: str, *, suffix: str = ".key") -> Ed25519PrivateKey:
    """A signing key.

    Args:
        folder: Where the keys lie.
        name: Whose.
        suffix: Ends the file's name; another one for a key that is not yet in use.

    Raises:
        UsageError: It is missing, readable by others, or no Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = folder / f"{name}{suffix}"
    if name == POLICY and not path.exists() and not (folder / f"{name}.pub").exists():
        raise UsageError(f"key {path} is not there yet", hint="lazaretto init DIR adds what a workspace lacks")
    try:
        key = load_pem_private_key(_read_secret(path), None)
    except ValueError as error:
        raise UsageError(f"{path} is no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key")
    return key


def public_key(folder: Path, name: str) -> Ed25519PublicKey:
    """A verification key.

    Raises:
        UsageError: It is missing or no Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = folder / f"{name}.pub"
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"public key {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is no Ed25519 key")
    return key


def master_key(folder: Path) -> bytes:
    """The 32 bytes that wrap every quarantine key.

    Raises:
        UsageError: The file is missing, readable by others, or damaged.
    """
    path = folder / MASTER
    try:
        key = base64.b64decode(_read_secret(path).strip(), validate=True)
    except binascii.Error as error:
        raise UsageError(f"{path} is no master key") from error
    if len(key) != MASTER_BYTES:
        raise UsageError(f"{path} is no master key: it holds {len(key)} bytes instead of {MASTER_BYTES}")
    return key


def derived_key(master: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HKDF-SHA256, RFC 5869), so that no key serves two."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), MASTER_BYTES, salt=None, info=f"lazaretto {purpose}".encode()).derive(master)


def _read_secret(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            if os.name != "nt" and mode & _OTHERS:
                raise UsageError(
                    f"key {path} can be read or written by others (mode {stat.S_IMODE(mode):04o})",
                    hint=f"chmod {PRIVATE_FILE:o} {path}, and replace the key if others had access to it",
                )
            return source.read()
    except OSError as error:
        raise UsageError(
            f"key {path} cannot be read: {error.strerror}", hint="restore it from its backup, or ask who runs Lazaretto"
        ) from error
