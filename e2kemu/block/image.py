"""What every disk image can do, and how one is opened.

``open_image(path, format)`` gives a ``BlockImage``: bytes by offset, whatever the format of the file. Formats
are "raw" (the file is the disk) and "qcow2" (``qcow2.py``); without one the first bytes decide, as in QEMU.

An image is made *inactive*: readable, nothing locked, so that two emulators can have the same file open while
a guest travels between them. ``activate`` takes the locks and reads the metadata again, because the other
side may have changed it; ``inactivate`` writes everything out and gives the locks back. Only an active image
may be written.

Errors: OptionError for an image that cannot be opened or locked, ImageError for one that turns out to be
damaged, OSError from the host for a read or write that fails. Nothing here is locked against threads: that
is ``drive.Drive``'s.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from typing import ClassVar

from e2kemu.block.locks import FileLock
from e2kemu.errors import OptionError

SECTOR = 512
"""Bytes of a sector: the unit of a disk's size."""

LAST_OFFSET = (1 << 63) - 1
"""No file reaches further: the largest off_t."""

MAX_CHAIN = 64
"""Images behind one another that are followed; more are taken for a ring."""

QCOW2_MAGIC = b"QFI\xfb"


class BlockImage(ABC):
    """A disk image. ``size`` is in bytes, a multiple of 512; reads and writes lie inside of it."""

    format: ClassVar[str]

    def __init__(self, path: str, fd: int, *, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self.active = False
        self.size = 0
        self._fd = fd
        self._lock = FileLock(fd, path)

    @property
    def backing(self) -> BlockImage | None:
        """The image below, which holds what this one does not."""
        return None

    # -- contents

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``."""

    @abstractmethod
    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``. After ``flush`` it survives the host."""

    @abstractmethod
    def write_zeroes(self, offset: int, size: int) -> None:
        """The same with zeroes, without storing them where the format can say so."""

    @abstractmethod
    def is_allocated(self, offset: int, size: int) -> bool:
        """Whether this file, not one below, holds any of these bytes."""

    @abstractmethod
    def is_zero(self, offset: int, size: int) -> bool:
        """These bytes are known to be zero without reading them."""

    @abstractmethod
    def flush(self) -> None:
        """Everything written is on the host's disk when this returns."""

    # -- life

    def activate(self) -> None:
        """Take the locks, look at the file again. Nothing when active. Raises OptionError, ImageError."""
        if self.active:
            return
        self._lock.take(writer=not self.readonly)
        try:
            self.reload()
        except BaseException:
            self._lock.release()
            raise
        self.active = True

    def inactivate(self) -> None:
        """Write everything out and give the locks back."""
        if self.active:
            if not self.readonly:
                self.flush()
            self.active = False
            self._lock.release()

    @abstractmethod
    def reload(self) -> None:
        """Read size and metadata from the file. Raises ImageError."""

    def close(self) -> None:
        """``inactivate`` and close the file."""
        try:
            self.inactivate()
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def describe(self) -> str:
        """One line for ``info block``."""
        return f"{self.path} ({self.format}{', read-only' if self.readonly else ''})"

    # -- for the formats

    def _pread(self, offset: int, size: int) -> bytes:
        """``size`` bytes of the file; what lies behind its end is zero. Raises OSError for no place in any file."""
        if offset + size > LAST_OFFSET:
            raise OSError(errno.EFBIG, f"{offset:#x} is no place in a file")
        parts = []
        left = size
        while left:
            part = os.pread(self._fd, left, offset)
            if not part:
                parts.append(bytes(left))
                break
            parts.append(part)
            offset += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pwrite(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if offset + len(view) > LAST_OFFSET:
            raise OSError(errno.EFBIG, f"{offset:#x} is no place in a file")
        while view:
            done = os.pwrite(self._fd, view, offset)
            offset += done
            view = view[done:]

    def _check(self, offset: int, size: int, *, writing: bool = False) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise OSError(errno.EIO, f"{size} bytes at {offset:#x} lie outside of '{self.path}'")
        if writing and (self.readonly or not self.active):
            raise OSError(errno.EPERM, f"'{self.path}' is {'read-only' if self.readonly else 'not active'}")


def open_file(path: str, *, readonly: bool) -> int:
    """The descriptor of an image file. Raises OptionError with QEMU's text."""
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise OptionError(f"Could not open '{path}': it is neither a regular file nor a block device")
        return os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise OptionError(f"Could not open '{path}': {error.strerror}") from error
    except ValueError as error:
        raise OptionError(f"Could not open '{path}': {error}") from error


def probe(path: str) -> str:
    """The format of a file by its first bytes. Raises OptionError when it cannot be read."""
    fd = open_file(path, readonly=True)
    try:
        return "qcow2" if os.pread(fd, 4, 0) == QCOW2_MAGIC else "raw"
    finally:
        os.close(fd)


def open_image(path: str, format: str | None = None, *, readonly: bool = False, depth: int = 0) -> BlockImage:
    """Open an image, inactive. Raises OptionError; ImageError for a damaged one."""
    from e2kemu.block.qcow2 import Qcow2Image
    from e2kemu.block.raw import RawImage

    if depth > MAX_CHAIN:
        raise OptionError(f"Could not open '{path}': more than {MAX_CHAIN} images behind one another")
    found = format or probe(path)
    if found == "raw":
        return RawImage(path, readonly=readonly, guard=format is None)
    if found == "qcow2":
        return Qcow2Image(path, readonly=readonly, depth=depth)
    raise OptionError(f"Unknown driver '{found}'")
