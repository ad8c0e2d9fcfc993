"""The same requests to the real LibreTranslate and to ours: same status, shape, headers and words.

What the two say of a text differs, of course: the real one has toy weights here. Compared is the
shape of what they say; errors are compared word by word.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import toy_packages

HERE = Path(__file__).parent
READY_TIMEOUT_S = 240
LIMITS = {"char": 200, "batch": 4}
SLOW = 5
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Server:
    name: str
    host: str
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str | None = None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        headers = {} if kind is None else {"Content-Type": kind}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        result = Answer(answer.status, names, answer.read())
        connection.close()
        return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    url = f"http://{server.host}:{server.port}/health"
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{server.name} ended:\n{log.read_text()[-4000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.25)
    raise TimeoutError(f"{server.name} does not answer:\n{log.read_text()[-4000:]}")


def run(name: str, command: list[str], environment: dict[str, str], port: int, log: Path):
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(name, "127.0.0.1", port)
    try:
        wait_until_it_answers(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_real(folder: Path, *arguments: str):
    toy_packages.install(folder, ("en", "es"), ("es", "en"))
    port = free_port()
    command = [
        *(sys.executable, str(HERE / "real_libretranslate.py")),
        *("--host", "127.0.0.1", "--port", str(port), "--threads", "2"),
        *("--disable-web-ui", "--disable-files-translation"),
        *arguments,
    ]
    environment = {
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    yield from run("LibreTranslate", command, environment, port, folder / "log")


def run_ours(folder: Path, settings: str):
    """With the quick translator alone, so that it starts soon."""
    port = free_port()
    config = folder / "dragoman.toml"
    config.write_text(
        '[models]\ntranslators = ["apertium"]\nvoices = ["espeak-ng"]\nwarm_up = []\n'
        f'[libretranslate]\nbind = "127.0.0.1:{port}"\n{settings}'
    )
    command = [
        *(os.environ["DRAGOMAN_PROGRAM"], "serve", "--development", "--config", str(config)),
        *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        *("--udp-bind", "127.0.0.1", "--udp-port", "0", "--announce", "127.0.0.1"),
    ]
    yield from run("Dragoman", command, {}, port, folder / "log")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    limits = ("--char-limit", str(LIMITS["char"]), "--batch-limit", str(LIMITS["batch"]))
    yield from run_real(tmp_path_factory.mktemp("real"), *limits, "--alternatives-limit", "3")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    limits = f"char_limit = {LIMITS['char']}\nbatch_limit = {LIMITS['batch']}\n"
    yield from run_ours(tmp_path_factory.mktemp("ours"), limits)


def shape(value):
    """What a value is, without what it says."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def seen(answer: Answer, *, exact: bool) -> dict:
    """What a client can tell of an answer."""
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name == "content-type" or name.startswith("access-control-")
    }
    if "allow" in answer.headers:
        headers["allow"] = sorted(re.findall(r"[A-Z]+", answer.headers["allow"]))
    body = answer.body.decode()
    if answer.headers.get("content-type") == JSON:
        assert body.endswith("\n") or not body
        value = json.loads(body) if body else None
        if isinstance(value, dict):
            assert list(value) == sorted(value)
        is_error = isinstance(value, dict) and "error" in value
        if isinstance(value, list) and not exact:
            # How many languages a text may be in is the detector's affair.
            value = value[:1]
        body = value if exact or is_error else shape(value)
    return {"status": answer.status, "headers": headers, "body": body}


def fields(**values) -> bytes:
    return json.dumps(values).encode()


EN_ES = {"source": "en", "target": "es"}
PARTS = (
    b'--b\r\nContent-Disposition: form-data; name="q"\r\n\r\nHello\r\n'
    b'--b\r\nContent-Disposition: form-data; name="source"\r\n\r\nen\r\n'
    b'--b\r\nContent-Disposition: form-data; name="target"\r\n\r\nes\r\n--b--\r\n'
)

# Method, path, body, content type. Only the shape of what is said can be the same.
SAID = [
    ("POST", "/translate", b"q=Hello+world.&source=en&target=es", FORM),
    ("POST", "/translate?q=Hello&source=en&target=es", b"", None),
    ("POST", "/translate", PARTS, "multipart/form-data; boundary=b"),
    ("POST", "/translate", fields(q="Hello there", **EN_ES), JSON),
    ("POST", "/translate", fields(q="Hello there", source="EN", target="Es"), JSON),
    ("POST", "/translate", fields(q="Hello there", source="auto", target="es"), JSON),
    ("POST", "/translate", fields(q=["Hello", "Good morning."], source="auto", target="es"), JSON),
    ("POST", "/translate", fields(q="<p>Hi <b>you</b></p>", format="html", **EN_ES), JSON),
    ("POST", "/translate", fields(q="Hello", format="", **EN_ES), JSON),
    ("POST", "/detect", b"q=Buenos+d%C3%ADas", FORM),
    ("POST", "/detect", fields(q="good morning to you"), JSON),
]

