"""Runs a command without any network but the loopback device: ``python .ci/offline.py COMMAND...`` (Linux).

A network namespace of its own, and, for whoever is not root, a user namespace around it in which he keeps his own user
id: nothing is installed, and nothing of the machine is changed. Ends as the command does; with 125 where the kernel
does not allow it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_NEW_USER = 0x1000_0000
_NEW_NETWORK = 0x4000_0000
_SET_FLAGS = 0x8914
"""SIOCSIFFLAGS of Linux's if.h."""
_UP = 0x1
_NOT_ALLOWED = 125


def main(command: list[str]) -> int:
    """Cut the network off, then become the command."""
    if not command:
        sys.stderr.write("usage: python .ci/offline.py COMMAND...\n")
        return 2
    try:
        cut_off()
    except OSError as error:
        sys.stderr.write(
            f"error: this kernel gives us no network namespace ({error.strerror}), so the network cannot be cut off\n"
            "run it on Linux with user namespaces allowed (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0), in a container with --cap-add SYS_ADMIN, or as root\n"
        )
        return _NOT_ALLOWED
    try:
        os.execvp(command[0], command)  # noqa: S606  the caller's own command, as it was given
    except OSError as error:
        sys.stderr.write(f"error: {command[0]} cannot be run: {error.strerror}\n")
        return 127


def cut_off() -> None:
    """Leave this process with the loopback device alone.

    Raises:
        OSError: The kernel does not allow it, or is not Linux.
    """
    user, group = os.geteuid(), os.getegid()
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # Root needs no user namespace, and in one could become nobody else: the tests of PostgreSQL do.
    if unshare(_NEW_NETWORK | (_NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if user:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path("/proc/self", name).write_text(content)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
        # struct ifreq: the device's name, then the flags.
        fcntl.ioctl(any_, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
