"""epoll: an interest list of ours, so that it migrates and holds our own kinds of descriptors too.

Level-triggered interests just look. Of edge-triggered ones for descriptors of the host only the host can tell whether
something arrived anew, so those are in a host epoll as well.
"""

from __future__ import annotations

import errno
import json
import os
import select
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from e2kemu.linux import constants as c
from e2kemu.linux.error import POLLERR, POLLHUP, POLLIN, POLLOUT, LinuxError
from e2kemu.linux.files import LOADERS, POLLRDNORM, FileTable, OpenFile, Saved, Waits
from e2kemu.linux.timers import Anonymous

DEPTH = 5
"""Epolls in epolls."""
_EVENTS = 0x3FFF
EPOLLEXCLUSIVE = 1 << 28
_EXCLUSIVE_EVENTS = EPOLLEXCLUSIVE | c.EPOLLET | 1 << 29 | POLLIN | POLLOUT | POLLERR | POLLHUP
"""What may go with EPOLLEXCLUSIVE: EPOLLWAKEUP, too."""


@dataclass
class Interest:
    """What is waited for on one descriptor."""

    file: OpenFile
    events: int
    data: int
    seen: int = -1
    """Edge-triggered: ``edges`` of the file when it was last told."""
    told: int = 0
    """Edge-triggered: the events that were told then."""
    host_fd: int = -1
    """Edge-triggered on a descriptor of the host: our duplicate in the host epoll."""
    arrived: int = 0
    """Events that the host epoll has told and the guest not yet."""
    off: bool = False
    """EPOLLONESHOT has been used up."""


class Epoll(Anonymous):
    """An epoll descriptor."""

    kind = "eventpoll"

    def __init__(self, flags: int = 0) -> None:
        super().__init__(flags | c.O_RDWR)
        self.interests: dict[tuple[int, int], Interest] = {}
        self.host_epoll: select.epoll | None = None
        self.saved = ""

    def contains(self, file: OpenFile, depth: int = 0) -> bool:
        """Whether ``file`` is waited for here or in an epoll in here. Raises ELOOP when they are too deep."""
        if depth > DEPTH:
            raise LinuxError(errno.ELOOP)
        return any(i.file is file or (isinstance(i.file, Epoll) and i.file.contains(file, depth + 1))
                   for i in self.interests.values())

    def control(self, operation: int, fd: int, file: OpenFile, events: int, data: int) -> None:
        """epoll_ctl(2). Raises EEXIST, ENOENT, EPERM, ELOOP, EINVAL."""
        key = (fd, id(file))
        old = self.interests.get(key)
        if old is not None and old.file is not file:
            old = None
        if operation == c.EPOLL_OPERATIONS["EPOLL_CTL_ADD"]:
            if old is not None:
                raise LinuxError(errno.EEXIST)
            if stat.S_IFMT(file.status().st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                raise LinuxError(errno.EPERM)
            if isinstance(file, Epoll) and file.contains(self):
                raise LinuxError(errno.ELOOP)
        elif old is None:
            raise LinuxError(errno.ENOENT)
        elif operation != c.EPOLL_OPERATIONS["EPOLL_CTL_DEL"] and (old.events | events) & EPOLLEXCLUSIVE:
            raise LinuxError(errno.EINVAL)
        if operation == c.EPOLL_OPERATIONS["EPOLL_CTL_ADD"] and events & EPOLLEXCLUSIVE and (
                isinstance(file, Epoll) or events & ~_EXCLUSIVE_EVENTS):
            raise LinuxError(errno.EINVAL)
        if old is not None:
            self._drop(key)
        if operation != c.EPOLL_OPERATIONS["EPOLL_CTL_DEL"]:
            self._add(key, Interest(file, events | POLLERR | POLLHUP, data))

    def _add(self, key: tuple[int, int], interest: Interest) -> None:
        self.interests[key] = interest
        if interest.events & c.EPOLLET and interest.file.host_fd >= 0:
            if self.host_epoll is None:
                self.host_epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
            interest.host_fd = os.dup(interest.file.host_fd)
            self.host_epoll.register(interest.host_fd, interest.events & _EVENTS | select.EPOLLET)

    def _drop(self, key: tuple[int, int]) -> None:
        interest = self.interests.pop(key)
        if interest.host_fd >= 0:
            assert self.host_epoll is not None
            self.host_epoll.unregister(interest.host_fd)
            os.close(interest.host_fd)

    def _live(self) -> Iterator[Interest]:
        for key, interest in list(self.interests.items()):
            if interest.file.references == 0:
                self._drop(key)
            elif not interest.off:
                yield interest

    def _ready(self) -> list[tuple[Interest, int]]:
        if self.host_epoll is not None:
            arrived = dict(self.host_epoll.poll(0))
            for interest in self._live():
                interest.arrived |= arrived.get(interest.host_fd, 0)
        found = []
        for interest in self._live():
            now = interest.file.poll() & interest.events
            if interest.events & c.EPOLLET:
                if interest.host_fd >= 0:
                    now &= interest.arrived if interest.file.edges() == interest.seen else now
                elif interest.file.edges() == interest.seen and not now & ~interest.told:
                    now = 0
            if now:
                found.append((interest, now))
        return found

    def collect(self, limit: int) -> list[tuple[int, int]]:
        """At most ``limit`` of what is ready now, as (events, data)."""
        result = []
        for interest, events in self._ready()[:limit]:
            result.append((events, interest.data))
            interest.seen, interest.told, interest.arrived = interest.file.edges(), events, 0
            if interest.events & c.EPOLLONESHOT:
                interest.off = True
            key = next(k for k, i in self.interests.items() if i is interest)
            self.interests[key] = self.interests.pop(key)  # the next call begins with the others
        return result

    def poll(self) -> int:
        return POLLIN | POLLRDNORM if self._ready() else 0

    def edges(self) -> int:
        return sum(i.file.edges() for i in self._live())

    def wait(self, waits: Waits, events: int) -> None:
        waits.keys.append(self)
        if self.host_epoll is not None:
            waits.fds.append((self.host_epoll.fileno(), POLLIN))
        for interest in self._live():
            if interest.host_fd < 0:
                interest.file.wait(waits, interest.events & _EVENTS)

    def host_descriptors(self) -> list[int]:
        own = [self.host_epoll.fileno()] if self.host_epoll is not None else []
        return own + [i.host_fd for i in self.interests.values() if i.host_fd >= 0]

    def close(self) -> None:
        for key in list(self.interests):
            self._drop(key)
        if self.host_epoll is not None:
            self.host_epoll.close()

    def save(self) -> Saved:
        return {"interests": json.dumps([[fd, i.events, f"{i.data:x}", int(i.off)]
                                         for (fd, _), i in self.interests.items() if i.file.references])}

    def loaded(self, table: FileTable) -> None:
        for fd, events, data, off in json.loads(self.saved):
            file = table.get(fd)
            self._add((fd, id(file)), Interest(file, events, int(data, 16), off=bool(off)))


def _load(saved: Saved, process: object, shared: dict[object, object]) -> OpenFile:
    epoll = Epoll(int(saved["flags"]))
    epoll.saved = str(saved["interests"])
    return epoll


LOADERS["eventpoll"] = _load
