"""Walking the records of a "ram" section, one by one, without a machine.

Written from the description of the format, apart from the code that sends and loads it: what that code writes
is checked with this. Every record type of the format is known, also those that e2kemu does not send: XBZRLE
and compressed pages are decoded, the mapped-ram file layout is followed.

Flags (low bits of a record's first word): 002 ZERO, 004 MEM_SIZE, 008 PAGE, 010 EOS, 020 CONTINUE,
040 XBZRLE, 080 HOOK, 100 COMPRESS_PAGE, 200 MULTIFD_FLUSH.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader

PAGE = 4096
ZERO, MEM_SIZE, FULL, EOS, CONTINUE, XBZRLE, HOOK, COMPRESSED, FLUSH = (2 << n for n in range(9))

NAMES = {
    ZERO: "ZERO",
    MEM_SIZE: "MEM_SIZE",
    FULL: "PAGE",
    EOS: "EOS",
    XBZRLE: "XBZRLE",
    HOOK: "HOOK",
    COMPRESSED: "COMPRESS_PAGE",
    FLUSH: "MULTIFD_FLUSH",
}

MEMORY_LIMIT = 64 << 30
"""Bytes of a block whose contents can be asked for."""


@dataclass(frozen=True)
class RamRecord:
    """One record: where it lies, what it is, the page it is about, the size of its payload."""

    start: int
    kind: str
    block: str
    address: int
    payload: int


@dataclass
class RamBody:
    """One section body, summed up."""

    counts: Counter[str] = field(default_factory=Counter)
    """Records by kind."""
    blocks: dict[str, int] = field(default_factory=dict)
    """Block list of a START section: name -> bytes."""
    pages_by_block: Counter[str] = field(default_factory=Counter)
    records: list[RamRecord] = field(default_factory=list)
    """All records, if they were asked for."""


class RamWalker:
    """Remembers, over the sections of one stream, the blocks and the last block.

    ``details`` keeps every record; ``memory`` is filled with the contents of RAM as a destination would have
    it (block name -> bytes).
    """

    def __init__(
        self, *, details: bool = False, memory: dict[str, bytearray] | None = None, base: int = 0
    ) -> None:
        self.blocks: dict[str, int] = {}
        self.resumed = False
        """The stream of a recovered postcopy: no list says which blocks there are."""
        self.ignore_shared = False
        self.mapped = False
        self._details = details
        self._memory = memory
        self._base = base  # offset of the stream in its file: mapped-ram offsets count from there
        self._block = ""
        self._payloads: dict[int, Callable[[BytesReader, int], bytes | None]] = {
            ZERO: self._zero,
            FULL: lambda r, address: r.raw(PAGE),
            XBZRLE: self._xbzrle,
            COMPRESSED: self._compressed,
        }

    def walk(self, r: BytesReader) -> RamBody:
        """One section body up to its EOS record. Raises StreamError."""
        body = RamBody()
        while True:
            start = r.position
            head = r.be64()
            address, flags = head & ~(PAGE - 1), head & (PAGE - 1)
            kind = flags & ~CONTINUE
            if kind not in NAMES:
                raise StreamError(f"RAM record with unknown flags {flags:#x}", section="ram", offset=start)
            content: bytes | None = None
            if kind == MEM_SIZE:
                self._block_list(r, address, body)
            elif kind in self._payloads:
                if not flags & CONTINUE:
                    self._block = r.string8()
                if self.resumed:
                    self.blocks[self._block] = max(self.blocks.get(self._block, 0), address + PAGE)
                if self._block not in self.blocks:
                    raise StreamError(f"page of unknown block {self._block!r}", section="ram", offset=start)
                if address >= self.blocks[self._block]:
                    raise StreamError(
                        f"page {address:#x} lies outside of block {self._block!r}",
                        section="ram",
                        offset=start,
                    )
                content = self._payloads[kind](r, address)
                body.pages_by_block[self._block] += 1
            body.counts[NAMES[kind]] += 1
            if self._details:
                paged = kind in self._payloads
                body.records.append(
                    RamRecord(
                        start,
                        NAMES[kind],
                        self._block if paged else "",
                        address,
                        r.position - start - 8,
                    )
                )
            if self._memory is not None and content is not None:
                self._memory[self._block][address : address + PAGE] = content
            if kind == EOS:
                return body

    # -- the payloads of pages: the page's new content

    def _zero(self, r: BytesReader, address: int) -> bytes:
        at = r.position
        if r.be8():
            raise StreamError("zero page that is not zero", section="ram", offset=at)
        return bytes(PAGE)

    def _compressed(self, r: BytesReader, address: int) -> bytes:
        at = r.position
        length = r.be32()
        if length > 2 * PAGE:
            raise StreamError(f"compressed page of {length} bytes", section="ram", offset=at)
        data = r.raw(length)
        try:
            page = zlib.decompress(data)
        except zlib.error as error:
            raise StreamError(f"compressed page: {error}", section="ram", offset=at) from error
        if len(page) != PAGE:
            raise StreamError(f"compressed page holds {len(page)} bytes", section="ram", offset=at)
        return page

    def _xbzrle(self, r: BytesReader, address: int) -> bytes | None:
        at = r.position
        encoding, length = r.be8(), r.be16()
        if encoding != 1 or length > PAGE:
            raise StreamError(f"XBZRLE encoding {encoding}, {length} bytes", section="ram", offset=at)
        data = r.raw(length)
        old = bytes(PAGE)
        if self._memory is not None:
            old = bytes(self._memory[self._block][address : address + PAGE])
        return decode_xbzrle(data, old, at)

    # -- the block list

    def _block_list(self, r: BytesReader, total: int, body: RamBody) -> None:
        left = total
        while left:
            at = r.position
            name, size = r.string8(), r.be64()
            if not 0 < size <= left:
                raise StreamError(f"block {name!r} of {size} bytes, {left} left", section="ram", offset=at)
            left -= size
            if self.ignore_shared:
                r.be64()
            self.blocks[name] = body.blocks[name] = size
            if self._memory is not None:
                if size > MEMORY_LIMIT:
                    raise StreamError(
                        f"block {name!r} of {size} bytes is too large to keep", section="ram", offset=at
                    )
                self._memory[name] = bytearray(size)
            if self.mapped:
                self._mapped_block(
                    r, name, size, body
                )  # header, bitmap and pages: the name of the next follows

    def _mapped_block(self, r: BytesReader, name: str, size: int, body: RamBody) -> None:
        at = r.position
        version, page_size = r.be32(), r.be64()
        bitmap_at, pages_at = r.be64() + self._base, r.be64() + self._base
        words = (size // PAGE + 63) // 64
        if version != 1 or page_size != PAGE or bitmap_at < r.position or pages_at < bitmap_at + 8 * words:
            raise StreamError("mapped-ram header makes no sense", section="ram", offset=at)
        r.skip(bitmap_at - r.position)
        bitmap = int.from_bytes(r.raw(8 * words), "little")
        r.skip(pages_at - r.position)
        pages = r.raw(size)
        present = bitmap.bit_count()
        body.counts["mapped PAGE"] += present
        body.pages_by_block[name] += present
        if self._memory is not None:
            for page in range(size // PAGE):
                if bitmap >> page & 1:
                    place = slice(page * PAGE, (page + 1) * PAGE)
                    self._memory[name][place] = pages[place]


def decode_xbzrle(data: bytes, old: bytes, offset: int) -> bytes:
    """The page that ``data`` makes of the page ``old``. Raises StreamError with ``offset``."""
    page, at, to, first = bytearray(old), 0, 0, True
    while at < len(data):
        zeros, at = _uleb128(data, at, offset)
        literal, at = _uleb128(data, at, offset)
        to += zeros
        if (not zeros and not first) or not literal or at + literal > len(data) or to + literal > PAGE:
            raise StreamError("XBZRLE run outside of its page", section="ram", offset=offset)
        page[to : to + literal] = data[at : at + literal]
        at, to, first = at + literal, to + literal, False
    return bytes(page)


def _uleb128(data: bytes, at: int, offset: int) -> tuple[int, int]:
    """A number of one or two bytes at ``data[at]``, and where it ends."""
    size = 2 if data[at : at + 1] >= b"\x80" else 1
    raw = data[at : at + size]
    if len(raw) < size or raw[-1] & 0x80:
        raise StreamError("XBZRLE run length is cut", section="ram", offset=offset)
    return (raw[0] & 0x7F | raw[1] << 7, at + 2) if size == 2 else (raw[0], at + 1)
