"""Pages that have not arrived yet: how guest memory is used while a postcopy is under way.

After the switch to postcopy the guest runs here while part of its memory is still at the source.
``Arrivals`` knows which pages are here, one byte per page and block (1: here). Whoever is about to use
guest memory asks first: the accessors of ``RAMBlock``, the address space, the CPU's general paths, and
translated code for itself, by the byte of the page. Where nothing is missing (always, but for the minutes
of a postcopy) a block has no ``BlockArrivals`` and nothing is asked.

Who touches a missing page waits for just that page:

- a vCPU (its thread has announced itself with ``announce``) as long as it takes. It counts as parked
  meanwhile, so the machine can be stopped, looked at and ended, and it asks for its turn again before it
  goes on. Where it stands is in the middle of a wide instruction: its registers show its last boundary.
- everybody else (main loop, monitor) until the page comes; when the migration is paused, or nothing came
  for ``PATIENCE`` seconds, it is a StateError that names the page.

All waiting is on a condition of the machine lock, which is therefore not held meanwhile, however deep the
caller had taken it. Data is stored first and the byte of its page set afterwards, so a page that looks present is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from e2kemu.errors import StateError
from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE

PATIENCE = 20.0
"""Seconds that a thread other than a vCPU's waits for one page."""

LOOK_AGAIN = 0.5
"""Seconds after which a waiting thread looks at its situation without having been woken."""


class Receiving(Protocol):
    """A block of RAM as it is seen here (``memory.ram.RAMBlock``)."""

    @property
    def idstr(self) -> str:
        """Its name."""

    def set_arrivals(self, arrivals: BlockArrivals | None) -> None:
        """Accesses ask ``arrivals`` from now on; None: they need not ask."""


class Waiter(Protocol):
    """A vCPU's thread, as it waits. All methods are called with the machine lock held."""

    @property
    def index(self) -> int:
        """Number of the vCPU."""

    def begin_wait(self, wake: Callable[[], None]) -> None:
        """It will not execute before ``end_wait`` has returned. ``wake`` has ``check_wait`` called."""

    def check_wait(self) -> None:
        """Raises when it shall not go on at all (reset, end of the emulator)."""

    def end_wait(self) -> None:
        """Returns when the machine lets it run."""


class WaitObserver(Protocol):
    """Keeps the account of waiting. Called with the machine lock held; ``cpu`` None: not a vCPU."""

    def waiting(self, cpu: int | None) -> None:
        """``cpu`` begins to wait for a page."""

    def arrived(self, cpu: int | None, nanoseconds: int) -> None:
        """It has waited that long."""


class _Nobody:
    """Keeps no account."""

    def waiting(self, cpu: int | None) -> None:
        """Nothing."""

    def arrived(self, cpu: int | None, nanoseconds: int) -> None:
        """Nothing."""


class _Current(threading.local):
    vcpu: Waiter | None = None


_current = _Current()


def announce(vcpu: Waiter | None) -> None:
    """The calling thread is that of ``vcpu``."""
    _current.vcpu = vcpu


Request = Callable[[str, int, int], None]
"""Asks the source for (block's name, first page, number of pages); returns at once."""


class BlockArrivals:
    """The pages of one block. ``present``: one byte per page, 1 when it is here."""

    def __init__(self, owner: Arrivals, block: Receiving, present: NDArray[np.uint8]) -> None:
        self.block = block
        self.present = present
        self.view = memoryview(present.data)
        """The same bytes, for single looks."""
        self.requested = np.zeros(len(present), dtype=np.uint8)
        """1: somebody waits or has waited for it, and the source was asked."""
        self._owner = owner

    def need(self, offset: int, size: int) -> None:
        """Return when the ``size`` bytes at ``offset`` are here. Raises StateError."""
        first, last, view = offset >> PAGE_BITS, offset + size - 1 >> PAGE_BITS, self.view
        if view[first] and (last <= first or (view[last] and bool(self.present[first : last + 1].all()))):
            return
        self._owner.wait(self, first, last)

    def missing(self) -> int:
        """Number of pages that are not here."""
        return len(self.present) - int(np.count_nonzero(self.present))

    def place(self, index: NDArray[np.int64], store: Callable[[NDArray[np.bool_]], None]) -> None:
        """Pages ``index`` have come. ``store(fresh)`` stores those that were missing (a flag per entry of
        ``index``); what is here already stays: the guest may have changed it."""
        fresh = self.present[index] == 0
        store(fresh)
        self.present[index] = 1
        self._owner.wake()


