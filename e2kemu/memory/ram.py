"""RAM blocks: the memory of the machine, and the unit that migration names.

A block is an anonymous private mapping (pages never touched cost no host memory), seen as a
memoryview for single accesses and as a numpy array for bulk work. Its ``idstr`` is its name in a
migration stream; the machine's blocks are listed in ``machine/boards.py``.

Who may do what: vCPU threads store through ``mem`` and set ``dirty`` themselves (their fast path);
everybody else uses ``write``, which marks the pages and tells the listeners, so that a CPU drops
code it has decoded from there. While a postcopy is under way pages may be missing: ``read`` and
``write`` wait for them, and who uses ``mem`` or ``view`` calls ``need`` first (``received.py``).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from e2kemu.memory import pagemap
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE, DirtyLog
from e2kemu.memory.received import BlockArrivals

ChangeListener = Callable[[int, int], None]
"""Called with (offset, size) of bytes that somebody other than a vCPU has changed."""


class RAMBlock:
    """``size`` bytes (a multiple of the page) of zeroed memory called ``idstr``.

    ``readonly`` is the guest's view: its stores are refused by the address space; the host's
    ``write`` works. Raises ValueError when the size is not a positive multiple of 4096, OSError when
    the host cannot reserve it.
    """

    page_size = PAGE_SIZE

    def __init__(self, idstr: str, size: int, *, readonly: bool = False) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"RAM block {idstr}: size {size:#x} is not a positive multiple of {PAGE_SIZE}")
        self.idstr = idstr
        self.size = size
        self.readonly = readonly
        # NORESERVE: like untouched pages, a block larger than the host's memory costs nothing by itself
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self._map = mmap.mmap(-1, size, flags=flags)
        self.mem = memoryview(self._map)
        """The bytes of the block, format "B"."""
        self.view: NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        """The same bytes as a numpy array."""
        self._address = self.view.ctypes.data
        self.log = DirtyLog(size // PAGE_SIZE)
        self.harvests = 0
        """Times the log was harvested: who skips marks because they are set looks whether they still are."""
        self.dirty: NDArray[np.uint8] = self.log.marks
        """One byte per page: 1 = written since the last harvest."""
        self.listeners: list[ChangeListener] = []
        self.arrivals: BlockArrivals | None = None
        """Which pages are here while some are missing; None: all are."""
        self.remapped: list[Callable[[], None]] = []
        """Called when ``arrivals`` appears or goes: whoever has a way of his own to the bytes looks again."""

    def __repr__(self) -> str:
        return f"<RAMBlock {self.idstr} {self.size:#x}>"

    @property
    def pages(self) -> int:
        """Number of pages."""
        return self.size // PAGE_SIZE

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset:#x} do not fit {self.idstr} ({self.size:#x} bytes)")

    def read(self, offset: int, size: int) -> bytes:
        """A copy of ``size`` bytes at ``offset``. Raises ValueError outside of the block."""
        self._check(offset, size)
        if self.arrivals is not None:
            self.arrivals.need(offset, size)
        return bytes(self.mem[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store ``data`` at ``offset``, mark its pages dirty, tell the listeners.

        This is the host's way in (devices, monitor, loader): it also writes read-only blocks.
        Raises ValueError outside of the block.
        """
        size = len(data)
        self._check(offset, size)
        if self.arrivals is not None:
            self.arrivals.need(offset, size)
        self.mem[offset : offset + size] = data
        self.log.mark(offset, size)
        self.changed(offset, size)

    def need(self, offset: int, size: int) -> None:
        """Return when these bytes are here; before an access through ``mem`` or ``view``.

        Raises StateError when they do not come (a vCPU waits for ever).
        """
        if self.arrivals is not None:
            self.arrivals.need(offset, size)

    def set_arrivals(self, arrivals: BlockArrivals | None) -> None:
        """Pages begin to be missing, or none is any more. No vCPU executes meanwhile."""
        self.arrivals = arrivals
        for listener in self.remapped:
            listener()

    def release(self, offset: int, size: int) -> None:
        """Give the memory of whole pages back to the host: they read as zero."""
        self._check(offset, size)
        self._map.madvise(mmap.MADV_DONTNEED, offset, size)

    def untouched(self, first: int, count: int) -> NDArray[np.bool_]:
        """One flag per page from number ``first`` on: nobody has stored there yet, so it is zero. Costs little
        and leaves them untouched; False says nothing."""
        self._check(first << PAGE_BITS, count << PAGE_BITS)
        return pagemap.untouched(self._address + (first << PAGE_BITS), count)

    def changed(self, offset: int, size: int) -> None:
        """Tell the listeners that these bytes changed; for those who stored through ``mem`` or ``view``."""
        if size:
            for listener in self.listeners:
                listener(offset, size)

    def harvest_dirty(self) -> NDArray[np.bool_]:
        """Which pages were written since the last harvest, as a bool per page; clears the log.

        Call it with the machine quiesced, or a store may be marked between reading and clearing.
        """
        self.harvests += 1
        return self.log.harvest()
