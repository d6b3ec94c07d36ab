"""Runs of records whose pages come encoded, as the destination reads them: XBZRLE and compressed.

``xbzrle_run`` and ``packed_run`` look at what is buffered and take all records of the kind from its front that are
complete, have CONTINUE, and whose pages ascend: no page is twice among them, so their order does not matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.migration.compress import MAX_COMPRESSED, PackedPage
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram import FLAGS_MASK, Flag
from e2kemu.migration.xbzrle import ENCODING, RECORD_HEAD, DecodeError, decode_pages

XBZRLE_AGAIN = int(Flag.XBZRLE | Flag.CONTINUE)
PACKED_AGAIN = int(Flag.COMPRESS_PAGE | Flag.CONTINUE)
XBZRLE_HEAD = struct.Struct(">QBH")
PACKED_HEAD = struct.Struct(">QI")

RUN_LIMIT = 4096
"""Records of one run: bounds what is kept of it."""


@dataclass
class XbzrleRun:
    """Records at the front of ``data``: pages, where their code begins and ends."""

    data: npt.NDArray[np.uint8]
    at: int
    """Stream offset of the first record."""
    pages: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the records."""
        return self.ends[-1] if self.ends else 0

    def apply(self, memory: npt.NDArray[np.uint8]) -> None:
        """Change the pages of ``memory``, which holds all of them. Raises StreamError before anything changes."""
        try:
            bases = np.array(self.pages, dtype=np.int64) << PAGE_BITS
            decode_pages(self.data, self.starts, self.ends, bases, memory)
        except DecodeError as error:
            raise StreamError(error.message, offset=self.at + self.starts[error.page] - RECORD_HEAD) from error


def check_xbzrle(encoding: int, length: int, at: int) -> None:
    """Raises StreamError when a record at ``at`` cannot begin like this."""
    if encoding != ENCODING:
        raise StreamError(f"Failed to load XBZRLE page - wrong compression {encoding:#x}", offset=at)
    if length > PAGE_SIZE:
        raise StreamError(f"Failed to load XBZRLE page - len overflow ({length} bytes)", offset=at)


def check_packed(length: int, at: int) -> None:
    """Raises StreamError when no compressed page has this length."""
    if not 0 < length <= MAX_COMPRESSED:
        raise StreamError(f"Invalid compressed data length: {length}", offset=at)


def xbzrle_run(r: StreamReader) -> XbzrleRun:
    """The XBZRLE records at the front of the buffer; at least one (waits for it) if one is there at all."""
    if r.want(RECORD_HEAD):
        _, encoding, length = XBZRLE_HEAD.unpack_from(r.buffered())
        check_xbzrle(encoding, length, r.position)
        r.want(RECORD_HEAD + length)
    buffer = r.buffered()
    run = XbzrleRun(np.frombuffer(buffer, dtype=np.uint8), r.position)
    at, end, last = 0, len(buffer), -1
    unpack = XBZRLE_HEAD.unpack_from
    while at + RECORD_HEAD <= end and len(run.pages) < RUN_LIMIT:
        head, encoding, length = unpack(buffer, at)
        page = head >> PAGE_BITS
        if head & FLAGS_MASK != XBZRLE_AGAIN or page <= last:
            break
        check_xbzrle(encoding, length, run.at + at)
        start = at + RECORD_HEAD
        at = start + length
        if at > end:
            break
        run.pages.append(page)
        run.starts.append(start)
        run.ends.append(at)
        last = page
    return run


def packed_run(r: StreamReader) -> tuple[list[PackedPage], int]:
    """The compressed pages at the front of the buffer, and the bytes of their records."""
    if r.want(PACKED_HEAD.size):
        _, length = PACKED_HEAD.unpack_from(r.buffered())
        check_packed(length, r.position)
        r.want(PACKED_HEAD.size + length)
    buffer = r.buffered()
    packed: list[PackedPage] = []
    size, end, last, base = 0, len(buffer), -1, r.position
    while size + PACKED_HEAD.size <= end and len(packed) < RUN_LIMIT:
        head, length = PACKED_HEAD.unpack_from(buffer, size)
        page = head >> PAGE_BITS
        if head & FLAGS_MASK != PACKED_AGAIN or page <= last:
            break
        check_packed(length, base + size)
        start = size + PACKED_HEAD.size
        if start + length > end:
            break
        packed.append(PackedPage(page, bytes(buffer[start : start + length]), base + size))
        size, last = start + length, page
    return packed, size
