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

In postcopy nothing gets dirty any more: the flags say what the destination does not have. It may ask for pages
(``save_requested``); the round robin goes on behind them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from e2kemu.migration.machine_protocol import MigratableBlock, MigratableMachine
from e2kemu.migration.qemufile import StreamWriter
from e2kemu.migration.statistics import RamCounters

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
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

BATCH_PAGES = 2048
"""Pages that are built and written at once (8 MiB): long enough that waiting for the interpreter between
batches, up to 5 ms while a guest computes, does not matter."""

SCAN_PAGES = 1 << 16
"""Pages of the dirty map that are searched at once."""

Pages = npt.NDArray[np.uint8]


def pages_of(block: MigratableBlock) -> Pages:
    """The block as an array of pages."""
    return block.view.reshape(-1, PAGE_SIZE)


def zero_pages(pages: Pages) -> npt.NDArray[np.bool_]:
    """One flag per page: all its bytes are zero."""
    answer: npt.NDArray[np.bool_] = pages.view(np.uint64).max(axis=1) == 0
    return answer


def is_run(index: npt.NDArray[np.int64]) -> bool:
    """The ascending page numbers follow each other without a gap."""
    return int(index[-1]) - int(index[0]) + 1 == len(index)


class _BlockState:
    """One block and what is still to be sent of it."""

    def __init__(self, block: MigratableBlock) -> None:
        if block.page_size != PAGE_SIZE:
            raise ValueError(f"RAM block {block.idstr} has pages of {block.page_size} bytes")
        self.block = block
        self.pages = pages_of(block)
        self.dirty = np.ones(len(self.pages), dtype=np.bool_)
        self.pending = len(self.pages)


