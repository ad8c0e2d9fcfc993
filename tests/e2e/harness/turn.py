"""A TURN server of its own: Debian's coturn on loopback, which relays to loopback too."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from harness.server import end_with_parent

START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 10


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Turn:
    """Where a TURN server will be, and what it shares with the server under test.

    with turn.running(folder):
        ...
    """

    def __init__(self) -> None:
        self.port = _free_port()
        self.secret = secrets.token_hex(16)
        self.url = f"turn:127.0.0.1:{self.port}?transport=udp"

    @property
    def section(self) -> str:
        """For the configuration of the server under test."""
        return f'[turn]\nurls = ["{self.url}"]\nsecret = "{self.secret}"\n'

    def running(self, folder: Path) -> Coturn:
        return Coturn(self, folder)


class Coturn:
    """The running program; `log` is what it said."""

    def __init__(self, turn: Turn, folder: Path) -> None:
        program = shutil.which("turnserver")
        if not program:
            raise FileNotFoundError("no turnserver here: run 'scripts/setup.sh test'")
        self._path = folder / "coturn.log"
        self._command = [
            *(program, "-n", "-v", "--log-file", "stdout", "--realm", "dragoman.test"),
            *("--listening-ip", "127.0.0.1", "--listening-port", str(turn.port)),
            *("--relay-ip", "127.0.0.1", "--allow-loopback-peers"),
            *("--use-auth-secret", "--static-auth-secret", turn.secret),
            *("--no-cli", "--no-tls", "--no-dtls"),
            *("--userdb", str(folder / "turndb"), "--pidfile", str(folder / "coturn.pid")),
        ]

    @property
    def log(self) -> str:
        return self._path.read_text(errors="replace")

    def __enter__(self) -> Coturn:
        with self._path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while "UDP listener opened on" not in self.log:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"coturn did not start:\n{self.log}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
