"""Starts the real program and speaks its HTTP API, as any client would."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import threading
import uuid
from collections.abc import Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from harness.events import EventStream

READY_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20


def program() -> Path:
    """The program under test: DRAGOMAN_PROGRAM, or the release build of the shared target."""
    named = os.environ.get("DRAGOMAN_PROGRAM")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dragoman"
    return Path(os.environ.get("CARGO_TARGET_DIR") or cache / "target") / "release" / "dragoman"


def end_with_parent() -> None:
    """In the child: asks Linux to end it when the tests die without saying so."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Server:
    """A running `dragoman serve` in development mode on ports of its own choice. It keeps no
    transcripts unless it is given a file for them."""

    def __init__(
        self, *arguments: str, log: Path | None = None, transcripts: Path | None = None
    ) -> None:
        command = [
            str(program()),
            *("serve", "--development", "--ready-json"),
            *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
            *("--libretranslate", "127.0.0.1:0"),
            *("--udp-bind", "127.0.0.1", "--udp-port", "0", "--announce", "127.0.0.1"),
            *("--transcripts", str(transcripts or "")),
            *arguments,
        ]
        self._log_path = log
        self._log_file = log.open("wb") if log else None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            preexec_fn=end_with_parent,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read_lines, daemon=True).start()
        try:
            ready = self._wait_until_ready()
        except BaseException:
            self._process.kill()
            raise
        self.url: str = ready["http"]
        self.admin_url: str = ready["admin"]
        self.libretranslate_url: str = ready["libretranslate"]
        self.api_key: str = ready["api_key"]
        self.udp_ports: list[int] = ready["udp_ports"]

    def _read_lines(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _wait_until_ready(self) -> dict:
        while True:
            try:
                line = self._lines.get(timeout=READY_TIMEOUT_S)
            except queue.Empty:
                raise TimeoutError(
                    f"the server was not ready after {READY_TIMEOUT_S} s{self._log_tail()}"
                ) from None
            if line is None:
                code = self._process.wait(STOP_TIMEOUT_S)
                raise RuntimeError(f"the server ended with {code} at start{self._log_tail()}")
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("event") == "ready":
                return message

    def _log_tail(self) -> str:
        if not self._log_path:
            return ""
        return "; its log ends:\n" + "\n".join(
            self._log_path.read_text(errors="replace").splitlines()[-20:]
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Waits until it has ended by itself and returns its exit code."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """Asks it to end and returns its exit code."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            if self._log_file:
                self._log_file.close()
        return code

    def kill(self) -> None:
        """Ends it as nothing else could: it gets to do nothing more."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        if self._log_file:
            self._log_file.close()


class Session:
    """An answerer that remembers the session it made."""

    def __init__(self, api: Api, room: str, token: str, to: str, query: dict) -> None:
        self._api, self._room, self._token, self._to, self._query = api, room, token, to, query
        self.location: str | None = None

    async def __call__(self, offer: str) -> str:
        reply = await self._api.offer(self._room, self._token, offer, to=self._to, **self._query)
        assert reply.status == 201, f"offering a session: {reply.status} {reply.text}"
        self.location = reply.headers.get("location")
        assert self.location, "a session comes with its Location"
        return reply.text

    async def change(self, **change) -> Reply:
        """Asks for another channel or another gain of the original."""
        return await self._api.request("PATCH", self.location, bearer=self._token, json=change)


@contextmanager
def configured(folder: Path, config: str):
    """A server with a configuration of its own, which is written into `folder` beside its log. It
    has to end in order."""
    path = folder / "dragoman.toml"
    path.write_text(config)
    server = Server("--config", str(path), log=folder / "dragoman.log")
    try:
        yield server
    finally:
        assert server.stop() == 0


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.body)


class Api:
    """The HTTP API of one server, within one event loop.

    async with Api(server) as api:
        room = await api.create_room(["en", "es"])
        token = await api.token(room, "alice", "en")
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(self._server.url)
        return self

    async def __aexit__(self, *_) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, *, bearer: str | None = None, **arguments
    ) -> Reply:
        headers = dict(arguments.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        async with self._session.request(method, path, headers=headers, **arguments) as answer:
            # Header names in one case: they may come in any.
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, names, await answer.read())

    async def create_room(
        self,
        languages: Sequence[str],
        *,
        kind: str = "call",
        original_gain: float | None = 0.0,
        **options,
    ) -> str:
        """A room of a name of its own. Without the original underneath, unless asked for: a
        recogniser that listens in would write down both."""
        name = f"e2e-{uuid.uuid4().hex[:12]}"
        body = {"name": name, "kind": kind, "languages": list(languages), **options}
        if original_gain is not None:
            body["original_gain"] = original_gain
        reply = await self.request("POST", "/v1/rooms", bearer=self._server.api_key, json=body)
        assert reply.status == 201, f"creating a room: {reply.status} {reply.text}"
        return name

    async def delete_room(self, room: str) -> None:
        reply = await self.request("DELETE", f"/v1/rooms/{room}", bearer=self._server.api_key)
        assert reply.status in (200, 204), f"deleting a room: {reply.status} {reply.text}"

    async def token(self, room: str, identity: str, language: str, **options) -> str:
        reply = await self.request(
            "POST",
            f"/v1/rooms/{room}/tokens",
            bearer=self._server.api_key,
            json={"identity": identity, "language": language, **options},
        )
        assert reply.status in (200, 201), f"making a token: {reply.status} {reply.text}"
        return reply.json["token"]

    async def offer(
        self, room: str, token: str | None, sdp: str | bytes, *, to: str = "sessions", **query
    ) -> Reply:
        """Offers a session, whatever the offer and the token are worth."""
        return await self.request(
            "POST",
            f"/v1/rooms/{room}/{to}",
            bearer=token,
            data=sdp,
            params={name: str(value) for name, value in query.items()},
            headers={"Content-Type": "application/sdp"},
        )

    def answerer(self, room: str, token: str, *, to: str = "sessions", **query) -> Session:
        """For `Peer.connect`: gives the server's answer, or fails with what the server said.
        `to` is the endpoint: `sessions`, `whip` or `whep`."""
        return Session(self, room, token, to, query)

    @asynccontextmanager
    async def events(self, room: str, token: str):
        """The room's events from now on."""
        path = f"/v1/rooms/{room}/events"
        async with self._session.ws_connect(path, params={"access_token": token}) as socket:
            stream = EventStream(socket)
            try:
                yield stream
            finally:
                await stream.close()
