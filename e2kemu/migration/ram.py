"""The "ram" section, version 4, as the source writes it.

    START: be64 total | MEM_SIZE, then per block string8 idstr, be64 size; be64 EOS
    PART:  records, be64 EOS          one per call of the migration loop
    END:   records, be64 EOS          the guest stands still

A record is be64 (offset of the page in its block | flags), the block's name unless CONTINUE is set, and the
page: 4096 bytes (PAGE) or one zero byte (ZERO). The last block is remembered over section boundaries.

``RamSaver`` keeps one dirty flag per page, all set at the start; ``sync`` adds what the guest has written
since the last time. The machine's log is emptied *before* the pages in it are read, so a store that comes
later is in the next one: at worst a page is sent twice, never too seldom. Pages go out in batches built by
numpy: the guest's vCPU may be a Python thread, so what counts is how seldom this one needs the interpreter.

Pages that are not zero go whole or through a ``PageCoder``, which may send them in other records (XBZRLE,
compressed) or leave out what the destination has already: ``xbzrle_cache.py``, ``compress.py``.

In postcopy nothing gets dirty any more: the flags say what the destination does not have. It may ask for pages
(``save_requested``); the round robin goes on behind them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntFlag
from typing import Protocol

import numpy as np
import numpy.typing as npt

from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.migration.hooks import RamHooks, RamPhase, around_pages
from e2kemu.migration.machine_protocol import MigratableBlock, MigratableMachine
from e2kemu.migration.qemufile import FLUSH_AT, StreamWriter
from e2kemu.migration.statistics import RamCounters

FLAGS_MASK = PAGE_SIZE - 1


class Flag(IntFlag):
    """RAM_SAVE_FLAG_*: the low bits of a record's first word."""

    ZERO = 0x002
    MEM_SIZE = 0x004
    PAGE = 0x008
    EOS = 0x010
    CONTINUE = 0x020
    XBZRLE = 0x040
    HOOK = 0x080
    COMPRESS_PAGE = 0x100
    MULTIFD_FLUSH = 0x200


PAGE_RECORD = 8 + PAGE_SIZE
"""Bytes of a full page with CONTINUE."""

ZERO_RECORD = 9
"""Bytes of a zero page with CONTINUE."""

ZERO_RECORDS = np.dtype([("head", ">u8"), ("fill", "u1")])
"""The same as an item of an array."""

BATCH_PAGES = 2048
"""Pages that are built and written at once (8 MiB): long enough that waiting for the interpreter between
batches, up to 5 ms while a guest computes, does not matter."""

PIECE = 256
"""Pages of them that are copied and given to the channel at once: the copy (1 MiB) is in the processor's cache still
when the channel encrypts it or the kernel takes it."""

ZERO_BATCH = 1 << 14
"""Pages that may be sent as zero at once when nobody has touched them."""

SCAN_PAGES = 1 << 16
"""Pages of the dirty map that are searched at once."""

SCAN_FEW = 1 << 10
"""The same when only a few are wanted."""

Pages = npt.NDArray[np.uint8]

ZERO_PAGE: Pages = np.zeros((1, PAGE_SIZE), dtype=np.uint8)
"""Stands for any number of them."""


def pages_of(block: MigratableBlock) -> Pages:
    """The block as an array of pages."""
    return block.view.reshape(-1, PAGE_SIZE)


def zero_pages(pages: Pages) -> npt.NDArray[np.bool_]:
    """One flag per page: all its bytes are zero."""
    words = pages.view(np.uint64)
    # Hardly a page that is not zero passes this, which reads three of its 64 cache lines.
    answer: npt.NDArray[np.bool_] = words[:, 0] | words[:, 257] | words[:, -1] == 0
    maybe = np.flatnonzero(answer)
    if 2 * len(maybe) > len(words):
        answer &= words.max(axis=1) == 0
    elif len(maybe):
        answer[maybe] = words[maybe].max(axis=1) == 0
    return answer


def is_run(index: npt.NDArray[np.int64]) -> bool:
    """The ascending page numbers follow each other without a gap."""
    return int(index[-1]) - int(index[0]) + 1 == len(index)


class BlockPages:
    """One block and what is still to be sent of it. ``first`` pages are in the blocks before it."""

    def __init__(self, block: MigratableBlock, first: int) -> None:
        if block.page_size != PAGE_SIZE:
            raise ValueError(f"RAM block {block.idstr} has pages of {block.page_size} bytes")
        self.block = block
        self.first = first
        self.pages = pages_of(block)
        self.dirty = np.ones(len(self.pages), dtype=np.bool_)
        self.pending = len(self.pages)


