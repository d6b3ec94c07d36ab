"""The part of a machine that migration sees: nothing here knows a CPU or a device.

``e2kemu.machine.Machine`` has all of this; whatever else has it can be migrated as well (the tests
migrate a machine made of memory and one integer). Device state is reached only as ``SaveHandler``:
one FULL section each.

Threads: the conductors call ``start``, ``stop``, ``set_run_state`` and ``emit`` from their own threads,
never while holding ``lock``; ``quiesced`` is for a few milliseconds of stillness, not for I/O.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from e2kemu.memory.received import BlockArrivals
from e2kemu.migration.disk_protocol import MigratableDisk
from e2kemu.wire import Reader, Writer


class MigratableBlock(Protocol):
    """One block of guest RAM or ROM (``e2kemu.memory.ram.RAMBlock``)."""

    @property
    def idstr(self) -> str:
        """Name on the wire; the same at both ends."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of the page size."""

    @property
    def page_size(self) -> int:
        """Bytes of a target page: the unit of the dirty log and of the stream."""

    @property
    def view(self) -> npt.NDArray[np.uint8]:
        """All bytes of the block, writable, the guest's own memory."""

    def changed(self, offset: int, size: int) -> None:
        """Tell whoever caches these bytes (decoded code) that they were written through ``view``."""

    def release(self, offset: int, size: int) -> None:
        """Give the memory of whole pages back to the host; they read as zero."""

    def untouched(self, first: int, count: int) -> npt.NDArray[np.bool_]:
        """One flag per page from number ``first`` on: known to be zero without a look at it."""

    def set_arrivals(self, arrivals: BlockArrivals | None) -> None:
        """From now on every access asks ``arrivals`` first; None: no more."""

    def harvest_dirty(self) -> npt.NDArray[np.bool_]:
        """One flag per page: written since the last call. Clears. The machine must be quiesced."""


@runtime_checkable
class SaveHandler(Protocol):
    """What one FULL section saves and loads."""

    @property
    def idstr(self) -> str:
        """Section name, at most 255 bytes."""

    @property
    def instance_id(self) -> int:
        """Tells sections of one name apart: 0, 1, 2..."""

    @property
    def version(self) -> int:
        """Version that is written, and the newest that is understood."""

    @property
    def minimum_version(self) -> int:
        """Oldest version that is understood."""

    def is_needed(self) -> bool:
        """False leaves the section out of the stream."""

    def save(self, w: Writer) -> None:
        """Write the body."""

    def load(self, r: Reader, version: int) -> None:
        """Read the body. Raises StreamError when it makes no sense."""

    def vmdesc(self) -> dict[str, Any]:
        """The device's entry of the vmdescription."""


class CallSoon(Protocol):
    """The main loop as seen from a worker thread."""

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` in the main loop, soon."""

    def quit(self, status: int) -> None:
        """End the emulator with ``status``."""


class MigratableMachine(Protocol):
    """What the conductors need of a machine."""

    @property
    def machine_type(self) -> str:
        """Versioned machine type, "elbrus-1.0": goes into the configuration section and must match."""

    @property
    def uuid(self) -> uuid.UUID | None:
        """``-uuid``, None when it was not given."""

    @property
    def autostart(self) -> bool:
        """False with ``-S``: the destination stays paused after a migration."""

    @property
    def loop(self) -> CallSoon: ...

    @property
    def lock(self) -> threading.RLock:
        """The machine lock; released by whoever waits for a page that is missing."""

    @property
    def cpus(self) -> Sequence[object]:
        """The CPUs; only their number matters."""

    @property
    def run_state(self) -> str:
        """QEMU's name of the run state."""

    @property
    def ram_blocks(self) -> Sequence[MigratableBlock]: ...

    @property
    def disks(self) -> Sequence[MigratableDisk]:
        """The disks that the guest uses."""

    def save_handlers(self) -> Sequence[SaveHandler]:
        """The device sections in the order of the stream; without RAM, without globalstate."""

    def start(self) -> None:
        """Let the guest run (``cont``); emits RESUME."""

    def stop(self, state: str = "paused") -> None:
        """Stop the guest and go to ``state``; all vCPUs stand when it returns; emits STOP if it ran.

        Allowed inside of ``quiesced``.
        """

    def set_run_state(self, state: str) -> None:
        """Change the name of the state only."""

    def is_running(self) -> bool: ...

    def quiesced(self) -> AbstractContextManager[Any]:
        """All vCPUs stand between two wide instructions while it is entered."""

    def set_throttle(self, percent: float) -> None:
        """Make the vCPUs sleep this part of the time; 0: not any more."""

    def emit(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Send a QMP event."""
