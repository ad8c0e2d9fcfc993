"""A caller on aiortc: speaks what it is given in real time, records what it hears, and notes when
each packet left and arrived, by its RTP timestamp."""

from __future__ import annotations

import asyncio
import fractions
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import aioice.ice
import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, CodecContext, Packet

from harness.prompts import SAMPLE_RATE

FRAME_SAMPLES = SAMPLE_RATE // 50
RTCP_PACKET_TYPES = range(192, 224)
# -40 dBFS: well under speech, well over what a codec makes of silence.
AUDIBLE_PEAK = 330

# Calls stay on this machine: without this, aioice offers every address but the loopback one.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

# Takes an SDP offer, gives the answer.
Answerer = Callable[[str], Awaitable[str]]


def rtp_after(later: int, earlier: int) -> int:
    """Signed distance of two RTP timestamps, across a wrap of the 32-bit counter."""
    return (later - earlier + 2**31) % 2**32 - 2**31


class Microphone(MediaStreamTrack):
    """Gives a frame of 20 ms every 20 ms: what was queued, and silence when nothing is."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._queued = np.zeros(0, dtype=np.int16)
        self._position = 0
        self._started: float | None = None

    def play(self, samples: np.ndarray) -> float:
        """Queues mono 48 kHz s16 and returns how many seconds pass until all of it has left."""
        self._queued = np.concatenate([self._queued, samples])
        return len(self._queued) / SAMPLE_RATE

    async def recv(self) -> AudioFrame:
        now = time.monotonic()
        if self._started is None:
            self._started = now
        due = self._started + self._position / SAMPLE_RATE
        if due > now:
            await asyncio.sleep(due - now)

        samples, self._queued = self._queued[:FRAME_SAMPLES], self._queued[FRAME_SAMPLES:]
        if len(samples) < FRAME_SAMPLES:
            samples = np.pad(samples, (0, FRAME_SAMPLES - len(samples)))
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self._position
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        self._position += FRAME_SAMPLES
        return frame


@dataclass(frozen=True)
class ArrivedPacket:
    """A packet of the received track."""

    rtp_timestamp: int
    arrived: float
    payload: bytes


@dataclass
class PacketLog:
    """What left and what arrived. Times are `time.monotonic()` seconds."""

    sent: list[tuple[int, float]] = field(default_factory=list)
    arrived: list[ArrivedPacket] = field(default_factory=list)

    def sent_at(self, rtp_timestamp: int) -> float:
        """When the packet left that holds this instant of our speech."""
        for start, when in reversed(self.sent):
            if 0 <= rtp_after(rtp_timestamp, start) < FRAME_SAMPLES:
                return when
        raise LookupError(f"no packet that we sent holds RTP timestamp {rtp_timestamp}")

    def arrived_at(self, rtp_timestamp: int) -> float:
        """When the packet of the received track with this very timestamp arrived."""
        for packet in self.arrived:
            if packet.rtp_timestamp == rtp_timestamp:
                return packet.arrived
        raise LookupError(f"no packet with RTP timestamp {rtp_timestamp} arrived")

    def heard(self, first: int | None = None, until: int | None = None) -> np.ndarray:
        """The received speech from one RTP timestamp up to another, as 48 kHz mono s16 on the RTP
        time line: what never arrived is silence, so is everything the sender left out."""
        if not self.arrived:
            return np.zeros(0, dtype=np.int16)
        reference = self.arrived[0].rtp_timestamp
        packets = sorted(
            {packet.rtp_timestamp: packet for packet in self.arrived}.values(),
            key=lambda packet: rtp_after(packet.rtp_timestamp, reference),
        )
        origin = packets[0].rtp_timestamp if first is None else first
        decoder = CodecContext.create("libopus", "r")
        decoder.format, decoder.layout, decoder.sample_rate = "s16", "stereo", SAMPLE_RATE
        pieces: list[tuple[int, np.ndarray]] = []
        for packet in packets:
            if until is not None and rtp_after(packet.rtp_timestamp, until) >= 0:
                break
            # Those before `first` are decoded too, since the decoder carries state.
            mono = _decode(decoder, packet)
            start = rtp_after(packet.rtp_timestamp, origin)
            if start >= 0:
                pieces.append((start, mono))
        length = max((start + len(mono) for start, mono in pieces), default=0)
        recording = np.zeros(length, dtype=np.int16)
        for start, mono in pieces:
            recording[start : start + len(mono)] = mono
        return recording


def _decode(decoder: CodecContext, arrived: ArrivedPacket) -> np.ndarray:
    if not arrived.payload:
        return np.zeros(0, dtype=np.int16)
    packet = Packet(arrived.payload)
    packet.pts, packet.time_base = arrived.rtp_timestamp, fractions.Fraction(1, SAMPLE_RATE)
    frames = [frame.to_ndarray().reshape(-1, 2) for frame in decoder.decode(packet)]
    if not frames:
        return np.zeros(0, dtype=np.int16)
    return np.concatenate(frames).mean(axis=1).astype(np.int16)


class Peer:
    """One WebRTC connection that speaks, listens, or both, as its direction says; with relays, by
    way of them alone.

    async with Peer() as peer:
        await peer.connect(answerer)
        peer.microphone.play(samples)
    """

    def __init__(
        self,
        *,
        sections: int = 1,
        direction: str = "sendrecv",
        relays: Sequence[RTCIceServer] = (),
    ) -> None:
        self.microphone = Microphone()
        # What came on each receiving section, in their order; the first is the microphone's own.
        self.logs = [PacketLog() for _ in range(sections)]
        # When the received track was last more than background, `time.monotonic()`.
        self.last_audible = 0.0
        self.closed = asyncio.Event()
        self._connected = asyncio.Event()
        self._drains: list[asyncio.Task] = []
        policy = RTCIceTransportPolicy.RELAY if relays else RTCIceTransportPolicy.ALL
        self._connection = RTCPeerConnection(
            RTCConfiguration(iceServers=list(relays), iceTransportPolicy=policy)
        )
        first = "audio" if direction == "recvonly" else self.microphone
        self._connection.addTransceiver(first, direction=direction)
        for _ in range(1, sections):
            self._connection.addTransceiver("audio", direction="recvonly")
        self._connection.on("track", self._on_track)
        self._connection.on("connectionstatechange", self._on_state)

    @property
    def log(self) -> PacketLog:
        """What left, and what arrived on the first section."""
        return self.logs[0]

    @property
    def ice_transport(self):
        return self._connection.getSenders()[0].transport.transport

    async def offer(self) -> str:
        """An SDP offer with every candidate in it."""
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return self._connection.localDescription.sdp

    async def connect(self, answerer: Answerer, *, timeout_s: float = 30) -> None:
        """Offers, and waits until media flows."""
        answer = await answerer(await self.offer())
        await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        # The server may send with its very first packet, so the receiver is hooked before the
        # handshake, which happens in the background, is through.
        self._watch_sender()
        await asyncio.wait_for(self._connected.wait(), timeout_s)

    async def answer(self, offer: str) -> str:
        """The other side of the handshake, for a call without a server."""
        await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        self._watch_sender()
        return self._connection.localDescription.sdp

    async def say(self, samples: np.ndarray) -> None:
        """Speaks and returns when the last of it has left."""
        await asyncio.sleep(self.microphone.play(samples))

    async def hear_out(self, *, quiet_s: float, timeout_s: float) -> None:
        """Returns when the received track has been quiet for a while."""
        deadline = time.monotonic() + timeout_s
        since = time.monotonic()
        while time.monotonic() - max(self.last_audible, since) < quiet_s:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the other side still speaks after {timeout_s} s")
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self._connection.close()
        for task in self._drains:
            task.cancel()

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    def _on_state(self) -> None:
        if self._connection.connectionState == "connected":
            self._connected.set()
        if self._connection.connectionState in ("closed", "failed"):
            self.closed.set()

    def _on_track(self, track: MediaStreamTrack) -> None:
        receivers = self._connection.getReceivers()
        index = next(n for n, receiver in enumerate(receivers) if receiver.track is track)
        receiver, log = receivers[index], self.logs[index]
        handle = receiver._handle_rtp_packet

        async def noting(packet, arrival_time_ms: int) -> None:
            arrived = ArrivedPacket(packet.timestamp, time.monotonic(), packet.payload)
            log.arrived.append(arrived)
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = noting
        self._drains.append(asyncio.ensure_future(self._listen(track)))

    async def _listen(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                if np.abs(frame.to_ndarray().astype(np.int32)).max() > AUDIBLE_PEAK:
                    self.last_audible = time.monotonic()
        except MediaStreamError:
            # The track ended with the connection.
            return

    def _watch_sender(self) -> None:
        transport = self._connection.getSenders()[0].transport
        send = transport._send_rtp

        async def noting(data: bytes) -> None:
            if data[1] not in RTCP_PACKET_TYPES:
                (rtp_timestamp,) = struct.unpack_from("!I", data, 4)
                self.log.sent.append((rtp_timestamp, time.monotonic()))
            await send(data)

        transport._send_rtp = noting
