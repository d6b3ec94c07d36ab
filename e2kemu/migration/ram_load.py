"""The "ram" section, version 4, as the destination reads it (the format is described in ``ram.py``).

Records come one after the other, thousands of the same shape: with the reader's buffer seen as an array of
records, the run of alike ones at its front is found and scattered into guest RAM at once. What does not
begin such a run is read record by record.

Everything is checked before a byte of RAM changes: the block, the flags, that the page lies in the block. A
page that is to become zero and is zero already is not touched, so memory the guest never used costs nothing
here either.

After the source has advised a postcopy it is noted which pages have come (``track``); when the guest runs and
pages are still missing (``place_in``), only those are stored, and who waits for them is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.memory.received import Arrivals
from e2kemu.migration.compress import PackedPage, Unpacker
from e2kemu.migration.hooks import RamHooks
from e2kemu.migration.machine_protocol import MigratableBlock
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram import FLAGS_MASK, PAGE_RECORD, ZERO_RECORD, Flag, is_run, pages_of, zero_pages
from e2kemu.migration.ram_coded import XbzrleRun, check_packed, check_xbzrle, packed_run, xbzrle_run
from e2kemu.migration.registry import RAM_IDSTR
from e2kemu.migration.stream import shown

SPREAD = 16
"""Zero pages are looked up in the kernel's table when it has at most so many entries for each of them."""

NEEDS = {
    Flag.MULTIFD_FLUSH: "multifd",
    Flag.HOOK: "rdma",
}
"""Record types that exist but that only a capability makes appear, which we do not have."""

CODED = (Flag.XBZRLE, Flag.COMPRESS_PAGE)
"""Records of encoded pages (``ram_coded.py``). The source decides whether they come."""


