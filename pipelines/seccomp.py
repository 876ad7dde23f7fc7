"""Takes system calls from a process for good: network, other programs and processes, and the kernel's own affairs.

A filter of Linux (`seccomp(2)`), written as the classic BPF program it takes, so that no library has to be there. What
a parser never needs fails with EPERM; calls newer than this table do not exist (ENOSYS), so that a kernel to come
opens no way that nobody thought of. Numbers are those of the kernel's headers, for x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_NETWORK = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "sendmmsg": (307, 269), "recvmmsg": (299, 243), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209), "setsockopt": (54, 208), "shutdown": (48, 210),
}  # fmt: skip
_PROCESSES = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "uselib": (134, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "tkill": (200, 130), "setns": (308, 268), "unshare": (272, 97),
    "setpgid": (109, 154), "setpriority": (141, 140), "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip
_FILES = {
    # Landlock leaves owners, modes and attributes alone.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
}  # fmt: skip
_SHARED = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
}  # fmt: skip
_KERNEL = {
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "acct": (163, 89), "syslog": (103, 116), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
    "personality": (135, 92), "lookup_dcookie": (212, 18), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "nfsservctl": (180, 42), "sysfs": (139, None), "ustat": (136, None), "_sysctl": (156, None),
    "io_setup": (206, 0), "io_submit": (209, 2), "io_cancel": (210, 3), "io_destroy": (207, 1),
    "io_getevents": (208, 4),
}  # fmt: skip
DENIED: dict[str, tuple[int | None, int | None]] = {**_NETWORK, **_PROCESSES, **_FILES, **_SHARED, **_KERNEL}
"""Call -> its number on x86_64 and on aarch64, None where there is none."""
_NEWEST = 462
"""mseal; what came later is not in the table."""


@dataclass(frozen=True)
class _Architecture:
    column: int
    audit: int
    clone: int
    clone3: int
    kill: int
    tgkill: int
    prlimit: int
    seccomp: int


_ARCHITECTURES = {
    "x86_64": _Architecture(0, 0xC000003E, 56, 435, 62, 234, 302, 317),
    "aarch64": _Architecture(1, 0xC00000B7, 220, 435, 129, 131, 261, 277),
}
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_SET_MODE_FILTER, _TSYNC = 1, 1
_PR_GET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 21, 38


def supported() -> bool:
    """Whether this kernel takes filters and this processor's calls are known."""
    if platform.system() != "Linux" or platform.machine() not in _ARCHITECTURES:
        return False
    return int(ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0)) >= 0


def give_up_privileges() -> None:
    """See to it that neither this process nor what it might start can gain a right; filters ask for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")


def install() -> None:
    """Take the calls from every thread of this process.

    Raises:
        OSError: The kernel takes no filter.
    """
    machine = _ARCHITECTURES[platform.machine()]
    code = _program(machine, os.getpid())
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = [ctypes.c_long(value) for value in (machine.seccomp, _SET_MODE_FILTER, _TSYNC)]
    if libc.syscall(*numbers, ctypes.create_string_buffer(program)):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _program(machine: _Architecture, own: int) -> bytes:
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    absent = _op(_RETURN, _ERRNO | errno.ENOSYS)
    allow = _op(_RETURN, _ALLOW)
    parts = [
        # Another architecture's calls have other numbers: who makes one is after this filter.
        _op(_LOAD, _ARCH_AT), _op(_EQUAL, machine.audit, 1, 0), _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER_AT), _op(_GREATER, _NEWEST, 0, 1), absent,  # x32's numbers begin at 2^30
        # clone3 keeps its flags in memory, where a filter cannot look; the C library falls back on clone.
        _op(_EQUAL, machine.clone3, 0, 1), absent,
        _op(_EQUAL, machine.clone, 0, 4), _op(_LOAD, _FIRST_ARGUMENT_AT), _op(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse,
        allow,
    ]  # fmt: skip
    for number in (machine.kill, machine.tgkill):  # abort() signals its own process
        parts += [
            _op(_EQUAL, number, 0, 4), _op(_LOAD, _FIRST_ARGUMENT_AT), _op(_EQUAL, own, 1, 0), refuse, allow
        ]  # fmt: skip
    parts += [
        _op(_EQUAL, machine.prlimit, 0, 5), _op(_LOAD, _FIRST_ARGUMENT_AT), _op(_EQUAL, 0, 2, 0),
        _op(_EQUAL, own, 1, 0), refuse, allow,
    ]  # fmt: skip
    for numbers in DENIED.values():
        taken = numbers[machine.column]
        if taken is not None:
            parts += [_op(_EQUAL, taken, 0, 1), refuse]
    return b"".join([*parts, allow])


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
