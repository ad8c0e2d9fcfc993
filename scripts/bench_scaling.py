"""How does the lag grow with the number of calls, and what is left out by then?

The load test holds more and more calls with a server of its own, once as the server chooses what it
leaves out, and once pinned to each tier that is asked for. The table that is printed is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from bench_lag import machine

from harness.server import Server

TIERS = ("full", "no_speculation", "cheaper_voice", "cheaper_translator", "captions_only")
CHOSEN = "chosen"
STEPS = re.compile(r'^dragoman_tier_steps_total\{tier="(\w+)"\} (\d+)$', re.MULTILINE)
MEAN_BATCH = re.compile(
    r'^dragoman_batch_size_(sum|count)\{stage="translate".*\} ([\d.]+)$', re.MULTILINE
)


def metrics(server: Server) -> str:
    with urllib.request.urlopen(f"{server.admin_url}/metrics") as reply:
        return reply.read().decode()


def deepest(before: str, after: str) -> str:
    """The deepest tier that was entered between two readings."""
    earlier = dict(STEPS.findall(before))
    entered = [tier for tier, count in STEPS.findall(after) if count != earlier.get(tier, "0")]
    return max(entered, key=TIERS.index, default="full")


def mean_batch(before: str, after: str) -> float:
    """Sentences that shared a step of the translator, on average."""
    earlier = {name: float(value) for name, value in MEAN_BATCH.findall(before)}
    later = {name: float(value) for name, value in MEAN_BATCH.findall(after)}
    steps = later.get("count", 0) - earlier.get("count", 0)
    return (later.get("sum", 0) - earlier.get("sum", 0)) / steps if steps else 0.0


def hold(server: Server, options: argparse.Namespace, sessions: int, folder: Path) -> dict:
    """One level of load; what the load test found, and what the server did about it."""
    before = metrics(server)
    out = folder / f"report-{sessions}"
    command = [options.loadtest, "calls", "--server", server.url, "--corpus", options.corpus]
    command += ["--sessions", sessions, "--hold", f"{options.seconds}s", "--out", out]
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "DRAGOMAN_API_KEY": server.api_key},
        capture_output=True,
        text=True,
    )
    after = metrics(server)
    row = {"sessions": sessions, "tier": deepest(before, after), "exit": result.returncode}
    row["batch"] = mean_batch(before, after)
    report = out / "report.json"
    if report.exists():
        total = json.loads(report.read_text())["total"]
        row |= {
            "sentences": total["sentences"],
            "missing": total["missing"],
            "p50_ms": total["lag"]["p50"],
            "p95_ms": total["lag"]["p95"],
            "caption_p50_ms": total["caption"]["p50"],
            "caption_p95_ms": total["caption"]["p95"],
        }
    return row


def line(row: dict) -> str:
    """A level as a line of the table. Where nothing was heard, there is no lag to tell."""
    heard = row.get("sentences", 0) > row.get("missing", 0)

    def ms(name: str, known: bool) -> str:
        return f"{row[name]:.0f} ms" if known and name in row else "-"

    cells = [row["pin"], row["sessions"], row.get("sentences", 0), row.get("missing", 0)]
    cells += [ms("p50_ms", heard), ms("p95_ms", heard)]
    cells += [ms("caption_p50_ms", True), ms("caption_p95_ms", True), f"{row['batch']:.1f}"]
    cells += [row["tier"] if row["pin"] == CHOSEN else row["pin"]]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def measure(pin: str, options: argparse.Namespace) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "dragoman.toml"
        pinned = "" if pin == CHOSEN else f'[engine.overload]\npin = "{pin}"\n'
        config.write_text(pinned)
        server = Server("--config", str(config), log=folder / "server.log")
        try:
            for sessions in options.sessions:
                row = {"pin": pin, **hold(server, options, sessions, folder)}
                rows.append(row)
                print(line(row), flush=True)
        finally:
            server.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loadtest", required=True, help="the program dragoman-loadtest")
    parser.add_argument("--corpus", required=True, help="folder of the recordings")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=int, default=60, help="of each level (default: 60)")
    parser.add_argument(
        "--tiers",
        nargs="+",
        default=[CHOSEN],
        choices=[CHOSEN, *TIERS],
        help="tiers to pin the server to; `chosen` lets it choose (default)",
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    print(f"{machine()}, {options.seconds} s a level\n")
    names = ["tier", "calls", "sentences", "missing", "lag p50", "lag p95"]
    names += ["caption p50", "caption p95", "batch", "deepest tier"]
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    rows = [row for pin in options.tiers for row in measure(pin, options)]
    if options.json:
        report = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