class PageSink(Protocol):
    """Takes records for the stream; all pages are of the block in hand."""

    def whole(self, index: npt.NDArray[np.int64], pages: Pages) -> None:
        """Send full pages."""

    def coded(self, records: memoryview) -> None:
        """Send records of the coder's, each with CONTINUE. Not empty."""


class PageCoder(Protocol):
    """Another way to send pages than whole. Called by the migration thread only."""

    def synced(self, generation: int, *, last: bool, period: bool) -> None:
        """The dirty log was read for the ``generation``th time. ``last``: the guest stands still; ``period``: a
        second or more has passed since rates were computed."""

    def fit(self, block: BlockPages, index: npt.NDArray[np.int64]) -> int:
        """How many of the ascending pages, from the first on, ``send`` takes at once."""

    def zeroed(self, block: BlockPages, index: npt.NDArray[np.int64]) -> None:
        """These were sent as zero pages."""

    def send(self, sink: PageSink, block: BlockPages, index: npt.NDArray[np.int64], pages: Pages) -> None:
        """Send ``pages``, which are copies; all is in ``sink`` at the end."""


class _Emitter:
    """The PageSink of one batch; knows how the first record of a block looks."""

    def __init__(self, saver: RamSaver, out: StreamWriter, block: MigratableBlock) -> None:
        self._saver, self._out, self._block = saver, out, block
        self.full = 0
        """Pages sent whole."""

    def whole(self, index: npt.NDArray[np.int64], pages: Pages) -> None:
        self.full += len(index)
        self._saver.send_full(self._out, self._block, index, pages)

    def coded(self, records: memoryview) -> None:
        self._saver.send_coded(self._out, self._block, records)


