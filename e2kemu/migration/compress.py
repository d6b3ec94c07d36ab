"""Compressed pages, made and unpacked by threads of their own: zlib gives up the interpreter.

Record behind its header word (and the block's name): be32 length, then a complete zlib stream of one page.

``CompressionSender`` is a ``PageCoder`` (``ram.py``): it cuts a batch into pieces, one for each thread that is
free. When none is, it waits, or (compress-wait-thread off) sends the piece as it is. All that was begun is in the
stream when it returns, so a page is never overtaken by a later copy of itself, and no record comes after its
section or behind another block's.

``Unpacker`` inflates at the destination; what it was given is stored when ``flush`` returns.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from e2kemu.errors import StreamError
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.migration.counters import CompressionCounters
from e2kemu.migration.ram import BlockPages, Flag, PageSink

PIECE = 32
"""Pages a thread is given at once: enough that handing over does not matter, few enough for all to have work."""

WINDOW_BITS, MEMORY_LEVEL = 12, 5
"""A page needs no larger window, and a small state is set up faster; any zlib unpacks it."""

MAX_COMPRESSED = 2 * PAGE_SIZE
"""Bytes of a compressed page that are read at most; zlib's own bound is far below."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CompressionSettings:
    """What the user chose: ``threads`` is fixed for one migration, the others may change while it runs."""

    threads: int
    level: Callable[[], int]
    wait: Callable[[], bool]


@dataclass(frozen=True)
class _Piece:
    """What a thread made of its pages."""

    records: bytes
    count: int
    larger: list[int]
    """Pages (of the piece) that would only become larger: they go whole."""


def _compress(index: Ints, pages: Bytes, level: int) -> _Piece:
    parts: list[bytes] = []
    larger: list[int] = []
    for row, page in enumerate(index.tolist()):
        packer = zlib.compressobj(level, zlib.DEFLATED, WINDOW_BITS, MEMORY_LEVEL)
        data = packer.compress(pages[row].data) + packer.flush()
        if len(data) >= PAGE_SIZE - 4:
            larger.append(row)
            continue
        head = page << PAGE_BITS | int(Flag.COMPRESS_PAGE | Flag.CONTINUE)
        parts += (head.to_bytes(8, "big"), len(data).to_bytes(4, "big"), data)
    return _Piece(b"".join(parts), len(index) - len(larger), larger)


class CompressionSender:
    """The coder of one migration; ``close`` ends its threads."""

    def __init__(self, counters: CompressionCounters, settings: CompressionSettings) -> None:
        self._counters = counters
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="compress")

    def close(self) -> None:
        """No more work; threads end."""
        self._pool.shutdown(cancel_futures=True)

    def synced(self, generation: int, *, last: bool, period: bool) -> None:
        """See ``PageCoder``."""
        if period:
            self._counters.end_period()

    def fit(self, block: BlockPages, index: Ints) -> int:
        """Any number of pages."""
        return len(index)

    def zeroed(self, block: BlockPages, index: Ints) -> None:
        """Nothing is remembered."""

    def send(self, sink: PageSink, block: BlockPages, index: Ints, pages: Bytes) -> None:
        """Send the pages compressed, or whole where that is shorter or no thread is free."""
        settings, level = self._settings, self._settings.level()
        at_work: dict[Future[_Piece], slice] = {}
        try:
            for at in range(0, len(index), PIECE):
                piece = slice(at, at + PIECE)
                self._collect(sink, index, pages, at_work, settings.threads)
                if len(at_work) == settings.threads:
                    if not settings.wait():
                        self._counters.busy += len(index[piece])
                        sink.whole(index[piece], pages[piece])
                        continue
                    wait(at_work, return_when=FIRST_COMPLETED)
                    self._collect(sink, index, pages, at_work, settings.threads)
                at_work[self._pool.submit(_compress, index[piece], pages[piece], level)] = piece
            wait(at_work)
            self._collect(sink, index, pages, at_work, 0)
        finally:
            wait(at_work)  # the pages must not be used by anybody once this returns

    def _collect(
        self, sink: PageSink, index: Ints, pages: Bytes, at_work: dict[Future[_Piece], slice], enough: int
    ) -> None:
        """Send what the threads have finished; nothing while fewer than ``enough`` are at work."""
        if len(at_work) < enough:
            return
        for future in [future for future in at_work if future.done()]:
            where = at_work.pop(future)
            made = future.result()
            self._counters.pages += made.count
            self._counters.compressed_size += len(made.records) - 8 * made.count
            if made.records:
                sink.coded(memoryview(made.records))
            if made.larger:
                sink.whole(index[where][made.larger], pages[where][made.larger])


@dataclass(frozen=True)
class PackedPage:
    """One record: its page in the block, its data, and where in the stream the record stands."""

    page: int
    data: bytes
    at: int


class Unpacker:
    """Inflates pages into the pages of a block with ``threads`` threads, which start when there is work."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._at_work: deque[Future[None]] = deque()

    def unpack(self, packed: Sequence[PackedPage], store: Callable[[Ints, Bytes], None]) -> None:
        """Begin to inflate pages, no two of them the same; ``store`` is called in the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decompress")
        for at in range(0, len(packed), PIECE):
            while len(self._at_work) > 2 * self._threads:  # bounds what is held
                self._at_work.popleft().result()
            self._at_work.append(self._pool.submit(_unpack, packed[at : at + PIECE], store))

    def flush(self) -> None:
        """Wait until all is stored. Raises StreamError with the first page that makes no sense."""
        while self._at_work:
            self._at_work.popleft().result()

    def close(self) -> None:
        """Threads end; what they had not begun is forgotten."""
        self._at_work.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _unpack(packed: Sequence[PackedPage], store: Callable[[Ints, Bytes], None]) -> None:
    pages = np.empty((len(packed), PAGE_SIZE), dtype=np.uint8)
    for row, record in enumerate(packed):
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(record.data, PAGE_SIZE + 1)
        except zlib.error as error:
            raise StreamError(f"compressed page: {error}", offset=record.at) from error
        if len(data) != PAGE_SIZE or not inflater.eof or inflater.unused_data:
            found = "more than a page" if len(data) > PAGE_SIZE else f"{len(data)} bytes"
            raise StreamError(f"compressed page holds {found} or does not end as it should", offset=record.at)
        pages[row] = np.frombuffer(data, dtype=np.uint8)
    store(np.array([record.page for record in packed], dtype=np.int64), pages)
