"""What both ends of a postcopy share: the payloads of its commands and messages. And who has the guest.

    POSTCOPY_ADVISE      be64 OR of the page sizes of all RAM blocks, be64 target page size
    POSTCOPY_RAM_DISCARD u8 0, string8 block, u8 0, then up to 12 x {be64 start, be64 length}
    PACKAGED             be32 size; that many bytes of elements follow the command
    RECV_BITMAP          string8 block
    REQ_PAGES_ID         be64 start, be32 length, string8 block    (return path)
    REQ_PAGES            be64 start, be32 length; block of the last REQ_PAGES_ID
    RECV_BITMAP          string8 block; then, not counted in the message's length, be64 size, one bit per
                         page (1: received; little endian, padded to 8 bytes), be64 mark
    RESUME_ACK           be32 1

Who runs the guest when the network breaks at the switch: the source puts PING LOADED into the package. Its
answer says that the destination has loaded all state; only then the source gives its guest away for good,
and says so by PING COMMITTED. Our source announces this by PING WILL_COMMIT in the package, and our
destination then starts the guest when COMMITTED has come. Before that the source may run on, afterwards it
never does: there are never two guests. For an emulator that does not know these values they are pings.

In precopy as well: PING WILL_COMMIT before the devices, and when the destination has loaded all it sends PONG HOLDING
(nobody has asked for it) and SHUT 0, and waits with the guest. The source, which may run on until it has read
SHUT, answers it by PING COMMITTED behind the end of its stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.migration.machine_protocol import MigratableBlock
from e2kemu.wire import BytesReader, Reader, Writer

PING_DISCARDED = 2
"""PING before the package."""

PING_PACKAGE = 3
"""PING in the package, behind the devices."""

PING_PUSHING = 4
"""PING behind the package."""

PING_WILL_COMMIT = 0x43
"""PING in the package, or before the devices of a precopy: PING_COMMITTED will come."""

PING_LOADED = 0x42
"""PING in the package whose answer says that all of it was loaded."""

PING_COMMITTED = 0x44
"""The source will never run its guest again."""

PING_CAUGHT_UP = 0x46
"""PING before the guest of a precopy stops: the answer says that all before it was loaded."""

PONG_HOLDING = 0x45
"""The destination has all, and starts the guest when PING_COMMITTED comes, and only then."""

RANGES_PER_DISCARD = 12
BITMAP_END = 0x0123456789ABCDEF
RESUME_OK = (1).to_bytes(4, "big")
MAX_PACKAGE = 256 << 20
"""Bytes of device state that a destination reads into its memory."""

PageRange = tuple[int, int]
"""First page and number of pages."""


@dataclass(frozen=True)
class PageRequest:
    """The destination wants pages of a block."""

    block: str
    first: int
    count: int


def page_runs(index: npt.NDArray[np.intp]) -> Iterator[PageRange]:
    """Ascending page numbers as runs without a gap."""
    if not len(index):
        return
    for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
        yield int(run[0]), len(run)


def page_sizes(blocks: Sequence[MigratableBlock]) -> int:
    """OR of the page sizes of all blocks."""
    summary = 0
    for block in blocks:
        summary |= block.page_size
    return summary


def advise(blocks: Sequence[MigratableBlock]) -> bytes:
    """Payload of POSTCOPY_ADVISE."""
    return page_sizes(blocks).to_bytes(8, "big") + PAGE_SIZE.to_bytes(8, "big")


def check_advise(payload: bytes, blocks: Sequence[MigratableBlock], at: int) -> None:
    """Raises StreamError when the source's pages are not ours."""
    if len(payload) != 16:
        raise StreamError(f"CMD_POSTCOPY_ADVISE invalid length ({len(payload)})", offset=at)
    theirs, ours = int.from_bytes(payload[:8], "big"), page_sizes(blocks)
    if theirs != ours:
        raise StreamError(f"Postcopy needs matching RAM page sizes (s={theirs:x} d={ours:x})", offset=at)
    target = int.from_bytes(payload[8:], "big")
    if target != PAGE_SIZE:
        raise StreamError(f"Postcopy needs matching target page sizes (s={target} d={PAGE_SIZE})", offset=at)


