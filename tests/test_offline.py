"""`make test-offline` runs the suite where there is no network: that place really has none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
OFFLINE = [sys.executable, str(ROOT / ".ci" / "offline.py")]
NOT_ALLOWED = 125
LOOK = """\
import errno, os, socket
outside = []
for family, where in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "1.1.1.1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as asked:
            asked.settimeout(5)
            outside.append(errno.errorcode.get(asked.connect_ex((where, 443))))
try:
    socket.getaddrinfo("example.com", 443)
    outside.append("a name was found")
except socket.gaierror:
    pass
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5) as client:
    server.accept()[0].send(b"here")
    inside = client.recv(4)
print(set(outside), inside, sorted(name for _, name in socket.if_nameindex()), os.geteuid())
"""


def offline(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a network."""
    done = subprocess.run([*OFFLINE, *command], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NOT_ALLOWED:
        pytest.skip(f"no namespaces here: {done.stderr.splitlines()[0]}")
    return done


def test_there_is_no_network_but_the_loopback_device_and_the_user_stays_who_he_is() -> None:
    done = offline(sys.executable, "-c", LOOK)
    assert done.stderr == ""
    unreachable, rest = done.stdout.split("} ")
    assert unreachable.strip("{") == "'ENETUNREACH'"
    assert re.fullmatch(rf"b'here' \[('\w+', )*'lo'(, '\w+')*\] {os.geteuid()}\n", rest)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="there is no Python that everybody may run")
def test_who_is_not_root_is_cut_off_too() -> None:
    # By its text, and with the system's Python: this folder and its own may be closed to others.
    python, script = "/usr/bin/python3", (ROOT / ".ci" / "offline.py").read_text()
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
    command = [python, "-c", script, python, "-c", LOOK]
    probe = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **nobody)
    if probe.returncode == NOT_ALLOWED:
        pytest.skip(f"no user namespaces here: {probe.stderr.splitlines()[0]}")
    assert probe.stdout.startswith("{'ENETUNREACH'} b'here'"), probe.stderr
    assert probe.stdout.endswith(" 65534\n")


def test_it_ends_as_the_command_does_and_says_when_there_is_none() -> None:
    assert offline(sys.executable, "-c", "raise SystemExit(7)").returncode == 7
    assert offline("no-such-command").returncode == 127
    assert subprocess.run(OFFLINE, capture_output=True, check=False).returncode == 2


def test_where_namespaces_are_not_allowed_that_is_said() -> None:
    script = (
        "import runpy, sys; from unittest.mock import patch\n"
        "refuse = type('C', (), {'unshare': staticmethod(lambda flags: -1)})()\n"
        "with patch('ctypes.CDLL', lambda *a, **k: refuse), patch('ctypes.get_errno', lambda: 1):\n"
        "    sys.argv = ['offline', 'true']\n"
        f"    runpy.run_path({OFFLINE[1]!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == NOT_ALLOWED
    assert done.stderr.startswith("error: this kernel gives us no network namespace (Operation not permitted)")


def test_the_target_runs_the_suite_there() -> None:
    make = str(shutil.which("make"))
    command = [make, "--dry-run", "test-offline"]
    rule = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".ci/offline.py .venv/bin/python -m pytest -n" in rule
