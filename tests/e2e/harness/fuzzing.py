"""Lets schemathesis write bodies of SDP: they are text. It imports this by its name."""

from __future__ import annotations

import schemathesis


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def text(_context, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