class Arrivals:
    """The missing pages of one machine, from ``begin`` to ``end``."""

    def __init__(
        self,
        lock: threading.RLock,
        blocks: Sequence[tuple[Receiving, NDArray[np.uint8]]],
        request: Request,
        observer: WaitObserver | None = None,
    ) -> None:
        self._condition = threading.Condition(lock)
        self._request = request
        self._observer: WaitObserver = observer or _Nobody()
        self._waiting = 0
        self._paused = ""
        self.blocks = {block.idstr: BlockArrivals(self, block, present) for block, present in blocks}

    def begin(self) -> None:
        """From now on everybody asks. The machine stands still."""
        for one in self.blocks.values():
            one.block.set_arrivals(one)

    def end(self) -> None:
        """Nobody needs to ask any more. The machine is quiesced."""
        for one in self.blocks.values():
            one.block.set_arrivals(None)
        self.wake()

    def missing(self) -> int:
        """Number of pages that are not here."""
        return sum(one.missing() for one in self.blocks.values())

    def pause(self, reason: str) -> None:
        """Nothing comes for the time being; "": it goes on. Who need not wait gives up with ``reason``."""
        with self._condition:
            self._paused = reason
            self._condition.notify_all()

    def wake(self) -> None:
        """Pages have come."""
        if self._waiting:
            with self._condition:
                self._condition.notify_all()

    def outstanding(self) -> Iterator[tuple[str, int, int]]:
        """What was asked for and has not come, as (block's name, first page, number of pages)."""
        for one in self.blocks.values():
            for first, count in _runs(np.flatnonzero((one.requested != 0) & (one.present == 0))):
                yield one.block.idstr, first, count

    # -- waiting

    def wait(self, one: BlockArrivals, first: int, last: int) -> None:
        """Wait for the pages from ``first`` up to and with ``last``. Raises StateError."""
        vcpu = _current.vcpu
        index = None if vcpu is None else vcpu.index
        started = time.monotonic_ns()
        with self._condition:
            self._waiting += 1
            self._observer.waiting(index)
            if vcpu is not None:
                vcpu.begin_wait(self.wake)
            try:
                self._ask(one, first, last)
                self._wait(one, first, last, vcpu)
            finally:
                self._waiting -= 1
                self._observer.arrived(index, time.monotonic_ns() - started)
            if vcpu is not None:
                vcpu.end_wait()

    def _ask(self, one: BlockArrivals, first: int, last: int) -> None:
        wanted = (one.present[first : last + 1] == 0) & (one.requested[first : last + 1] == 0)
        for start, count in _runs(np.flatnonzero(wanted)):
            one.requested[first + start : first + start + count] = 1
            self._request(one.block.idstr, first + start, count)

    def _wait(self, one: BlockArrivals, first: int, last: int, vcpu: Waiter | None) -> None:
        seen, patience = -1, 0.0
        while missing := last + 1 - first - int(np.count_nonzero(one.present[first : last + 1])):
            if vcpu is not None:
                vcpu.check_wait()
            else:
                if missing != seen:
                    seen, patience = missing, time.monotonic() + PATIENCE
                if self._paused or time.monotonic() > patience:
                    page = first + int(np.argmin(one.present[first : last + 1]))
                    raise StateError(
                        f"the page at {page * PAGE_SIZE:#x} of block '{one.block.idstr}' has not been received yet: "
                        + (self._paused or "the source does not send it")
                    )
            self._condition.wait(LOOK_AGAIN)


def _runs(index: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, count) of runs without a gap."""
    for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
        if len(run):
            yield int(run[0]), len(run)
