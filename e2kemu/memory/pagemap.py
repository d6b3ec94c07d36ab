"""Which pages of private anonymous memory have never been touched: they are zero, and need not be looked at.

The kernel tells in ``/proc/self/pagemap``: 8 bytes for each page of the address space, bit 63: there is memory
behind it, bit 62: it is swapped out (or just being moved). Reading that neither needs a privilege nor touches
the pages. Where the file is missing nothing is known, and nothing depends on it but speed.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

_ENTRY = 8
_BACKED = np.uint64(3 << 62)

_file: tuple[int, int] | None = None  # process, descriptor: after a fork the parent's would tell of the parent


def untouched(address: int, pages: int) -> NDArray[np.bool_]:
    """One flag per page from ``address`` (of this process) on: it reads as zero and has no memory yet.

    The memory must be private and anonymous. False: it may have any content.
    """
    size = os.sysconf("SC_PAGE_SIZE")
    if size != 4096 or not (descriptor := _open()):
        return np.zeros(pages, dtype=np.bool_)
    data = os.pread(descriptor, pages * _ENTRY, address // size * _ENTRY)
    if len(data) != pages * _ENTRY:
        return np.zeros(pages, dtype=np.bool_)
    answer: NDArray[np.bool_] = np.frombuffer(data, dtype=np.uint64) & _BACKED == 0
    return answer


def _open() -> int:
    """The descriptor of this process's file; 0: there is none."""
    global _file
    if _file is None or _file[0] != os.getpid():
        try:
            _file = os.getpid(), os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            _file = os.getpid(), 0
    return _file[1]
