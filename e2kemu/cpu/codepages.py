"""Which pages of RAM code was translated from, known to all CPUs of a machine.

A store to such a page must reach ``GuestMemory.st``, whichever CPU makes it: each CPU keeps the page out of its fast
ways of storing (``GuestMemory.note_code``). A CPU whose store changes code drops what it made of it at once; the others
are asked to, and do so at their next boundary.

Between the moment a CPU decodes code and the moment all others have closed their fast way a store of another CPU can
slip through. As on hardware, who writes code that others execute flushes their instruction caches, which drops it
everywhere.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2kemu.cpu.guest_memory import GuestMemory


class CodePages:
    """The pages with code of one machine, physical numbers. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cpus: list[GuestMemory] = []
        self._users: dict[int, set[GuestMemory]] = {}

    def join(self, cpu: GuestMemory) -> None:
        """Another CPU is there."""
        with self._lock:
            self._cpus.append(cpu)

    def __contains__(self, page: int) -> bool:
        return page in self._users

    def any(self, address: int, size: int) -> bool:
        """Whether code was translated from one of these bytes' pages (any thread)."""
        users, first, last = self._users, address >> 12, address + size - 1 >> 12
        if not users:
            return False
        if last - first < 8:
            return any(page in users for page in range(first, last + 1))
        return any(first <= page <= last for page in self.pages())

    def pages(self) -> list[int]:
        """All of them."""
        with self._lock:
            return list(self._users)

    def mark(self, cpu: GuestMemory, page: int) -> None:
        """``cpu`` has translated code from ``page``."""
        with self._lock:
            users = self._users.get(page)
            if users is None:
                self._users[page] = {cpu}
            elif cpu in users:
                return
            else:
                users.add(cpu)
            for other in self._cpus:
                other.note_code(page, True)

    def unmark(self, cpu: GuestMemory, page: int) -> None:
        """``cpu`` has nothing left that was translated from ``page``."""
        with self._lock:
            users = self._users.get(page)
            if users is None:
                return
            users.discard(cpu)
            if not users:
                del self._users[page]
                for other in self._cpus:
                    other.note_code(page, False)

    def changed(self, cpu: GuestMemory, address: int, size: int) -> None:
        """``cpu`` stored there: the other CPUs drop what they made of it."""
        for other in self._cpus:
            if other is not cpu:
                other.ask_drop(address, size)
