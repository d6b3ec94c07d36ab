"""Walking the records of a "block" section (block migration), without a machine.

Written from the description of the format, apart from the code that sends and loads it. be64 (sector << 9 |
flags), flags 1 DEVICE_BLOCK, 2 EOS, 4 PROGRESS, 8 ZERO_BLOCK; DEVICE_BLOCK has a string8 name and, without
ZERO_BLOCK, 1 MiB of data.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader

CHUNK = 1 << 20
DEVICE_BLOCK, EOS, PROGRESS, ZERO_BLOCK = 1, 2, 4, 8


def walk_block(r: BytesReader) -> dict[str, Any]:
    """One section body, up to its EOS: chunks and chunks of zeroes by disk, the progress. Raises StreamError."""
    chunks: Counter[str] = Counter()
    zero: Counter[str] = Counter()
    values: dict[str, Any] = {}
    while True:
        start = r.position
        head = r.be64()
        flags = head & 511
        if flags in (DEVICE_BLOCK, DEVICE_BLOCK | ZERO_BLOCK):
            name = r.string8().encode("unicode_escape").decode("ascii")
            if flags & ZERO_BLOCK:
                zero[name] += 1
            else:
                chunks[name] += 1
                r.skip(CHUNK)
        elif flags == PROGRESS:
            values["progress"] = f"{head >> 9} %"
        elif flags == EOS:
            break
        else:
            raise StreamError(f"block record with unknown flags {flags:#x}", offset=start)
    for name in sorted({*chunks, *zero}):
        values[name] = {"chunks": chunks[name], "zero chunks": zero[name]}
    return values
