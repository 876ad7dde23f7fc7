"""Encrypted files that are written in one stream and read anywhere: AES-256-GCM in chunks.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, CRYPTO 2015), as age and Tink use it: each file has its own key, derived with HKDF from the batch
key, a random salt and the file's name; a chunk's nonce is its number and whether it is the last. So chunks cannot be
altered, reordered, dropped or appended, and a file cannot take another's place. Memory holds one chunk.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

from lazaretto.durable import PRIVATE_FILE
from lazaretto.errors import IntegrityViolated

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LZSEAL1\n"
SALT_BYTES = 16
CHUNK_BYTES = 1 << 18
"""Plain bytes in every chunk but the last."""
TAG_BYTES = 16
_HEADER_BYTES = len(MAGIC) + SALT_BYTES
_COUNTER_BYTES = 11


class SealedWriter(io.RawIOBase):
    """A binary file to write to; what is written reaches the disk encrypted.

    Leave its ``with`` block normally and the file is complete and synced; leave it by an exception and the file lacks
    its last chunk, so that no reader accepts it.

    Args:
        path: The file; must not exist.
        key: The batch key, 32 bytes.
        name: What the file is, bound into its key.
    """

    def __init__(self, path: Path, key: bytes, name: str) -> None:
        super().__init__()
        salt = os.urandom(SALT_BYTES)
        self._cipher = _cipher(key, salt, name)
        self._out = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._number = 0
        self.size = 0
        """Plain bytes written so far."""
        self._emit(MAGIC + salt)

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401  any buffer, as the base class takes
        """Take bytes; gives how many, which is all."""
        view = memoryview(data).cast("B")
        self._buffer += view
        self.size += len(view)
        # The last chunk is known only at the end: a full one is kept until more comes.
        while len(self._buffer) > CHUNK_BYTES:
            self._chunk(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]
        return len(view)

    def tell(self) -> int:
        """Plain bytes written so far."""
        return self.size

    def finish(self) -> str:
        """Write the last chunk and sync; gives the SHA-256 (hex) of the encrypted file."""
        self._chunk(bytes(self._buffer), last=True)
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        return self._hash.hexdigest()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and not self._out.closed:
            self.finish()
        self._out.close()
        super().__exit__(kind, error, at)

    def _chunk(self, plain: bytes, *, last: bool) -> None:
        self._emit(self._cipher.encrypt(_nonce(self._number, last=last), plain, None))
        self._number += 1

    def _emit(self, data: bytes) -> None:
        self._hash.update(data)
        self._out.write(data)


class SealedReader(io.RawIOBase):
    """A seekable binary file whose bytes were authenticated before they are given out.

    Args:
        path: The file.
        key: The batch key, 32 bytes.
        name: What the file must be.

    Raises:
        IntegrityViolated: On opening or reading: the file is missing, altered, cut short, or another one.
    """

    def __init__(self, path: Path, key: bytes, name: str) -> None:
        super().__init__()
        self._path = path
        try:
            self._source = path.open("rb")
        except OSError as error:
            raise IntegrityViolated(f"quarantine file {path} cannot be read: {error.strerror}") from error
        length = os.fstat(self._source.fileno()).st_size
        header = self._source.read(_HEADER_BYTES)
        body = length - _HEADER_BYTES
        self._chunks = -(-body // (CHUNK_BYTES + TAG_BYTES))
        self.size = body - self._chunks * TAG_BYTES
        """Plain bytes in the file."""
        if not header.startswith(MAGIC) or self._chunks < 1 or self.size < 0:
            self._source.close()
            raise IntegrityViolated(f"quarantine file {path} is no sealed file")
        self._cipher = _cipher(key, header[len(MAGIC) :], name)
        self._at = 0
        self._held: tuple[int, bytes] = (-1, b"")
        # The last chunk says whether the file is whole; nothing is given out before that is known.
        self._load(self._chunks - 1)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Position in plain bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position in plain bytes."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  any buffer, as the base class takes
        """Fill a buffer as far as one chunk goes; gives how many bytes."""
        if self._at >= self.size:
            return 0
        number, offset = divmod(self._at, CHUNK_BYTES)
        view = memoryview(buffer).cast("B")
        piece = self._load(number)[offset : offset + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as many bytes as asked for, or to the end."""
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        out = bytearray()
        while self._at < end:
            number, offset = divmod(self._at, CHUNK_BYTES)
            piece = self._load(number)[offset : offset + end - self._at]
            out += piece
            self._at += len(piece)
        return bytes(out)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._source.close()
        super().close()

    def _load(self, number: int) -> bytes:
        if self._held[0] != number:
            from cryptography.exceptions import InvalidTag

            self._source.seek(_HEADER_BYTES + number * (CHUNK_BYTES + TAG_BYTES))
            data = self._source.read(CHUNK_BYTES + TAG_BYTES)
            try:
                plain = self._cipher.decrypt(_nonce(number, last=number == self._chunks - 1), data, None)
            except InvalidTag:
                raise IntegrityViolated(
                    f"quarantine file {self._path} was altered, cut short, or is not what it is called"
                ) from None
            self._held = (number, plain)
        return self._held[1]


def _cipher(key: bytes, salt: bytes, name: str) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=f"lazaretto sealed file\n{name}".encode()).derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(_COUNTER_BYTES, "big") + (b"\x01" if last else b"\x00")
