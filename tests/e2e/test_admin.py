"""The operator's face: what a call left in the metrics, and who may see them."""

import asyncio
import re

import aiohttp

from harness import call, prompts

SENTENCES = 1


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return reply.status, reply.headers.get("Content-Type", ""), await reply.text()


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is missing from\n{text}"
    return float(found.group(1))


def test_a_call_leaves_its_lag_and_its_stages_in_the_metrics(server, seed):
    async def around_a_call() -> tuple[str, str, call.Call]:
        _, _, before = await get(f"{server.admin_url}/metrics")
        held = await call.hold(server, prompts.draw("en", "es", SENTENCES, seed))
        status, media_type, after = await get(f"{server.admin_url}/metrics")
        assert status == 200 and media_type.startswith("application/openmetrics-text")
        return before, after, held

    before, after, held = asyncio.run(around_a_call())
    spoken = sum(len(turn.spoken) for turn in held.turns)
    assert spoken >= 1
    lag = "dragoman_interpretation_lag_seconds"
    earlier = value(before, f"{lag}_count") if f"{lag}_count" in before else 0.0
    assert value(after, f"{lag}_count") - earlier == spoken
    lag_s = value(after, f"{lag}_sum") - (value(before, f"{lag}_sum") if earlier else 0.0)
    told_s = sum(event["trace"]["lag_ms"] for turn in held.turns for event in turn.spoken) / 1000
    assert abs(lag_s - told_s) < 0.01, f"{lag_s} s by the metrics, {told_s} s by the events"
    for stage in ("endpoint", "queue", "transcribe", "translate", "speak", "playout"):
        assert value(after, f'dragoman_stage_seconds_count{{stage="{stage}"}}') >= spoken
    assert value(after, "dragoman_packets_in_total") > 100
    assert value(after, "dragoman_tick_lateness_seconds_count") > 100
    assert value(after, "dragoman_media_workers") >= 1


def test_health_is_told_on_both_faces_and_the_metrics_on_the_operators_alone(server):
    async def ask() -> list[int]:
        paths = [
            f"{face}/{path}"
            for face in (server.admin_url, server.url)
            for path in ("healthz", "readyz", "metrics")
        ]
        return [(await get(path))[0] for path in paths]

    assert asyncio.run(ask()) == [200, 200, 200, 200, 200, 404]
