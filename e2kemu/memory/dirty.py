"""The dirty log of one RAM block: one byte per page, 1 = written since the last harvest.

A byte per page, not a bit, so that a store marks its page with one plain write: no read, no lock,
no lost neighbour when two threads mark at once. Writers (guest stores, devices, the monitor) only
ever set; the one consumer (migration) takes and clears everything with ``harvest`` while the
machine is quiesced, so no mark can fall between the taking and the clearing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAGE_SIZE = 4096
"""Bytes of a page: the unit of the dirty log and of migration."""

PAGE_BITS = 12
"""log2 of PAGE_SIZE."""


class DirtyLog:
    """Marks of ``pages`` pages; ``marks`` is the array that store paths write to directly."""

    def __init__(self, pages: int) -> None:
        self.marks: NDArray[np.uint8] = np.zeros(pages, dtype=np.uint8)

    def mark(self, offset: int, size: int) -> None:
        """Mark the pages touched by ``size`` bytes at byte ``offset``; nothing when size is 0."""
        if size:
            self.marks[offset >> PAGE_BITS : ((offset + size - 1) >> PAGE_BITS) + 1] = 1

    def harvest(self) -> NDArray[np.bool_]:
        """Which pages were written since the last harvest; clears the log."""
        taken: NDArray[np.bool_] = self.marks != 0
        self.marks[:] = 0
        return taken
