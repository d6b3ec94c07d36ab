"""What the payloads of commands and return path messages say, for whoever reads a recorded stream.

The layouts are described in ``postcopy.py`` and ``returnpath.py``. A payload of another length is shown as bytes.
"""

from __future__ import annotations

from typing import Any

from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader


def command_values(name: str, payload: bytes) -> dict[str, Any]:
    """The fields of a COMMAND's payload; empty where there are none, or it makes no sense."""
    try:
        return _command_values(name, BytesReader(payload))
    except StreamError:
        return {}


def _command_values(name: str, r: BytesReader) -> dict[str, Any]:
    if name == "PING":
        return {"value": r.be32()}
    if name == "PACKAGED":
        return {"size": r.be32()}
    if name == "POSTCOPY_ADVISE" and r.remaining:
        return {"page sizes": r.be64(), "target page size": r.be64()}
    if name == "RECV_BITMAP":
        return {"block": r.string8()}
    if name == "POSTCOPY_RAM_DISCARD":
        r.skip(1)
        block = r.string8()
        r.skip(1)
        ranges = []
        while r.remaining:
            ranges.append((r.be64(), r.be64()))
        return {"block": block, "ranges": ranges}
    return {}


def message_values(name: str, payload: bytes) -> dict[str, Any]:
    """The fields of a return path message."""
    try:
        return _message_values(name, BytesReader(payload))
    except StreamError:
        return {}


def _message_values(name: str, r: BytesReader) -> dict[str, Any]:
    if name in ("SHUT", "PONG", "RESUME_ACK"):
        return {"value": r.be32()}
    if name == "REQ_PAGES":
        return {"start": r.be64(), "length": r.be32()}
    if name == "REQ_PAGES_ID":
        return {"start": r.be64(), "length": r.be32(), "block": r.string8()}
    if name == "RECV_BITMAP":
        block = r.string8()
        bits = r.raw(r.remaining)
        return {"block": block, "received": sum(byte.bit_count() for byte in bits)}
    return {}