def discards(block: str, ranges: Iterable[PageRange]) -> Iterator[bytes]:
    """Payloads of as many POSTCOPY_RAM_DISCARD commands as ``ranges`` need."""
    todo = list(ranges)
    for at in range(0, len(todo), RANGES_PER_DISCARD):
        w = Writer()
        w.be8(0)
        w.string8(block)
        w.be8(0)
        for first, count in todo[at : at + RANGES_PER_DISCARD]:
            w.be64(first << PAGE_BITS)
            w.be64(count << PAGE_BITS)
        yield w.getvalue()


def parse_discard(payload: bytes, sizes: Mapping[str, int], at: int) -> tuple[str, list[PageRange]]:
    """Block and ranges of a POSTCOPY_RAM_DISCARD; ``sizes``: pages of the blocks. Raises StreamError."""
    r = BytesReader(payload, at)
    version = r.be8()
    if version != 0:
        raise StreamError(f"CMD_POSTCOPY_RAM_DISCARD invalid version ({version})", offset=at)
    block = r.string8()
    if r.be8() != 0:
        raise StreamError("CMD_POSTCOPY_RAM_DISCARD missing nil", offset=at)
    left = at + len(payload) - r.position
    if block not in sizes:
        raise StreamError(f"CMD_POSTCOPY_RAM_DISCARD: no RAM block {block!r}", offset=at)
    if left % 16:
        raise StreamError(f"CMD_POSTCOPY_RAM_DISCARD invalid length ({len(payload)})", offset=at)
    return block, [checked_range(r.be64(), r.be64(), block, sizes[block], at) for _ in range(left // 16)]


def checked_range(start: int, length: int, block: str, pages: int, at: int) -> PageRange:
    """``start`` and ``length`` in bytes as pages of a block of ``pages``. Raises StreamError."""
    if (start | length) & (PAGE_SIZE - 1) or not length or start + length > pages << PAGE_BITS:
        raise StreamError(f"pages {start:#x}+{length:#x} are not in block '{block}'", offset=at)
    return start >> PAGE_BITS, length >> PAGE_BITS


def request_payload(request: PageRequest, *, named: bool) -> bytes:
    """Payload of REQ_PAGES_ID (``named``) or REQ_PAGES."""
    w = Writer()
    w.be64(request.first << PAGE_BITS)
    w.be32(request.count << PAGE_BITS)
    if named:
        w.string8(request.block)
    return w.getvalue()


def block_name(block: str) -> bytes:
    """Payload of RECV_BITMAP, in both directions."""
    w = Writer()
    w.string8(block)
    return w.getvalue()


def parse_block_name(payload: bytes, sizes: Mapping[str, int], at: int) -> str:
    """The block that a RECV_BITMAP names. Raises StreamError."""
    if not payload or len(payload) != 1 + payload[0]:
        raise StreamError(f"RECV_BITMAP of {len(payload)} bytes", offset=at)
    block = payload[1:].decode("utf-8", "backslashreplace")
    if block not in sizes:
        raise StreamError(f"RECV_BITMAP: no RAM block {block!r}", offset=at)
    return block


def bitmap_bytes(pages: int) -> int:
    """Bytes of the bitmap of so many pages."""
    return (pages + 63) // 64 * 8


def received_bitmap(present: npt.NDArray[np.uint8]) -> bytes:
    """What follows the RECV_BITMAP message: size, bits, mark."""
    bits = np.packbits(present, bitorder="little").tobytes()
    size = bitmap_bytes(len(present))
    return size.to_bytes(8, "big") + bits.ljust(size, b"\0") + BITMAP_END.to_bytes(8, "big")


def read_bitmap(r: Reader, block: str, pages: int) -> npt.NDArray[np.bool_]:
    """The flags of what was received, one per page. Raises StreamError."""
    at = r.position
    size = r.be64()
    if size != bitmap_bytes(pages):
        raise StreamError(f"RECV_BITMAP of '{block}' has {size} bytes instead of {bitmap_bytes(pages)}", offset=at)
    bits = np.frombuffer(r.read_exact(size), dtype=np.uint8)
    mark = r.be64()
    if mark != BITMAP_END:
        raise StreamError(f"RECV_BITMAP of '{block}' ends with {mark:#x}", offset=at)
    received: npt.NDArray[np.bool_] = np.unpackbits(bits, count=pages, bitorder="little").astype(np.bool_)
    return received
