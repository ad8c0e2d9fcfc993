"""How late are the ticks of 20 ms while the models compute?

The real server holds a few calls at a time, first without real-time priority for its media worker,
then with it; the histogram of its own metrics is read before and after each. The calls come from
this machine too, so the load is heavier than a server's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import tempfile
import time
import urllib.request
from pathlib import Path

from bench_lag import fixed_clips, machine

from harness import call
from harness.server import Server

WANTED_P99_MS = 5.0
BUCKET = re.compile(r'^dragoman_tick_lateness_seconds_bucket\{le="([^"]+)"\} (\d+)$', re.MULTILINE)


class Reading:
    """The metrics of a server at one moment, and the processor time that it has used."""

    def __init__(self, server: Server) -> None:
        with urllib.request.urlopen(f"{server.admin_url}/metrics") as reply:
            self.text = reply.read().decode()
        self.buckets = [(float(edge), int(count)) for edge, count in BUCKET.findall(self.text)]
        fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        self.cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.at = time.monotonic()

    def value(self, name: str) -> float:
        return float(re.search(rf"^dragoman_{name} (\S+)$", self.text, re.MULTILINE).group(1))


def quantile_ms(before: Reading, after: Reading, share: float) -> float:
    """Upper edge of the bucket that holds the quantile of what came between two readings."""
    counts = [
        (edge, later - earlier)
        for (edge, later), (_, earlier) in zip(after.buckets, before.buckets, strict=True)
    ]
    ticks = counts[-1][1]
    return next((edge * 1000 for edge, count in counts if count >= share * ticks), math.inf)


async def load(server: Server, calls: int, seconds: float) -> int:
    """Holds `calls` calls at a time for at least `seconds` and returns how many sentences were
    interpreted."""
    clips = fixed_clips()
    end = time.monotonic() + seconds

    async def talk(number: int) -> int:
        sentences = 0
        while time.monotonic() < end:
            clip = clips[(number + sentences) % len(clips)]
            held = await call.hold(server, [clip], original_gain=0.3)
            sentences += len(held.turns)
        return sentences

    return sum(await asyncio.gather(*(talk(number) for number in range(calls))))


def measure(real_time: bool, calls: int, seconds: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "dragoman.toml"
        config.write_text(f"[media]\nreal_time = {str(real_time).lower()}\n")
        server = Server("--config", str(config), log=Path(folder) / "server.log")
        try:
            before = Reading(server)
            sentences = asyncio.run(load(server, calls, seconds))
            after = Reading(server)
        finally:
            server.stop()
    return {
        "asked_for_real_time": real_time,
        "got_real_time": after.value("media_workers_real_time") > 0,
        "p50_ms": quantile_ms(before, after, 0.5),
        "p99_ms": quantile_ms(before, after, 0.99),
        "max_ms": after.value("tick_lateness_max_seconds") * 1000,
        "ticks": after.buckets[-1][1] - before.buckets[-1][1],
        "skipped": after.value("ticks_skipped_total") - before.value("ticks_skipped_total"),
        "sentences": sentences,
        "cores_busy": (after.cpu_s - before.cpu_s) / (after.at - before.at),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2, help="calls at a time (default: 2)")
    parser.add_argument("--seconds", type=float, default=30, help="of load each (default: 30)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()

    print(f"{machine()}; {options.calls} calls at a time, {options.seconds:.0f} s each way")
    rows = [measure(real_time, options.calls, options.seconds) for real_time in (False, True)]
    for row in rows:
        asked, got = row["asked_for_real_time"], row["got_real_time"]
        name = "real time" if got else "refused" if asked else "ordinary"
        print(
            f"  {name:10} p50 {row['p50_ms']:6.2f}  p99 {row['p99_ms']:6.2f}"
            f"  max {row['max_ms']:7.2f} ms late;"
            f" {row['ticks']} ticks, {row['skipped']:.0f} skipped;"
            f" {row['sentences']} sentences, {row['cores_busy']:.1f} cores busy with them,"
            f" load {row['load']:.1f}"
        )
    p99_ms = rows[-1]["p99_ms"]
    verdict = "met" if p99_ms <= WANTED_P99_MS else "missed"
    print(f"  at most {WANTED_P99_MS:.0f} ms at the 99th percentile wanted: {verdict}")
    if options.json:
        report = {"machine": machine(), "calls": options.calls, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
