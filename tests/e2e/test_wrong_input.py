"""Wrong input gets the right answer, and whoever sends it harms nobody else."""

import asyncio
import os
import random
import re
import socket
import subprocess

import pytest

from harness import call, prompts, recogniser
from harness.peer import Peer
from harness.server import Api, program

PROBLEM = "application/problem+json"
STUN_COOKIE = b"\x21\x12\xa4\x42"
FLOOD_S, GARBAGE_PER_SECOND = 12, 400


def an_offer(change=lambda sdp: sdp) -> str:
    async def make():
        async with Peer() as peer:
            return await peer.offer()

    return change(asyncio.run(make()))


def without_opus(sdp: str) -> str:
    """The same offer, from a client that can only send G.711."""
    media = re.search(r"m=audio (\d+) (\S+) [\d ]+", sdp)
    sdp = sdp.replace(media[0], f"m=audio {media[1]} {media[2]} 0 8")
    lines = sdp.splitlines(keepends=True)
    codec = re.compile(r"a=(rtpmap|fmtp|rtcp-fb):(?!0 |8 )\d+")
    return "".join(line for line in lines if not codec.match(line))


def post_session(server, sdp, *, token=None):
    """Offers `sdp` with a good token, or with the one given."""

    async def post():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            good = await api.token(room, "alice", "en")
            reply = await api.offer(room, token if token is not None else good, sdp)
            await api.delete_room(room)
            return reply

    return asyncio.run(post())


def assert_problem(reply, status):
    assert reply.status == status, reply.text
    assert reply.headers["content-type"].startswith(PROBLEM), reply.headers
    problem = reply.json
    assert problem["status"] == status
    assert problem["title"] and problem["detail"] and problem["type"]


def test_an_offer_without_opus_is_unprocessable(server):
    reply = post_session(server, an_offer(without_opus))
    assert_problem(reply, 422)
    assert "opus" in reply.text.lower()


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda sdp: sdp.replace("a=rtcp-mux\r\n", ""), "RTCP mux policy require"),
        (lambda sdp: re.sub(r"a=mid:.*\r\n", "", sdp), "a=mid"),
        (lambda sdp: sdp.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "UDP/TLS/RTP/SAVPF"),
        (lambda sdp: re.sub(r"a=fingerprint:.*\r\n", "", sdp), "offer with DTLS"),
        (lambda sdp: re.sub(r"a=ice-(ufrag|pwd):.*\r\n", "", sdp), "offer with ICE"),
        (lambda sdp: sdp.replace("a=sendrecv", "a=inactive"), "offer sendrecv"),
        (lambda sdp: sdp.replace("m=audio", "m=video"), "offer one with Opus"),
    ],
    ids=["no-rtcp-mux", "no-mid", "no-dtls", "no-fingerprint", "no-ice", "inactive", "no-audio"],
)
def test_an_offer_that_cannot_be_answered_says_what_to_do(server, change, cure):
    reply = post_session(server, an_offer(change))
    assert_problem(reply, 422)
    assert cure in reply.json["detail"], reply.text


@pytest.mark.parametrize("body", ["hello", "", "v=0\r\nm=", "{}", "\x00\x01\x02"])
def test_what_is_no_sdp_is_a_bad_request(server, body):
    assert_problem(post_session(server, body), 400)


