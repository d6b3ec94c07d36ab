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
POSTCOPY_DEVICE = "postcopy-device"
POSTCOPY_ACTIVE = "postcopy-active"
POSTCOPY_PAUSED = "postcopy-paused"
POSTCOPY_RECOVER_SETUP = "postcopy-recover-setup"
POSTCOPY_RECOVER = "postcopy-recover"
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
    DEVICE: frozenset({COMPLETED, FAILED, CANCELLING, POSTCOPY_DEVICE}),
    # The destination may have all state; until it has said so the source can still run on.
    POSTCOPY_DEVICE: frozenset({POSTCOPY_ACTIVE, FAILED}),
    # The guest is there, a part of its memory here: neither a failure nor the user ends this.
    POSTCOPY_ACTIVE: frozenset({COMPLETED, POSTCOPY_PAUSED}),
    POSTCOPY_PAUSED: frozenset({POSTCOPY_RECOVER_SETUP}),
    POSTCOPY_RECOVER_SETUP: frozenset({POSTCOPY_RECOVER, POSTCOPY_PAUSED}),
    POSTCOPY_RECOVER: frozenset({POSTCOPY_ACTIVE, POSTCOPY_PAUSED}),
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
    ACTIVE: frozenset({COMPLETED, FAILED, POSTCOPY_DEVICE}),
    # Paused from here: nobody knows whether the source has given its guest away.
    POSTCOPY_DEVICE: frozenset({POSTCOPY_ACTIVE, FAILED, POSTCOPY_PAUSED}),
    POSTCOPY_ACTIVE: frozenset({COMPLETED, POSTCOPY_PAUSED}),
    POSTCOPY_PAUSED: frozenset({POSTCOPY_RECOVER}),
    POSTCOPY_RECOVER: frozenset({POSTCOPY_ACTIVE, POSTCOPY_PAUSED}),
    COMPLETED: frozenset(),
    FAILED: _TERMINAL,
}
"""Moves of the destination."""

IN_POSTCOPY = frozenset(
    {POSTCOPY_DEVICE, POSTCOPY_ACTIVE, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER}
)
"""States in which the guest's memory is at both ends: nothing can be cancelled."""

CONNECTED_IN_POSTCOPY = frozenset({POSTCOPY_DEVICE, POSTCOPY_ACTIVE, POSTCOPY_RECOVER})
"""States in which the connection may be broken off, when it hangs: nothing else leads out of them then."""

RUNNING = frozenset({SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, CANCELLING}) | IN_POSTCOPY
"""States in which a migration process is in progress."""

_FRESH = frozenset({SETUP, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER, POSTCOPY_ACTIVE})
"""States that begin something anew: errors of what was before are history."""


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
            if to in _FRESH:
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
