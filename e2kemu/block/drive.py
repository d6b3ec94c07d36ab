"""Drives: what ``-drive`` makes, and what a disk device and migration use.

A ``Drive`` is an image with an id. It is used from several threads (the vCPU whose guest asks its disk, the
migration thread that copies it): each call takes the drive's own lock. Errors of the host's are ImageErrors
here: one line that names the drive.

While ``dirty`` tracking is on, every write marks the chunks of 1 MiB that it touches, for block migration.

Both ends of a migration must have the same disk. Whether they have is seen by a sample: the destination looks at the
``places`` that the source names (some all over the disk, and where the guest wrote last, which a copy made earlier
does not have) and compares the ``digest``.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from e2kemu.block.image import SECTOR, BlockImage, open_image
from e2kemu.block.qcow2 import temporary_overlay
from e2kemu.errors import ImageError, OptionError
from e2kemu.options import Options

CHUNK = 1 << 20
"""Bytes of a chunk of the dirty map (and of block migration)."""

PLACE = 4096
"""Bytes that are looked at of each place of a sample."""

PLACES = 16
"""Places of a sample, of which LATELY are where the guest wrote last."""

LATELY = 8

DIGEST = 16
"""Bytes of a sample's digest."""

INTERFACES = ("virtio", "none")

T = TypeVar("T")


class Drive:
    """One drive. ``interface`` is that of ``if=``: "virtio" gets a device by itself, "none" by ``-device``."""

    def __init__(self, ident: str, image: BlockImage, *, interface: str = "virtio", snapshot: bool = False) -> None:
        self.id = ident
        self.image = image
        self.interface = interface
        self.snapshot = snapshot
        self.attached = ""
        """What uses it, for ``info block``; empty: nobody."""
        self._lock = threading.Lock()
        self._dirty: npt.NDArray[np.bool_] | None = None
        self._written: dict[int, None] = {}  # the places written last, the latest at the end

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        return self.image.size

    @property
    def readonly(self) -> bool:
        return self.image.readonly

    @property
    def migration_blocker(self) -> str | None:
        """Why a guest that uses this drive cannot be migrated, None when it can."""
        if self.snapshot:
            return f"The drive '{self.id}' is a temporary snapshot (snapshot=on): what the guest has written is lost"
        return None

    # -- contents

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``. Raises ImageError."""
        return self._do(lambda: self.image.read(offset, size))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``. Raises ImageError."""
        self._do(lambda: self.image.write(offset, data))
        self._mark(offset, len(data))

    def write_zeroes(self, offset: int, size: int) -> None:
        """Store zeroes. Raises ImageError."""
        self._do(lambda: self.image.write_zeroes(offset, size))
        self._mark(offset, size)

    def flush(self) -> None:
        """What was written survives the host. Raises ImageError."""
        self._do(self.image.flush)

    def is_allocated(self, offset: int, size: int) -> bool:
        """Whether the image itself, not its backing file, holds any of these bytes."""
        return self._do(lambda: self.image.is_allocated(offset, size))

    def is_zero(self, offset: int, size: int) -> bool:
        """These bytes are known to be zero without reading them."""
        return self._do(lambda: self.image.is_zero(offset, size))

    def _do(self, operation: Callable[[], T]) -> T:
        with self._lock:
            try:
                return operation()
            except OSError as error:
                raise ImageError(f"drive '{self.id}': {error.strerror}") from error

    # -- samples

    def places(self) -> list[int]:
        """Where to look to know this disk from another: PLACES offsets, some perhaps the same."""
        with self._lock:
            lately = list(self._written)
        spread = PLACES - len(lately)
        last = max(0, self.size - PLACE)
        return lately + [last * n // (spread - 1) // SECTOR * SECTOR for n in range(spread)]

    def digest(self, places: Iterable[int]) -> bytes:
        """DIGEST bytes that tell what is at ``places``. Raises ValueError for one outside, ImageError."""
        found = hashlib.blake2b(digest_size=DIGEST)
        for place in places:
            if not 0 <= place < self.size:
                raise ValueError(f"{place:#x} is no place of drive '{self.id}'")
            found.update(self.read(place, min(PLACE, self.size - place)))
        return found.digest()

    # -- dirty chunks

    def track_dirty(self, on: bool) -> None:
        """Begin (nothing is dirty) or end to mark what is written."""
        with self._lock:
            self._dirty = np.zeros(-(-self.size // CHUNK), dtype=np.bool_) if on else None

    def take_dirty(self) -> npt.NDArray[np.bool_]:
        """One flag per chunk: written since the last call. Clears."""
        with self._lock:
            if self._dirty is None:
                return np.zeros(0, dtype=np.bool_)
            taken = self._dirty.copy()
            self._dirty[:] = False
            return taken

    def _mark(self, offset: int, size: int) -> None:
        # After the write: whoever clears the mark before it sees it again, and reads what was written.
        if not size:
            return
        with self._lock:
            if self._dirty is not None:
                self._dirty[offset // CHUNK : (offset + size - 1) // CHUNK + 1] = True
            self._written.pop(offset, None)
            self._written[offset] = None
            if len(self._written) > LATELY:
                del self._written[next(iter(self._written))]

    # -- life

    @property
    def active(self) -> bool:
        """The locks are ours, the guest may write."""
        return self.image.active

    def activate(self) -> None:
        """Take the image's locks. Raises OptionError when another process has it, ImageError."""
        self._do(self.image.activate)

    def inactivate(self) -> None:
        """Write everything out and let another process have the image."""
        self._do(self.image.inactivate)

    def close(self) -> None:
        """Write everything out and close. Raises ImageError."""
        self._do(self.image.close)


def parse_drive(text: str, number: int) -> Drive:
    """The drive of ``-drive`` option ``number``, not active. Raises OptionError, ImageError."""
    options = Options(text, implied=None)
    path = options.get("file")
    interface = options.get("if", "virtio") or ""
    ident = options.get("id") or f"{interface}{number}"
    format = options.get("format")
    readonly = options.get_bool("readonly", options.get_bool("read-only", False))
    snapshot = options.get_bool("snapshot", False)
    media = options.get("media", "disk")
    options.finish()
    if interface not in INTERFACES:
        raise OptionError(f"unsupported bus type '{interface}'")
    if media != "disk":
        raise OptionError(f"media '{media}' is not supported")
    if not path:
        raise OptionError("Device needs media, but drive is empty")
    if format is not None and format not in ("raw", "qcow2"):
        raise OptionError(f"'{format}' invalid format")
    image = open_image(path, format, readonly=readonly or snapshot)
    if snapshot:
        try:
            image = temporary_overlay(image)
        except BaseException:
            image.close()
            raise
    return Drive(ident, image, interface=interface, snapshot=snapshot)
