"""Real receivers on the loopback device: HTTP for alerts and traces, SMTP for mail."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from lazaretto.anchor_settings import anchor_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.anchor_settings import AnchorSettings


class Received:
    """What a receiver got."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.status = 200
        """What it answers."""


@contextmanager
def http_receiver() -> Iterator[Received]:
    """Takes every POST."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            received.paths.append(self.path)
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:  # noqa: ANN401  the signature of the library
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), received):
        yield received


@contextmanager
def smtp_receiver() -> Iterator[Received]:
    """Takes every mail: the few commands of RFC 5321 that a client needs."""
    received = Received()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 loopback")
            for line in self.rfile:
                command = line.strip().split(b" ")[0].upper()
                if command == b"DATA":
                    self.say("354 go on")
                    received.bodies.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                elif command == b"QUIT":
                    self.say("221 bye")
                    return
                elif command in {b"MAIL", b"RCPT"}:
                    received.paths.append(line.decode().strip())
                self.say("250 ok")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler), received):
        yield received


@contextmanager
def silent_receiver() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def _serving(server: socketserver.TCPServer, received: Received) -> Iterator[None]:
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def anchored_at(folder: Path) -> tuple[AnchorSettings, ...]:
    """An anchor folder, as ``lazaretto.toml`` would name it."""
    return anchor_settings(folder / "lazaretto.toml", folder, str(folder))
