"""The status of one side of a migration: QEMU's MigrationStatus and the moves between its values.

``MigrationState`` refuses a move that is not in its graph, keeps the first error (later ones are
consequences) and tells its listeners. It has its own lock and is used from every thread; listeners run in
the thread that made the move, outside the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

NONE = "none"
SETUP = "setup"
ACTIVE = "active"
PRE_SWITCHOVER = "pre-switchover"
DEVICE = "device"
CANCELLING = "cancelling"
CANCELLED = "cancelled"
COMPLETED = "completed"
FAILED = "failed"

Graph = Mapping[str, frozenset[str]]

_TERMINAL = frozenset({SETUP})

OUTGOING: Graph = {
    NONE: frozenset({SETUP}),
    SETUP: frozenset({ACTIVE, FAILED, CANCELLING}),
    ACTIVE: frozenset({PRE_SWITCHOVER, DEVICE, FAILED, CANCELLING}),
    PRE_SWITCHOVER: frozenset({DEVICE, FAILED, CANCELLING}),
    DEVICE: frozenset({COMPLETED, FAILED, CANCELLING}),
    # A cancel that comes after the destination has confirmed the guest is too late.
    CANCELLING: frozenset({CANCELLED, COMPLETED}),
    CANCELLED: _TERMINAL,
    COMPLETED: _TERMINAL,
    FAILED: _TERMINAL,
}
"""Moves of the source."""

INCOMING: Graph = {
    NONE: frozenset({SETUP}),
    SETUP: frozenset({ACTIVE, FAILED}),
    ACTIVE: frozenset({COMPLETED, FAILED}),
    COMPLETED: frozenset(),
    FAILED: _TERMINAL,
}
"""Moves of the destination."""

RUNNING = frozenset({SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, CANCELLING})
"""States in which a migration process is in progress."""


class MigrationState:
    """Status, first error, listeners."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._status = NONE
        self._error: str | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.listeners: list[Callable[[str], None]] = []

    @property
    def status(self) -> str:
        return self._status

    @property
    def error(self) -> str | None:
        """The first cause of a failure, one line."""
        return self._error

    def running(self) -> bool:
        """A migration is in progress."""
        return self._status in RUNNING

    def move(self, to: str) -> None:
        """Go to ``to``. Raises ValueError for a move that the graph does not have."""
        if not self.try_move(to):
            raise ValueError(f"illegal move of the migration state from {self._status} to {to}")

    def try_move(self, to: str, *, only_from: str | None = None) -> bool:
        """Go to ``to`` if that is legal from here (and here is ``only_from``, if given)."""
        with self._lock:
            here = self._status
            if to not in self._graph[here] or only_from not in (None, here):
                return False
            if to == SETUP:
                self._error = None
            self._status = to
            self._changed.notify_all()
        for listener in list(self.listeners):
            listener(to)
        return True

    def record_error(self, message: str) -> None:
        """Keep ``message`` unless an earlier cause is known."""
        with self._lock:
            if self._error is None:
                self._error = message

    def wait_until(self, condition: Callable[[str], bool], timeout: float | None = None) -> bool:
        """Wait until ``condition(status)``; False: it did not become true in ``timeout`` seconds."""
        with self._lock:
            return self._changed.wait_for(lambda: condition(self._status), timeout)