def test_an_offer_over_64_kib_is_too_large(server):
    padding = "a=x-padding:" + "0" * 65_536 + "\r\n"
    assert_problem(post_session(server, an_offer(lambda sdp: sdp + padding)), 413)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        # A well-formed token that this server did not sign.
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0."
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        # The same, which says that it needs no signature.
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.",
    ],
    ids=["empty", "nonsense", "foreign-signature", "no-signature"],
)
def test_a_bad_token_is_unauthorised(server, token):
    reply = post_session(server, an_offer(), token=token)
    assert_problem(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_token_for_another_room_opens_nothing(server):
    async def post():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            other = await api.create_room(["en", "es"])
            token = await api.token(other, "alice", "en")
            return await api.offer(room, token, "v=0")

    assert asyncio.run(post()).status in (401, 403)


def test_a_room_that_does_not_exist_is_not_found(server):
    async def get():
        async with Api(server) as api:
            return await api.request("GET", "/v1/rooms/nowhere", bearer=server.api_key)

    assert_problem(asyncio.run(get()), 404)


def test_a_second_session_of_the_same_person_is_a_conflict(server):
    async def post():
        async with Api(server) as api, Peer() as first, Peer() as second:
            room = await api.create_room(["en", "es"])
            token = await api.token(room, "alice", "en")
            await first.connect(api.answerer(room, token))
            reply = await api.offer(room, token, await second.offer())
            await api.delete_room(room)
            return reply

    assert_problem(asyncio.run(post()), 409)


def garbage(draw: random.Random) -> bytes:
    """A datagram that begins like one of the protocols on the port, or like nothing."""
    kind = draw.randrange(6)
    noise = draw.randbytes(draw.randrange(1, 1400))
    if kind == 0:
        # A STUN binding request whose length and attributes lie.
        return b"\x00\x01" + draw.randbytes(2) + STUN_COOKIE + noise
    if kind == 1:
        # A well-formed one for a user that does not exist.
        username = b"\x00\x06\x00\x08nobody:x"
        return b"\x00\x01\x00\x0c" + STUN_COOKIE + draw.randbytes(12) + username
    if kind == 2:
        # A DTLS handshake record.
        return b"\x16\xfe\xfd" + noise
    if kind == 3:
        # An RTP header.
        return bytes([0x80, draw.randrange(256)]) + noise
    if kind == 4:
        return b""
    return noise


async def flood(ports, seed):
    """Garbage from one socket for as long as a short call takes."""
    draw = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(FLOOD_S * 20):
            for _ in range(GARBAGE_PER_SECOND // 20):
                sender.sendto(garbage(draw), ("127.0.0.1", draw.choice(ports)))
            await asyncio.sleep(0.05)


def test_garbage_datagrams_do_not_disturb_a_call(server, seed):
    drawn = prompts.draw("en", "es", 1, seed + 1)

    async def call_under_fire():
        held, _ = await asyncio.gather(call.hold(server, drawn), flood(server.udp_ports, seed))
        return held

    held = asyncio.run(call_under_fire())
    turn = held.turns[0]
    assert turn.spoken, f"not interpreted: {turn}"
    assert turn.heard_text, f"not heard: {turn}"
    assert server.is_running


def test_a_call_goes_on_while_others_offer_nonsense(server, seed):
    drawn = prompts.draw("en", "es", 1, seed + 2)

    async def nonsense():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            token = await api.token(room, "mallory", "en")
            for body in ("v=0", "x" * 70_000, "", "v=0\r\n" * 500):
                assert (await api.offer(room, token, body)).status in (400, 413, 422)
            # Somebody who connects and is gone without a word.
            peer = Peer()
            await api.offer(room, token, await peer.offer())
            await peer.close()

    async def both():
        held, _ = await asyncio.gather(call.hold(server, drawn), nonsense())
        return held

    assert asyncio.run(both()).turns[0].spoken


def test_a_corrupt_model_file_is_named_with_its_hashes_and_the_cure(tmp_path):
    folder = a_copy_with_one_flipped_byte(tmp_path, "whisper-base/tokenizer.json")
    result = subprocess.run(
        [
            *(str(program()), "serve", "--development", "--http", "127.0.0.1:0"),
            *("--udp-bind", "127.0.0.1", "--udp-port", "0", "--transcripts", ""),
        ],
        env={**os.environ, "DRAGOMAN_MODELS": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = result.stdout + result.stderr
    assert result.returncode not in (0, None), said
    assert "tokenizer.json" in said
    hashes = set(re.findall(r"\b[0-9a-f]{64}\b", said))
    assert len(hashes) == 2, f"expected the wanted and the found hash: {said}"
    assert "dragoman models" in said, said
    assert "panicked" not in said, said


def a_copy_with_one_flipped_byte(tmp_path, victim):
    """The models folder as links, but for one file."""
    source, folder = recogniser.models(), tmp_path / "models"
    for path in source.rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.relative_to(source).as_posix() != victim:
                copy.symlink_to(path)
                continue
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            copy.write_bytes(content)
    assert not (folder / victim).is_symlink()
    return folder