class RamLoader:
    """The destination's side of the section for one migration."""

    def __init__(self, blocks: Sequence[MigratableBlock], decompress_threads: int = 2) -> None:
        self._blocks = {block.idstr: block for block in blocks}
        self._block: MigratableBlock | None = None
        self._pages = np.empty((0, PAGE_SIZE), dtype=np.uint8)
        self._listed = False
        self.hooks: RamHooks | None = None
        """The transport's part in the section."""
        self._unpacker = Unpacker(decompress_threads)
        self._packed_to = -1  # the last page that may still be in work there
        self.received: dict[str, npt.NDArray[np.uint8]] = {}
        """Since ``track``: one byte per page of each block, 1 when its content has come."""
        self._arrivals: Arrivals | None = None

    def track(self) -> None:
        """Note from now on which pages have come."""
        self.received = {
            name: np.zeros(block.size >> PAGE_BITS, dtype=np.uint8) for name, block in self._blocks.items()
        }

    def discard(self, name: str, first: int, count: int) -> None:
        """What came for these pages is out of date."""
        self.received[name][first : first + count] = 0
        self._blocks[name].release(first << PAGE_BITS, count << PAGE_BITS)

    def place_in(self, arrivals: Arrivals) -> None:
        """The guest is about to run: a page is stored once, when it is missing."""
        self._arrivals = arrivals

    def forget_block(self) -> None:
        """A new connection: its first record names its block."""
        self._block = None

    def load(self, r: StreamReader) -> None:
        """One section body, up to and with its EOS record. Raises StreamError."""
        while True:
            if self._block is not None and self._load_run(r):
                continue
            at = r.position
            head = r.be64()
            flags, address = head & FLAGS_MASK, head & ~FLAGS_MASK
            kind = flags & ~Flag.CONTINUE
            self._settle()
            if kind == Flag.EOS:
                if head != Flag.EOS:
                    raise self._error(f"end-of-section record with address {address:#x}", at)
                return
            if kind == Flag.HOOK and self.hooks is not None:
                self.hooks.load(r, address)
            elif kind == Flag.MEM_SIZE:
                self._load_block_list(r, address, at)
            elif kind in CODED and not self._guest_runs:
                self._choose_block(r, continued=bool(flags & Flag.CONTINUE), at=at)
                self._load_coded(r, kind, address, at)
            elif kind in (Flag.PAGE, Flag.ZERO):
                self._choose_block(r, continued=bool(flags & Flag.CONTINUE), at=at)
                self._load_one(r, kind, address, at)
            elif kind in NEEDS:
                raise self._error(
                    f"RAM record with flags {flags:#x} needs capability {NEEDS[Flag(kind)]}, which is off", at
                )
            else:
                raise self._error(f"Unknown combination of migration flags: {flags:#x}", at)

    def finish(self) -> None:
        """All is loaded: tell whoever caches guest memory."""
        self._unpacker.close()
        for block in self._blocks.values():
            block.changed(0, block.size)

    # -- records one by one

    def _load_block_list(self, r: StreamReader, total: int, at: int) -> None:
        if self._listed:
            raise self._error("second list of RAM blocks", at)
        left = total
        seen: set[str] = set()
        while left:
            here = r.position
            name = r.string8()
            size = r.be64()
            block = self._blocks.get(name)
            name = shown(name)
            if block is None:
                raise self._error(f'Unknown ramblock "{name}", cannot accept migration', here)
            if name in seen:
                raise self._error(f'RAM block "{name}" listed twice', here)
            if size != block.size:
                raise self._error(f"Size mismatch: {name}: {size:#x} != {block.size:#x}", here)
            if size > left:
                raise self._error(f"RAM blocks sum up to more than the total of {total:#x}", here)
            seen.add(name)
            left -= size
            if self.hooks is not None:
                self.hooks.block_listed(name)
        self._listed = True

    def _choose_block(self, r: StreamReader, *, continued: bool, at: int) -> None:
        if continued:
            if self._block is None:
                raise self._error("Ack, bad migration stream: CONTINUE without a block before it", at)
            return
        name = r.string8()
        block = self._blocks.get(name)
        if block is None:
            raise self._error(f"Can't find block {shown(name)}", at)
        self._block, self._pages = block, pages_of(block)

    def _load_one(self, r: StreamReader, kind: int, address: int, at: int) -> None:
        page = address >> PAGE_BITS
        self._check_range(np.array([page], dtype=np.uint64), at, 0)
        if kind == Flag.PAGE:
            data = np.frombuffer(r.read_exact(PAGE_SIZE), dtype=np.uint8).reshape(1, PAGE_SIZE)
            self._store(np.array([page], dtype=np.int64), data)
            return
        fill = r.be8()
        if fill:
            raise self._error(f"zero page filled with {fill:#x} instead of 0", at)
        self._store(np.array([page], dtype=np.int64), None)

    # -- runs

    def _load_run(self, r: StreamReader) -> bool:
        """Load the run of CONTINUE records of one kind that is buffered; False: there is none."""
        if not r.want(8):
            return False
        head = r.buffered()[:8]
        kind = int.from_bytes(head[6:8], "big") & FLAGS_MASK
        if kind == Flag.COMPRESS_PAGE | Flag.CONTINUE and not self._guest_runs:
            return self._load_packed_run(r)
        self._settle()
        if kind == Flag.XBZRLE | Flag.CONTINUE and not self._guest_runs:
            return self._load_xbzrle_run(r)
        if kind == Flag.PAGE | Flag.CONTINUE:
            return r.want(PAGE_RECORD) and self._load_full_run(r)
        if kind == Flag.ZERO | Flag.CONTINUE:
            return r.want(ZERO_RECORD) and self._load_zero_run(r)
        return False

    def _load_full_run(self, r: StreamReader) -> bool:
        records, index = self._run(r, PAGE_RECORD, Flag.PAGE | Flag.CONTINUE)
        self._store(index, records[:, 8:])
        r.consume(records.size)
        return True

    def _load_zero_run(self, r: StreamReader) -> bool:
        records, index = self._run(r, ZERO_RECORD, Flag.ZERO | Flag.CONTINUE)
        wrong = np.flatnonzero(records[:, 8])
        if len(wrong):
            place = r.position + int(wrong[0]) * ZERO_RECORD
            raise self._error(f"zero page filled with {records[wrong[0], 8]:#x} instead of 0", place)
        self._store(index, None)
        r.consume(records.size)
        return True

    # -- encoded pages

    @property
    def _guest_runs(self) -> bool:
        """Postcopy: a page comes once, and whole."""
        return self._arrivals is not None

    def _load_coded(self, r: StreamReader, kind: int, address: int, at: int) -> None:
        """One record whose header word and block's name were read."""
        page = address >> PAGE_BITS
        self._check_range(np.array([page], dtype=np.uint64), at, 0)
        try:
            if kind == Flag.COMPRESS_PAGE:
                length = r.be32()
                check_packed(length, at)
                self._unpack([PackedPage(page, r.read_exact(length), at)])
                return
            encoding, length = r.be8(), r.be16()
            check_xbzrle(encoding, length, at)
            data = np.frombuffer(r.read_exact(length), dtype=np.uint8)
            XbzrleRun(data, at, [page], [0], [length]).apply(self._pages.reshape(-1))
        except StreamError as error:
            raise self._error(error.message, at) from error

    def _load_xbzrle_run(self, r: StreamReader) -> bool:
        try:
            run = xbzrle_run(r)
            if run.pages:
                self._check_range(np.array(run.pages, dtype=np.uint64), run.at, 0)
                run.apply(self._pages.reshape(-1))
                r.consume(run.size)
        except StreamError as error:
            raise self._placed(error) from error
        return bool(run.pages)

    def _load_packed_run(self, r: StreamReader) -> bool:
        try:
            packed, size = packed_run(r)
        except StreamError as error:
            raise self._placed(error) from error
        if packed:
            self._check_range(np.array([one.page for one in packed], dtype=np.uint64), packed[0].at, 0)
            r.consume(size)
            self._unpack(packed)
        return bool(packed)

    def _unpack(self, packed: Sequence[PackedPage]) -> None:
        """Give pages of the current block, ascending, to the threads."""
        if packed[0].page <= self._packed_to:
            self._settle()
        self._packed_to = packed[-1].page
        try:
            self._unpacker.unpack(packed, self._store)
        except StreamError as error:
            raise self._placed(error) from error

    def _settle(self) -> None:
        """Wait for the threads: what comes next may be about the same pages, or of another block."""
        if self._packed_to < 0:
            return
        self._packed_to = -1
        try:
            self._unpacker.flush()
        except StreamError as error:
            raise self._placed(error) from error

    def _placed(self, error: StreamError) -> StreamError:
        """``error``, with the section; nothing more is inflated."""
        self._unpacker.close()
        return StreamError(error.message, section=RAM_IDSTR, offset=error.offset)

    # -- runs of whole and zero pages

    def _run(
        self, r: StreamReader, size: int, flags: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The records of ``size`` bytes at the front of the buffer that have ``flags``, and their pages."""
        data = r.buffered()
        count = len(data) // size
        records = np.frombuffer(data, dtype=np.uint8, count=count * size).reshape(count, size)
        heads = records[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
        other = np.flatnonzero((heads & np.uint64(FLAGS_MASK)) != flags)
        if len(other):
            count = int(other[0])
            records, heads = records[:count], heads[:count]
        pages = heads >> np.uint64(PAGE_BITS)
        self._check_range(pages, r.position, size)
        return records, pages.astype(np.int64)

    # -- storing

    def _store(self, index: npt.NDArray[np.int64], data: npt.NDArray[np.uint8] | None) -> None:
        """Pages ``index`` of the current block become ``data``, None: zero."""
        assert self._block is not None
        if self._arrivals is None:
            self._write(index, data)
            if self.received:
                self.received[self._block.idstr][index] = 1
            return

        def store(fresh: npt.NDArray[np.bool_]) -> None:
            if fresh.all():
                self._write(index, data)
            elif fresh.any():
                self._write(index[fresh], None if data is None else data[fresh])

        self._arrivals.blocks[self._block.idstr].place(index, store)

    def _write(self, index: npt.NDArray[np.int64], data: npt.NDArray[np.uint8] | None) -> None:
        if data is None:
            self._clear(index)
        elif _ascending_run(index):
            self._pages[index[0] : index[-1] + 1] = data
        else:
            self._pages[index] = data

    def _clear(self, index: npt.NDArray[np.int64]) -> None:
        assert self._block is not None
        first, last = int(index.min()), int(index.max())
        if last - first < SPREAD * len(index):
            index = index[~self._block.untouched(first, last + 1 - first)[index - first]]
            if not len(index):
                return
        pages = self._pages[index[0] : index[-1] + 1] if _ascending_run(index) else self._pages[index]
        used = index[~zero_pages(pages)]
        if len(used):
            self._pages[used] = 0

    # -- errors

    def _check_range(self, pages: npt.NDArray[np.uint64], at: int, step: int) -> None:
        wrong = np.flatnonzero(pages >= len(self._pages))
        if len(wrong):
            first = int(wrong[0])
            name = self._block.idstr if self._block else ""
            raise self._error(
                f"Illegal RAM offset {int(pages[first]) << PAGE_BITS:#x} in block {name}", at + first * step
            )

    def _error(self, text: str, at: int) -> StreamError:
        return StreamError(text, section=RAM_IDSTR, offset=at)


def _ascending_run(index: npt.NDArray[np.int64]) -> bool:
    """The pages follow each other upwards without a gap."""
    return is_run(index) and (len(index) == 1 or bool((np.diff(index) == 1).all()))
