"""The API is what it says of itself: its description is valid OpenAPI, and schemathesis, which
makes requests from it that are right and wrong, finds no answer that is not described there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from harness.browser import Browser
from harness.server import Api, Reply, Server

HERE = Path(__file__).parent
FUZZING_TIMEOUT_S = 120
# Nothing is to be refused for being asked often.
NO_LIMITS = """
[http.limits]
address_per_s = 0
key_per_s = 0
refused_per_min = 0
"""
SESSIONS = "^(open|lookAt|get|patch|delete)(Session|Whip|Whep|WhipSession|WhepSession)$"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory):
    """A server of its own: other tests are not to meet the rooms that are made here."""
    folder = tmp_path_factory.mktemp("fuzzed")
    config = folder / "dragoman.toml"
    config.write_text(NO_LIMITS)
    server = Server(
        "--config",
        str(config),
        log=folder / "dragoman.log",
        transcripts=folder / "transcripts.sqlite3",
    )
    yield server
    assert server.is_running, "the server died of what it was asked"
    assert server.stop() == 0


def get(server: Server, path: str) -> Reply:
    async def ask() -> Reply:
        async with Api(server) as api:
            return await api.request("GET", path)

    reply = asyncio.run(ask())
    assert reply.status == 200, reply.text
    return reply


@pytest.fixture(scope="module")
def document(fuzzed: Server) -> dict:
    return get(fuzzed, "/v1/openapi.json").json


def with_examples(document: dict, examples: dict[str, list[str]]) -> dict:
    """The document with what this server has as the examples of these shapes, so that requests
    come further than the check whether it has it."""
    copy = json.loads(json.dumps(document))
    for name, values in examples.items():
        copy["components"]["schemas"][name]["examples"] = values
    return copy


def narrowed(document: dict, words: dict[str, list[str]]) -> dict:
    """The document with these shapes narrowed to a few words."""
    copy = json.loads(json.dumps(document))
    for name, values in words.items():
        copy["components"]["schemas"][name] = {"type": "string", "enum": values}
    return copy


def fuzz(server: Server, document: dict, folder: Path, bearer: str, *arguments: str) -> None:
    described = folder / "openapi.json"
    described.write_text(json.dumps(document))
    ended = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(HERE / "schemathesis.toml"), "run", str(described)),
            *("--url", server.url, "--header", f"Authorization: Bearer {bearer}"),
            *("--checks", "all", "--no-color", "--warnings", "off", *arguments),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "harness.fuzzing"},
        capture_output=True,
        text=True,
        timeout=FUZZING_TIMEOUT_S,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


def test_the_description_is_valid_openapi(document: dict) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_every_answer_to_the_key_is_described(
    fuzzed: Server, document: dict, tmp_path: Path
) -> None:
    languages = [one["code"] for one in get(fuzzed, "/v1/languages").json]
    voices = [one["name"] for one in get(fuzzed, "/v1/voices").json]
    examples = {"LanguageTag": languages, "Channel": [*languages, "floor"], "VoiceName": voices}
    fuzz(fuzzed, with_examples(document, examples), tmp_path, fuzzed.api_key)


def test_every_answer_to_a_participant_is_described(
    fuzzed: Server, document: dict, tmp_path: Path
) -> None:
    async def invite() -> tuple[str, str]:
        async with Api(fuzzed) as api:
            room = await api.create_room(["en", "es"], empty_timeout_s=0)
            return room, await api.token(room, "ana", "en", grants={"interpret": ["es"]})

    room, token = asyncio.run(invite())
    within = narrowed(document, {"RoomName": [room], "Identity": ["ana"]})
    fuzz(fuzzed, within, tmp_path, token, "--include-operation-id-regex", SESSIONS)


def test_the_reference_shows_every_operation(
    fuzzed: Server, document: dict, tmp_path: Path
) -> None:
    reply = get(fuzzed, "/v1/docs")
    assert reply.headers["content-type"].startswith("text/html")
    # The same policy as the page's: nothing inline, nothing of others.
    policy = "content-security-policy"
    assert reply.headers[policy] == get(fuzzed, "/").headers[policy]
    paths = document["paths"].values()
    operations = [operation["operationId"] for path in paths for operation in path.values()]

    async def read() -> tuple[list[str], int, list[str]]:
        async with Browser(tmp_path, microphone=None) as browser:
            page = await browser.open(f"{fuzzed.url}/v1/docs")
            await page.wait_for("!document.querySelector('#reference').ariaBusy")
            shown = "[...document.querySelectorAll('.operation')].map((one) => one.id)"
            schemas = "document.querySelectorAll('.schema').length"
            return await page.evaluate(shown), await page.evaluate(schemas), page.errors

    shown, schemas, errors = asyncio.run(read())
    assert sorted(shown) == sorted(operations)
    assert schemas == len(document["components"]["schemas"])
    assert errors == []