class RamSaver:
    """The source's side of the section for one migration."""

    def __init__(
        self,
        machine: MigratableMachine,
        counters: RamCounters,
        detect_zero: Callable[[], bool] = lambda: True,
    ) -> None:
        self._machine = machine
        self._blocks = [_BlockState(block) for block in machine.ram_blocks]
        self._counters = counters
        self._detect_zero = detect_zero
        self._at = (0, 0)  # block index, page: where the round robin goes on
        self._named: MigratableBlock | None = None  # block of the last record: CONTINUE refers to it
        self._store = np.empty((BATCH_PAGES, PAGE_RECORD), dtype=np.uint8)
        self._dirtied_since = 0
        self._rate_since = time.monotonic()
        self.guest_stopped = False
        self.postcopy = False
        """The guest has gone: what is sent now was left behind."""
        self.release = False
        """Give each page's memory back to the host once it is sent."""
        counters.total = sum(state.block.size for state in self._blocks)
        counters.remaining = counters.total

    # -- sections

    def save_setup(self, out: StreamWriter) -> None:
        """Body of START: the list of blocks."""
        out.be64(self._counters.total | Flag.MEM_SIZE)
        for state in self._blocks:
            out.string8(state.block.idstr)
            out.be64(state.block.size)
        out.be64(Flag.EOS)

    def save_pages(self, out: StreamWriter, limit: int) -> bool:
        """Records for about ``limit`` bytes of dirty pages, at least one; False: nothing is dirty.

        Zero pages hardly count against the limit, so there may be many of them.
        """
        index, state = self._next_batch(BATCH_PAGES)
        if state is None:
            return False
        pages = state.pages[index[0] : index[-1] + 1] if is_run(index) else state.pages[index]
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

    def resume(self, received: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """A new connection: what is not in ``received`` (all blocks) is to be sent, with a block's name first."""
        for state in self._blocks:
            state.dirty = ~received[state.block.idstr]
            state.pending = int(np.count_nonzero(state.dirty))
        self._counters.remaining = sum(state.pending for state in self._blocks) * PAGE_SIZE
        self._named = None

    def _state(self, block: str) -> _BlockState:
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

    def sync(self) -> None:
        """Add the pages written since the last time; measure the dirty rate when a second has passed."""
        with self._machine.quiesced():
            harvest = [state.block.harvest_dirty() for state in self._blocks]
        for state, fresh in zip(self._blocks, harvest, strict=True):
            self._dirtied_since += int(np.count_nonzero(fresh))
            np.logical_or(state.dirty, fresh, out=state.dirty)
            state.pending = int(np.count_nonzero(state.dirty))
        counters = self._counters
        counters.remaining = sum(state.pending for state in self._blocks) * PAGE_SIZE
        counters.dirty_sync_count += 1
        now = time.monotonic()
        if now - self._rate_since >= 1.0:
            counters.dirty_pages_rate = int(self._dirtied_since / (now - self._rate_since))
            self._rate_since, self._dirtied_since = now, 0

    # -- records

    def _next_batch(self, limit: int) -> tuple[npt.NDArray[np.int64], _BlockState | None]:
        """Up to ``limit`` dirty pages of one block from the current place on, round robin."""
        block_index, page = self._at
        for _ in range(len(self._blocks) + 1):  # the first block again: its beginning
            state = self._blocks[block_index]
            while state.pending and page < len(state.dirty):
                found = np.flatnonzero(state.dirty[page : page + SCAN_PAGES])[:limit]
                if len(found):
                    self._at = (block_index, page)
                    return found.astype(np.int64) + page, state
                page += SCAN_PAGES
            block_index, page = (block_index + 1) % len(self._blocks), 0
        return np.empty(0, dtype=np.int64), None

    def _take(
        self,
        out: StreamWriter,
        state: _BlockState,
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
        state: _BlockState,
        index: npt.NDArray[np.int64],
        pages: Pages,
        zero: npt.NDArray[np.bool_],
    ) -> None:
        before, total = out.position, len(index)
        zeros = int(np.count_nonzero(zero))
        if self._named is not state.block:
            # The first record of a block bears its name; afterwards all are alike.
            self._send_named(out, state.block, int(index[0]), pages[0], bool(zero[0]))
            index, pages, zero = index[1:], pages[1:], zero[1:]
        if zero.any():
            self._send_zero(out, index[zero])
        if not zero.all():
            some = zero.any()
            self._send_full(out, index[~zero] if some else index, pages[~zero] if some else pages)
        self._count(zeros, total, out.position - before)

    def _send_named(self, out: StreamWriter, block: MigratableBlock, page: int, data: Pages, zero: bool) -> None:
        out.be64(page << PAGE_BITS | (Flag.ZERO if zero else Flag.PAGE))
        out.string8(block.idstr)
        out.raw(b"\0" if zero else data.tobytes())
        self._named = block

    def _send_zero(self, out: StreamWriter, index: npt.NDArray[np.int64]) -> None:
        records = np.zeros((len(index), ZERO_RECORD), dtype=np.uint8)
        records[:, :8] = _heads(index, Flag.ZERO | Flag.CONTINUE)
        out.raw(records.tobytes())
        out.flush_if_full()

    def _send_full(self, out: StreamWriter, index: npt.NDArray[np.int64], pages: Pages) -> None:
        records = self._store[: len(index)]
        records[:, :8] = _heads(index, Flag.PAGE | Flag.CONTINUE)
        records[:, 8:] = pages
        out.write_through(records.reshape(-1).data)

    def _count(self, zeros: int, total: int, size: int) -> None:
        counters = self._counters
        counters.duplicate += zeros
        counters.normal += total - zeros
        if self.postcopy:
            counters.postcopy_bytes += size
        elif self.guest_stopped:
            counters.downtime_bytes += size
        else:
            counters.precopy_bytes += size


def _heads(index: npt.NDArray[np.int64], flags: int) -> Pages:
    """The first words of records, as an array of 8 bytes each."""
    words = ((index << PAGE_BITS) | flags).astype(">u8")
    return words.view(np.uint8).reshape(-1, 8)