class RamSaver:
    """The source's side of the section for one migration."""

    def __init__(
        self,
        machine: MigratableMachine,
        counters: RamCounters,
        detect_zero: Callable[[], bool] = lambda: True,
    ) -> None:
        self._machine = machine
        self._blocks: list[BlockPages] = []
        for block in machine.ram_blocks:
            self._blocks.append(BlockPages(block, sum(len(state.dirty) for state in self._blocks)))
        self.coders: tuple[PageCoder | None, PageCoder | None] = (None, None)
        """How pages are sent in the first round, and afterwards."""
        self._later = 0  # 1 after the first round
        self._counters = counters
        self._detect_zero = detect_zero
        self._at = (0, 0)  # block index, page: where the round robin goes on
        self._named: MigratableBlock | None = None  # block of the last record: CONTINUE refers to it
        self._store = np.empty((PIECE, PAGE_RECORD), dtype=np.uint8)
        self._dirtied_since = 0
        self._rate_since = time.monotonic()
        self.passed: Callable[[], None] = lambda: None
        """Called after each look at the dirty log."""
        self.guest_stopped = False
        self.postcopy = False
        """The guest has gone: what is sent now was left behind."""
        self.release = False
        """Give each page's memory back to the host once it is sent."""
        counters.total = sum(state.block.size for state in self._blocks)
        counters.remaining = counters.total

    # -- sections

    def save_setup(self, out: StreamWriter, hooks: RamHooks | None = None) -> None:
        """Body of START: the list of blocks. ``hooks`` may write records of their own before the end."""
        out.be64(self._counters.total | Flag.MEM_SIZE)
        for state in self._blocks:
            out.string8(state.block.idstr)
            out.be64(state.block.size)
        with around_pages(hooks, out, RamPhase.SETUP):
            pass
        out.be64(Flag.EOS)

    def save_pages(self, out: StreamWriter, limit: int) -> bool:
        """Records for about ``limit`` bytes of dirty pages, at least one; False: nothing is dirty.

        Zero pages hardly count against the limit, so there may be many of them.
        """
        index, state = self._next_batch(BATCH_PAGES)
        if state is None:
            return False
        if self._detect_zero() and self._untouched(state, index).all():
            index, state = self._next_batch(ZERO_BATCH)
            assert state is not None
            untouched = self._untouched(state, index)
            index = index[: len(index) if untouched.all() else int(np.argmin(untouched))]
            self._at = (self._at[0], int(index[-1]) + 1)
            self._take(out, state, index, ZERO_PAGE, untouched[: len(index)])
            return True
        coder = self._coder()
        if coder is not None:
            index = index[: coder.fit(state, index)]
        pages = state.pages[index[0] : index[-1] + 1] if is_run(index) else state.pages[index]
        if coder is not None and np.may_share_memory(pages, state.pages):
            pages = pages.copy()  # the guest may write meanwhile: what is encoded must be what is remembered
        zero = zero_pages(pages) if self._detect_zero() else np.zeros(len(index), dtype=np.bool_)
        allowed = max(1, limit // PAGE_RECORD)
        if allowed < BATCH_PAGES:
            end = int(np.searchsorted(np.cumsum(~zero), allowed, side="right"))
            index, pages, zero = index[:end], pages[:end], zero[:end]
        self._at = (self._at[0], int(index[-1]) + 1)
        self._take(out, state, index, pages, zero)
        return True

    # -- postcopy

    @property
    def block_pages(self) -> dict[str, int]:
        """Number of pages of each block."""
        return {state.block.idstr: len(state.dirty) for state in self._blocks}

    def dirty_index(self, block: str) -> npt.NDArray[np.intp]:
        """The pages of ``block`` that the destination does not have."""
        return np.flatnonzero(self._state(block).dirty)

    def save_requested(self, out: StreamWriter, block: str, first: int, count: int) -> bool:
        """Records of what is left of the ``count`` pages from ``first`` on; False: they have been sent."""
        state = self._state(block)
        index = np.flatnonzero(state.dirty[first : first + count]).astype(np.int64) + first
        self._at = (self._blocks.index(state), min(first + count, len(state.dirty)))
        for at in range(0, len(index), BATCH_PAGES):
            part = index[at : at + BATCH_PAGES]
            pages = state.pages[part]
            self._take(out, state, part, pages, zero_pages(pages))
        return len(index) > 0

    def save_next(self, out: StreamWriter, count: int) -> None:
        """Records of up to ``count`` pages, the next ones in line, as far as there are any."""
        index, state = self._next_batch(count, SCAN_FEW)
        if state is not None:
            pages = state.pages[index[0] : index[-1] + 1] if is_run(index) else state.pages[index]
            self._at = (self._at[0], int(index[-1]) + 1)
            self._take(out, state, index, pages, zero_pages(pages))

    def resume(self, received: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """A new connection: what is not in ``received`` (all blocks) is to be sent, with a block's name first."""
        for state in self._blocks:
            state.dirty = ~received[state.block.idstr]
            state.pending = int(np.count_nonzero(state.dirty))
        self._counters.remaining = sum(state.pending for state in self._blocks) * PAGE_SIZE
        self._named = None

    def _state(self, block: str) -> BlockPages:
        return next(state for state in self._blocks if state.block.idstr == block)

    # -- dirty log

    @property
    def remaining(self) -> int:
        """Bytes known to be dirty."""
        return self._counters.remaining

    def start_tracking(self) -> None:
        """Everything is dirty; the log begins anew, as the first sync."""
        with self._machine.quiesced():
            for state in self._blocks:
                state.block.harvest_dirty()
        self._rate_since = time.monotonic()
        self._counters.dirty_sync_count += 1
        self.passed()

    def sync(self) -> int:
        """Add the pages written since the last time; measure the dirty rate when a second has passed.

        Returns by how many bytes there is more to send now.
        """
        with self._machine.quiesced():
            harvest = [state.block.harvest_dirty() for state in self._blocks]
        for state, fresh in zip(self._blocks, harvest, strict=True):
            self._dirtied_since += int(np.count_nonzero(fresh))
            np.logical_or(state.dirty, fresh, out=state.dirty)
            state.pending = int(np.count_nonzero(state.dirty))
        counters, before = self._counters, self._counters.remaining
        counters.remaining = sum(state.pending for state in self._blocks) * PAGE_SIZE
        counters.dirty_sync_count += 1
        now = time.monotonic()
        period = now - self._rate_since >= 1.0
        for coder in set(self.coders):
            if coder is not None:
                coder.synced(counters.dirty_sync_count, last=self.guest_stopped, period=period)
        if period:
            counters.dirty_pages_rate = int(self._dirtied_since / (now - self._rate_since))
            self._rate_since, self._dirtied_since = now, 0
        self.passed()
        return counters.remaining - before

    # -- records

    def _next_batch(self, limit: int, scan: int = SCAN_PAGES) -> tuple[npt.NDArray[np.int64], BlockPages | None]:
        """Up to ``limit`` dirty pages of one block from the current place on, round robin."""
        block_index, page = self._at
        for _ in range(len(self._blocks) + 1):  # the first block again: its beginning
            state = self._blocks[block_index]
            while state.pending and page < len(state.dirty):
                found = np.flatnonzero(state.dirty[page : page + min(limit, scan)])
                if len(found) < limit:  # not all of them are dirty: look further
                    found = np.flatnonzero(state.dirty[page : page + scan])[:limit]
                if len(found):
                    self._at = (block_index, page)
                    return found.astype(np.int64) + page, state
                page += scan
            block_index, page = (block_index + 1) % len(self._blocks), 0
            if not block_index:
                self._later = 1
        return np.empty(0, dtype=np.int64), None

    @staticmethod
    def _untouched(state: BlockPages, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """One flag for each of the ascending pages: nobody has stored there yet."""
        first, last = int(index[0]), int(index[-1])
        return state.block.untouched(first, last + 1 - first)[index - first]

    def _take(
        self,
        out: StreamWriter,
        state: BlockPages,
        index: npt.NDArray[np.int64],
        pages: Pages,
        zero: npt.NDArray[np.bool_],
    ) -> None:
        """Send pages, which are clean then."""
        state.dirty[index] = False
        state.pending -= len(index)
        self._counters.remaining -= len(index) * PAGE_SIZE
        self._send(out, state, index, pages, zero)
        if self.postcopy and self.release:
            for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
                state.block.release(int(run[0]) << PAGE_BITS, len(run) << PAGE_BITS)

    def _send(
        self,
        out: StreamWriter,
        state: BlockPages,
        index: npt.NDArray[np.int64],
        pages: Pages,
        zero: npt.NDArray[np.bool_],
    ) -> None:
        before = out.position
        zeros, emitter, coder = int(np.count_nonzero(zero)), _Emitter(self, out, state.block), self._coder()
        if zeros:
            self._send_zero(out, state.block, index[zero])
            if coder is not None:
                coder.zeroed(state, index[zero])
        if zeros < len(index):
            if zeros:
                index, pages = index[~zero], pages[~zero]
            if coder is None:
                emitter.whole(index, pages)
            else:
                coder.send(emitter, state, index, pages)
        self._count(zeros, emitter.full, out.position - before)

    def _coder(self) -> PageCoder | None:
        return None if self.postcopy else self.coders[self._later]

    def _name(self, out: StreamWriter, block: MigratableBlock, head: int, payload: memoryview) -> None:
        """The first record of a block: it bears the name instead of CONTINUE; afterwards all are alike."""
        out.be64(head & ~int(Flag.CONTINUE))
        out.string8(block.idstr)
        out.write_through(payload)
        self._named = block

    def _send_zero(self, out: StreamWriter, block: MigratableBlock, index: npt.NDArray[np.int64]) -> None:
        if self._named is not block:
            self._name(out, block, int(index[0]) << PAGE_BITS | Flag.ZERO, memoryview(b"\0"))
            index = index[1:]
        records = np.zeros(len(index), dtype=ZERO_RECORDS)
        records["head"] = index << PAGE_BITS | (Flag.ZERO | Flag.CONTINUE)
        data = records.view(np.uint8).data
        if len(data) >= FLUSH_AT:
            out.write_through(data)
        else:
            out.raw(data)
            out.flush_if_full()

    def send_full(
        self, out: StreamWriter, block: MigratableBlock, index: npt.NDArray[np.int64], pages: Pages
    ) -> None:
        """Records of whole pages."""
        if self._named is not block:
            self._name(out, block, int(index[0]) << PAGE_BITS | Flag.PAGE, memoryview(pages[0].tobytes()))
            index, pages = index[1:], pages[1:]
        words = heads(index, Flag.PAGE | Flag.CONTINUE)
        for at in range(0, len(index), PIECE):
            records = self._store[: min(PIECE, len(index) - at)]
            records[:, :8] = words[at : at + PIECE]
            records[:, 8:] = pages[at : at + PIECE]
            out.write_through(records.reshape(-1).data)

    def send_coded(self, out: StreamWriter, block: MigratableBlock, records: memoryview) -> None:
        """Records that a coder made."""
        if self._named is not block:
            self._name(out, block, int.from_bytes(records[:8], "big"), records[8:])
        else:
            out.write_through(records)

    def _count(self, zeros: int, whole: int, size: int) -> None:
        counters = self._counters
        counters.duplicate += zeros
        counters.normal += whole
        if self.postcopy:
            counters.postcopy_bytes += size
        elif self.guest_stopped:
            counters.downtime_bytes += size
        else:
            counters.precopy_bytes += size


def heads(index: npt.NDArray[np.int64], flags: int) -> Pages:
    """The first words of records, as an array of 8 bytes each."""
    words = ((index << PAGE_BITS) | flags).astype(">u8")
    return words.view(np.uint8).reshape(-1, 8)
