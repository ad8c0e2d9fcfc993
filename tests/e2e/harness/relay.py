"""A bad network between callers and the server: the load test's relay, seeded, one for each media
port of the server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterable

from aiortc.codecs.opus import OpusEncoder
from av import AudioResampler

from harness.peer import Answerer
from harness.prompts import SAMPLE_RATE
from harness.server import end_with_parent, program

STOP_TIMEOUT_S = 10
CANDIDATE_PORT = re.compile(r"^(a=candidate:\S+ \d+ udp \d+ \S+ )(\d+)", re.MULTILINE)
CANDIDATE_LINE = re.compile(r"^a=(candidate:|end-of-candidates).*\r?\n", re.MULTILINE)


class ResilientEncoder(OpusEncoder):
    """Opus as browsers send it when told of losses; aiortc's own has no forward error correction
    and three times the bit rate."""

    def __init__(self) -> None:
        super().__init__()
        self.codec.layout = "mono"
        self.codec.bit_rate = 32_000
        self.codec.options = {"application": "voip", "fec": "1", "packet_loss": "5"}
        self.resampler = AudioResampler(
            format="s16", layout="mono", rate=SAMPLE_RATE, frame_size=SAMPLE_RATE // 50
        )


class Relay:
    """Relays that run until the end of a `with` block. `report` then says what they did."""

    def __init__(self, server_ports: Iterable[int], *, preset: str, seed: int) -> None:
        self._processes = {port: _start(port, preset, seed) for port in server_ports}
        self._ports = {
            port: int(_line(process)["address"].rsplit(":", 1)[1])
            for port, process in self._processes.items()
        }
        self.report = {"clients": 0, "to_server": {}, "to_clients": {}}

    def through(self, answerer: Answerer) -> Answerer:
        """The same answerer, with our ports in its answers. The offer loses its candidates: the
        server would check the direct way and find it better."""

        async def answer(offer: str) -> str:
            sdp = await answerer(CANDIDATE_LINE.sub("", offer))
            return CANDIDATE_PORT.sub(lambda found: found[1] + str(self._ports[int(found[2])]), sdp)

        return answer

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
            self._add(_line(process))
            assert process.wait(STOP_TIMEOUT_S) == 0

    def _add(self, report: dict) -> None:
        self.report["clients"] += report["clients"]
        for way in ("to_server", "to_clients"):
            for name, count in report[way].items():
                self.report[way][name] = self.report[way].get(name, 0) + count


def _start(port: int, preset: str, seed: int) -> subprocess.Popen:
    command = [
        str(program().with_name("dragoman-loadtest")),
        *("relay", "--to", f"127.0.0.1:{port}", "--preset", preset, "--seed", str(seed)),
    ]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )


def _line(process: subprocess.Popen) -> dict:
    line = process.stdout.readline()
    assert line, f"the relay ended with {process.wait(STOP_TIMEOUT_S)}"
    return json.loads(line)