# The very same answer, byte by byte but for the order of languages.
EXACT = [
    ("GET", "/health", None, None),
    ("HEAD", "/health", None, None),
    ("GET", "/frontend/settings", None, None),
    ("GET", "/nothing", None, None),
    ("GET", "/", None, None),
    ("GET", "/translate", None, None),
    ("GET", "/detect?q=a", None, None),
    ("POST", "/languages", b"", None),
    ("DELETE", "/suggest", None, None),
    ("POST", "/translate/", b"", None),
    ("OPTIONS", "/translate", None, None),
    ("OPTIONS", "/nothing", None, None),
    ("POST", "/suggest", b"q=a&s=b", FORM),
    ("POST", "/translate_file", b"", None),
    ("POST", "/detect", b"", FORM),
    ("POST", "/detect", fields(q="123"), JSON),
    ("POST", "/translate", fields(q="Hello there", source="en", target="en"), JSON),
    ("POST", "/translate", fields(q="\U0001f600", source="auto", target="es"), JSON),
    ("POST", "/translate", fields(q="\U0001f600", alternatives=1, **EN_ES), JSON),
    ("POST", "/translate", fields(q=["", ""], **EN_ES), JSON),
    ("POST", "/translate", fields(), JSON),
    ("POST", "/translate", fields(q=""), JSON),
    ("POST", "/translate", fields(q=[]), JSON),
    ("POST", "/translate", fields(q="a"), JSON),
    ("POST", "/translate", fields(q="a", source="en"), JSON),
    ("POST", "/translate", fields(q="a", source="", target="es"), JSON),
    ("POST", "/translate", fields(q="a", source="xx", target="es"), JSON),
    ("POST", "/translate", fields(q="a", source=7, target="es"), JSON),
    ("POST", "/translate", fields(q="a", source="en", target="yy", format="md"), JSON),
    ("POST", "/translate", fields(q="a", format="md", **EN_ES), JSON),
    ("POST", "/translate", fields(q="a", alternatives=4, **EN_ES), JSON),
    ("POST", "/translate", fields(q="a", alternatives="x", **EN_ES), JSON),
    ("POST", "/translate", fields(alternatives="x"), JSON),
    ("POST", "/translate", b"q=a&source=en&target=es&alternatives=x", FORM),
    ("POST", "/translate", fields(q=5, **EN_ES), JSON),
    ("POST", "/translate", fields(q=[5], **EN_ES), JSON),
    ("POST", "/translate", fields(q="\u00e9" * 201, **EN_ES), JSON),
    ("POST", "/translate", fields(q=["a"] * 5, **EN_ES), JSON),
    ("POST", "/translate", fields(q=["a"] * 3 + ["\u00e9" * 201], **EN_ES), JSON),
    ("POST", "/translate", b"[1]", JSON),
    ("POST", "/translate", b'{"q":', JSON),
    ("POST", "/translate", b"", JSON),
    ("POST", "/translate", b"q=a", "text/plain"),
]


def named(case) -> str:
    method, path, body, _ = case
    return f"{method} {path} {(body or b'')[:60].decode(errors='replace')}"


@pytest.mark.parametrize("case", SAID, ids=named)
def test_what_is_said_has_the_same_shape(real, ours, case):
    assert seen(ours.ask(*case), exact=False) == seen(real.ask(*case), exact=False)


@pytest.mark.parametrize("case", EXACT, ids=named)
def test_the_answer_is_the_same(real, ours, case):
    assert seen(ours.ask(*case), exact=True) == seen(real.ask(*case), exact=True)


def test_alternatives_are_a_list_for_each_text_and_may_be_fewer(real, ours):
    for q, expected in (("Hello there", str), (["Hello there", "Good day"], list)):
        body = fields(q=q, alternatives=2, **EN_ES)
        for server in (real, ours):
            answer = json.loads(server.ask("POST", "/translate", body, JSON).body)
            assert list(answer) == ["alternatives", "translatedText"]
            assert len(answer["alternatives"]) <= 2
            assert all(isinstance(item, expected) for item in answer["alternatives"])


def test_languages_have_the_same_fields_and_are_their_own_targets(real, ours):
    listed = {
        server.name: json.loads(server.ask("GET", "/languages").body) for server in (real, ours)
    }
    for languages in listed.values():
        for language in languages:
            assert list(language) == ["code", "name", "targets"]
            assert language["code"] in language["targets"]
            assert language["targets"] == sorted(language["targets"])
    known = {language["code"]: language["name"] for language in listed["Dragoman"]}
    for language in listed["LibreTranslate"]:
        assert known[language["code"]] == language["name"]


def test_too_many_requests_are_slowed_down_in_the_same_words(tmp_path):
    """Both count a batch as its texts and each path for itself, and the list of languages not."""
    told = []
    for start, name in (
        (lambda folder: run_real(folder, "--req-limit", str(SLOW)), "real"),
        (lambda folder: run_ours(folder, f"req_limit = {SLOW}\n"), "ours"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        running = start(folder)
        server = next(running)
        try:
            answers = [server.ask("GET", "/languages").status for _ in range(SLOW + 1)]
            batch = fields(q=["Hello"] * (SLOW - 1), **EN_ES)
            answers += [server.ask("POST", "/translate", batch, JSON).status]
            one = fields(q="Hello", **EN_ES)
            answers += [server.ask("POST", "/translate", one, JSON).status]
            refused = server.ask("POST", "/translate", one, JSON)
            answers += [server.ask("POST", "/detect", b"q=a", FORM).status]
            told.append((answers, seen(refused, exact=True), "retry-after" in refused.headers))
        finally:
            running.close()
    assert told[1] == told[0]
    assert told[0][1]["body"] == {"error": f"Slowdown: {SLOW} per 1 minute"}
