"""Pages of a RAM block that a forked emulator has in common with its parent: MAP_SHARED memory.

The host's mapping of these bytes of the block is replaced, at the same address, by one of a file in memory. Whoever
reads and writes the block does so as before; only a fork no longer copies them. What is mapped so is all there
(``RAMBlock.untouched`` asks the page tables), in the emulator that began it.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from e2kemu.memory.ram import RAMBlock

LARGEST = 256 << 20
"""Bytes of one mapping that are shared; more would take that much of the host's memory at once."""
_CHUNK = 1 << 20
_FIXED, _POPULATE = 0x10, 0x8000
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def share(block: RAMBlock, offset: int, size: int) -> None:
    """From now on forks have these bytes in common. Raises OSError."""
    block.need(offset, size)
    fd = os.memfd_create("e2kemu-shared", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        for done in range(0, size, _CHUNK):
            count = min(_CHUNK, size - done)
            if not block.untouched((offset + done) // mmap.PAGESIZE, count // mmap.PAGESIZE).all():
                os.pwrite(fd, block.mem[offset + done : offset + done + count], done)
        _remap(block, offset, size, mmap.MAP_SHARED | _POPULATE, fd)
    finally:
        os.close(fd)


def part(block: RAMBlock, offset: int, size: int) -> None:
    """These bytes are the block's own again, and zero. Raises OSError."""
    _remap(block, offset, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000), -1)


def _remap(block: RAMBlock, offset: int, size: int, flags: int, fd: int) -> None:
    address = block.view.ctypes.data + offset
    if _LIBC.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags | _FIXED, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
