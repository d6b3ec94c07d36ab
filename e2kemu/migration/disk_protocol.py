"""The part of a disk that migration sees (``e2kemu.block.drive.Drive`` has all of it).

Disks are shared by both ends unless block migration copies them: the source lets go of them (``inactivate``) when its
guest has stopped and before it sends the devices; the destination's disk device takes its own (``activate``) when its
state is loaded, so before the source is told that the guest has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from e2kemu import trace
from e2kemu.errors import E2kError
from e2kemu.trace import Log

CHUNK = 1 << 20
"""Bytes of a chunk: the unit of block migration and of a disk's dirty map."""


class MigratableDisk(Protocol):
    """One disk. Its methods raise E2kErrors, and may be called from any thread."""

    id: str
    """Name on the wire; the same at both ends."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""

    @property
    def readonly(self) -> bool: ...

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: bytes | memoryview) -> None: ...

    def write_zeroes(self, offset: int, size: int) -> None: ...

    def is_allocated(self, offset: int, size: int) -> bool:
        """Whether the image itself, not its backing file, holds any of these bytes."""

    def is_zero(self, offset: int, size: int) -> bool:
        """Known to be zero without reading."""

    def flush(self) -> None: ...

    def track_dirty(self, on: bool) -> None:
        """Begin (nothing is dirty) or end to mark the chunks that are written."""

    def take_dirty(self) -> npt.NDArray[np.bool_]:
        """One flag per chunk: written since the last call. Clears."""

    def activate(self) -> None:
        """Take it; nothing when it is taken. Raises OptionError when another process has it."""

    def inactivate(self) -> None:
        """Write everything out and let go of it."""


def let_go(disks: Iterable[MigratableDisk]) -> None:
    """Let go of all of them, whatever happens to one."""
    for disk in disks:
        try:
            disk.inactivate()
        except E2kError as error:
            trace.log(f"e2kemu: {error}")


def take_back(disks: Iterable[MigratableDisk]) -> None:
    """Take them after a migration that failed. What cannot be taken stays away: the guest cannot run then."""
    for disk in disks:
        try:
            disk.activate()
        except E2kError as error:
            if trace.mask & Log.MIGRATION:
                trace.log(f"migration: out: {error}")
