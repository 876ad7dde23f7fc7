"""A process that parses hostile bytes can do nothing else, whoever takes it over."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lazaretto.pipelines import landlock, seccomp
from lazaretto.pipelines.sandbox import Sandbox, environment, offered
from tests.reading import contract_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

needs_calls = pytest.mark.skipif(not seccomp.supported(), reason="this system offers no seccomp")
needs_files = pytest.mark.skipif(not landlock.version(), reason="this system offers no Landlock")

_PROLOGUE = """
import ctypes, errno, json, os, resource, signal, socket, sys, threading
from pathlib import Path
from lazaretto.pipelines.sandbox import enter
readable, writable, other = map(Path, sys.argv[1:4])
assert len(os.listdir("/proc/self/task")) == 1
enter([readable], [writable])
def tried(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


def inside(tmp_path: Path, attempts: Mapping[str, str]) -> dict[str, str]:
    """What became of each attempt (a Python expression) inside the sandbox."""
    for name in ("in", "out", "other"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "a").write_text("a")
    lines = [f"found[{name!r}] = tried(lambda: {attempt})" for name, attempt in attempts.items()]
    program = "\n".join([_PROLOGUE, "found = {}", *lines, "print(json.dumps(found))"])
    arguments = [str(tmp_path / name) for name in ("in", "out", "other")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@needs_calls
def test_no_network_no_other_program_and_no_other_process(tmp_path: Path) -> None:
    attempts = {
        "tcp": "socket.socket()",
        "unix": "socket.socket(socket.AF_UNIX)",
        "netlink": "socket.socket(socket.AF_NETLINK)",
        "pair": "socket.socketpair()",
        "exec": "os.execv('/bin/true', ['true'])",
        "fork": "os.fork()",
        "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        "kill the parent": "os.kill(os.getppid(), 0)",
        "limits of the parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))",
        "an anonymous file": "os.memfd_create('x')",
        "mode": "os.chmod(writable / 'a', 0o777)",
    }
    assert inside(tmp_path, attempts) == dict.fromkeys(attempts, "EPERM")


@needs_calls
def test_threads_and_signals_to_itself_are_left(tmp_path: Path) -> None:
    attempts = {
        "thread": "threading.Thread(target=int).start()",
        "signal": "os.kill(os.getpid(), 0)",
        "limit": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    }
    assert inside(tmp_path, attempts) == dict.fromkeys(attempts, "done")


@needs_calls
def test_every_call_of_the_table_is_taken_and_newer_ones_are_not_there(tmp_path: Path) -> None:
    column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    numbers = [each[column] for each in seccomp.DENIED.values() if each[column] is not None]
    program = f"""
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    ctypes.set_errno(0)
    assert libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 5) == -1
    return errno.errorcode[ctypes.get_errno()]
print(json.dumps([call(number) for number in {numbers} + [463, 500, 2**30 + 1]]))
"""
    command = [sys.executable, "-c", _PROLOGUE + program, *[str(tmp_path)] * 3]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == ["EPERM"] * len(numbers) + ["ENOSYS"] * 3


@needs_files
def test_nothing_is_read_but_the_input_and_nothing_written_but_the_output(tmp_path: Path) -> None:
    refused = {
        "passwords": "open('/etc/passwd')",
        "own environment": "open('/proc/self/environ')",
        "another folder": "open(other / 'a')",
        "a listing": "os.listdir(other)",
        "the root": "os.listdir('/')",
        "a way round": "open(readable / '..' / 'other' / 'a')",
        "into the input": "open(readable / 'b', 'w')",
        "over the input": "open(readable / 'a', 'r+')",
        "cut the input": "os.truncate(readable / 'a', 0)",
        "remove the input": "os.unlink(readable / 'a')",
        "outside": "open(other / 'b', 'w')",
        "temporary": "open('/tmp/lazaretto-escaped', 'w')",
        "a link out": "os.symlink('/etc/passwd', writable / 'link')",
        "a pipe": "os.mkfifo(writable / 'pipe')",
        "over the libraries": "open(os.__file__, 'r+')",
    }
    found = inside(tmp_path, refused)
    assert {name: what for name, what in found.items() if what not in {"EACCES", "EPERM"}} == {}
    allowed = {
        "input": "open(readable / 'a').read()",
        "output": "open(writable / 'b', 'w').write('b')",
        "moved": "os.replace(writable / 'b', writable / 'c')",
        "folder": "os.mkdir(writable / 'd')",
        "removed": "os.unlink(writable / 'c')",
    }
    assert inside(tmp_path, allowed) == dict.fromkeys(allowed, "done")


@needs_files
def test_a_link_in_the_input_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    assert inside(tmp_path, {"followed": "open(readable / 'link')"}) == {"followed": "EACCES"}


def test_the_reader_itself_runs_in_the_sandbox(tmp_path: Path) -> None:
    """The very process that parses, told to parse a file outside its snapshot."""
    for name in ("snapshot", "work"):
        (tmp_path / name).mkdir()
    request = {
        "job": "parse", "dataset": "d", "into": str(tmp_path / "work"), "memory": 2**31, "file_size": 2**30,
        "contract": contract_of("a: integer").model_dump(mode="json", exclude_unset=True),
        "files": [
            {"name": "t.csv", "sha256": "0", "size": 4, "copy": str(tmp_path / "snapshot" / "link"), "root": ""}
        ],
    }  # fmt: skip
    (tmp_path / "secret").write_text("a\n1\n")
    (tmp_path / "snapshot" / "link").symlink_to(tmp_path / "secret")
    command = [sys.executable, "-P", "-m", "lazaretto.pipelines.confined"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        lines = [json.loads(line) for line in child.stdout]
        child.kill()
    can = offered()
    assert lines[0] == {"sandbox": {"files": can.files, "calls": can.calls}}
    assert ("error" in lines[-1]) == can.files


def test_what_is_lacking_is_said_in_words() -> None:
    assert Sandbox(files=True, calls=True).words == "on"
    assert "Landlock" in Sandbox(files=False, calls=True).words
    assert "seccomp" in Sandbox(files=True, calls=False).words
    assert Sandbox(files=False, calls=False).words.startswith("off")


def test_passwords_in_the_environment_do_not_reach_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("LAZARETTO_DATABASE_PASSWORD", "s")
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    given = environment(tmp_path)
    assert "s" not in given.values()
    assert (given["POLARS_MAX_THREADS"], given["POLARS_OOC_SPILL_DIR"]) == ("1", str(tmp_path))
