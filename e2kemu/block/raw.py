"""Format "raw": the file is the disk, byte by byte.

A file whose length is no multiple of 512 is seen as rounded up; what is missing reads as zero, and the file
grows when the guest writes there. Holes of a sparse file are known to be zero without being read.

An image whose format was guessed (``guard``) never lets the guest turn it into something that would be taken
for another format the next time: a write that would do so fails, as in QEMU.
"""

from __future__ import annotations

import errno
import os

from e2kemu.block.image import QCOW2_MAGIC, SECTOR, BlockImage, open_file

ZERO_STEP = 1 << 20
"""Zeroes that are written at once."""


class RawImage(BlockImage):
    """A raw image."""

    format = "raw"

    def __init__(self, path: str, *, readonly: bool = False, guard: bool = False) -> None:
        super().__init__(path, open_file(path, readonly=readonly), readonly=readonly)
        self._guard = guard
        self.reload()

    def reload(self) -> None:
        self.size = -(-os.lseek(self._fd, 0, os.SEEK_END) // SECTOR) * SECTOR

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return self._pread(offset, size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._check(offset, len(data), writing=True)
        if self._guard and offset < len(QCOW2_MAGIC):
            head = bytearray(self._pread(0, len(QCOW2_MAGIC)))
            head[offset:] = bytes(data[: len(QCOW2_MAGIC) - offset]) + head[offset + len(data) :]
            if bytes(head) == QCOW2_MAGIC:
                raise OSError(errno.EPERM, f"'{self.path}' would become a qcow2 image; say format=raw")
        self._pwrite(offset, data)

    def write_zeroes(self, offset: int, size: int) -> None:
        self._check(offset, size, writing=True)
        end = offset + size
        while offset < end:
            step = min(ZERO_STEP, end - offset)
            if not self.is_zero(offset, step):
                self._pwrite(offset, bytes(step))
            offset += step

    def is_allocated(self, offset: int, size: int) -> bool:
        return True

    def is_zero(self, offset: int, size: int) -> bool:
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + size
        except OSError as error:
            return error.errno == errno.ENXIO  # no data from here to the end of the file

    def flush(self) -> None:
        os.fdatasync(self._fd)
