"""What all end-to-end tests share: one seed, one server."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest

from harness import recogniser
from harness.server import Server, program
from harness.turn import Turn

LOG_TAIL_LINES = 60

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


SERVER_LOG = pytest.StashKey[Path]()


def pytest_report_header() -> list[str]:
    return [
        f"seed: {SEED} (SEED={SEED} draws the same prompts again)",
        f"program: {program()}",
        f"models: {recogniser.models()}",
    ]


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """When something failed, the server's side of the story."""
    log = config.stash.get(SERVER_LOG, None)
    if exitstatus != 0 and log is not None:
        terminalreporter.section("server log")
        lines = log.read_text(errors="replace").splitlines()
        terminalreporter.write_line("\n".join(lines[-LOG_TAIL_LINES:]))


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def turn() -> Turn:
    """The TURN server that the server tells of; a test that needs it starts it."""
    return Turn()


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, turn: Turn):
    """One server for the session, since loading its models takes a while."""
    folder = tmp_path_factory.mktemp("server")
    log, config = folder / "dragoman.log", folder / "dragoman.toml"
    config.write_text(turn.section)
    pytestconfig.stash[SERVER_LOG] = log
    # As most servers run: what is said is kept.
    server = Server(
        "--config", str(config), log=log, transcripts=log.with_name("transcripts.sqlite3")
    )
    # The clients' clock readings are worth only what the scheduler lets them be on two busy cores.
    # Not before the server runs, which would inherit it.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    yield server
    assert server.is_running, f"the server died; see {log}"
    assert server.stop() == 0, f"the server did not end cleanly; see {log}"
