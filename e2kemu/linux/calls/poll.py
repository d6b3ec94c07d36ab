"""Waiting for many descriptors: poll, select, epoll."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS, install
from e2kemu.linux.epoll import Epoll
from e2kemu.linux.error import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, LinuxError, WouldBlock
from e2kemu.linux.files import POLLRDNORM, POLLWRNORM, Waits
from e2kemu.linux.structs import EPOLL_EVENT, POLLFD, TIMESPEC, TIMEVAL
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

_READ = POLLIN | POLLRDNORM | POLLHUP | POLLERR
_WRITE = POLLOUT | POLLWRNORM | POLLERR
_EXCEPT = POLLPRI


def sleep(task: Task, waits: Waits, timeout: int | None) -> bool:
    """Wait for ``waits`` at most ``timeout`` ns (None: for ever); True when the time is over, else it raises
    WouldBlock."""
    if timeout == 0:
        return True
    waits.until(task.deadline(timeout))
    if timeout is not None and task.expired():
        return True
    raise waits.block(restart=False)


def timespec(task: Task, address: int) -> int | None:
    """The time at ``address`` in ns; None when it is NULL. Raises EINVAL."""
    if not address:
        return None
    given = TIMESPEC.read(task.memory, address)
    if given["sec"] < 0 or not 0 <= given["nsec"] < NS:
        raise LinuxError(errno.EINVAL)
    return given["sec"] * NS + given["nsec"]


def _store_left(task: Task, address: int, timeout: int | None) -> None:
    """Linux tells how much of the time is left."""
    if address and timeout is not None:
        deadline = task.timer
        left = timeout if deadline is None else max(0, deadline - task.process.clock.monotonic())
        TIMESPEC.write(task.memory, address, sec=left // NS, nsec=left % NS)


def _poll(task: Task, fds: int, count: int, timeout: int | None) -> int:
    if not 0 <= count <= max(1024, task.process.identity.limits["RLIMIT_NOFILE"][0]):
        raise LinuxError(errno.EINVAL)
    size = POLLFD.size(task.process.pointer_size)
    items = [POLLFD.read(task.memory, fds + n * size) for n in range(count)]
    waits = Waits()
    ready = 0
    for n, item in enumerate(items):
        found = 0
        if item["fd"] >= 0:
            file = task.files.files.get(item["fd"])
            if file is None:
                found = c.POLLNVAL
            else:
                events = item["events"] & 0xFFFF | POLLERR | POLLHUP
                found = file.poll() & events
                if not found:
                    file.wait(waits, events)
        ready += found != 0
        POLLFD.write(task.memory, fds + n * size, **(item | {"revents": found}))
    if not ready:
        sleep(task, waits, timeout)
    return ready


@syscall("poll", "fds:pollfds nfds:uint timeout:int")
def poll(task: Task, fds: int, nfds: int, timeout: int) -> int:
    return _poll(task, fds, nfds, None if timeout < 0 else timeout * 1_000_000)


@syscall("ppoll", "fds:pollfds nfds:uint timeout:timespec sigmask:addr sigsetsize:size")
def ppoll(task: Task, fds: int, nfds: int, timeout: int, sigmask: int, sigsetsize: int) -> int:
    limit = timespec(task, timeout)
    with signal_mask(task, sigmask, sigsetsize):
        result = _poll(task, fds, nfds, limit)
    _store_left(task, timeout, limit)
    return result


@contextmanager
def signal_mask(task: Task, address: int, size: int) -> Iterator[None]:
    """Block exactly the signals of the set at ``address`` while the call waits (NULL: no change): the mask that the
    task had comes back when the call ends, or behind the handler of a signal that ends it."""
    if address and size != 8:
        raise LinuxError(errno.EINVAL)
    if address and task.saved_mask is None:
        wanted = task.memory.u64(address)
        task.saved_mask, task.mask = task.mask, wanted
    try:
        yield
    except WouldBlock:
        raise
    except BaseException:
        _unmask(task, address)
        raise
    _unmask(task, address)


def _unmask(task: Task, address: int) -> None:
    if address and task.saved_mask is not None:
        task.mask, task.saved_mask = task.saved_mask, None


def _select(task: Task, count: int, addresses: tuple[int, int, int], timeout: int | None) -> int:
    if count < 0:
        raise LinuxError(errno.EINVAL)
    word = task.process.pointer_size
    count = min(count, max(1024, task.process.identity.limits["RLIMIT_NOFILE"][1]))
    size = (count + 8 * word - 1) // (8 * word) * word
    wanted = [int.from_bytes(task.memory.read(a, size), "little") if a else 0 for a in addresses]
    found = [0, 0, 0]
    waits = Waits()
    ready = 0
    for fd in range(count):
        asked = [events for events, bits in zip((_READ, _WRITE, _EXCEPT), wanted, strict=True) if bits >> fd & 1]
        if not asked:
            continue
        file = task.files.get(fd)
        now = file.poll()
        for n, events in enumerate((_READ, _WRITE, _EXCEPT)):
            if wanted[n] >> fd & 1 and now & events:
                found[n] |= 1 << fd
                ready += 1
        file.wait(waits, sum(asked_events & (POLLIN | POLLOUT | POLLPRI) for asked_events in asked))
    if not ready:
        sleep(task, waits, timeout)
    for address, bits in zip(addresses, found, strict=True):
        if address:
            task.memory.write(address, bits.to_bytes(size, "little"))
    return ready


@syscall("_newselect", "nfds:int readfds:fd_set writefds:fd_set exceptfds:fd_set timeout:timeval")
def newselect(task: Task, nfds: int, readfds: int, writefds: int, exceptfds: int, timeout: int) -> int:
    limit = None
    if timeout:
        given = TIMEVAL.read(task.memory, timeout)
        if given["sec"] < 0 or given["usec"] < 0:
            raise LinuxError(errno.EINVAL)
        limit = given["sec"] * NS + given["usec"] * 1000
    result = _select(task, nfds, (readfds, writefds, exceptfds), limit)
    if limit is not None:
        left = limit if task.timer is None else max(0, task.timer - task.process.clock.monotonic())
        TIMEVAL.write(task.memory, timeout, sec=left // NS, usec=left % NS // 1000)
    return result


@syscall("pselect6", "nfds:int readfds:fd_set writefds:fd_set exceptfds:fd_set timeout:timespec sigmask:addr")
def pselect6(task: Task, nfds: int, readfds: int, writefds: int, exceptfds: int, timeout: int, sigmask: int) -> int:
    limit = timespec(task, timeout)
    word = task.process.pointer_size
    mask, size = (task.memory.pointer(sigmask), task.memory.pointer(sigmask + word)) if sigmask else (0, 0)
    with signal_mask(task, mask, size):
        result = _select(task, nfds, (readfds, writefds, exceptfds), limit)
    _store_left(task, timeout, limit)
    return result


@syscall("epoll_create", "size:int")
def epoll_create(task: Task, size: int) -> int:
    if size <= 0:
        raise LinuxError(errno.EINVAL)
    return install(task, Epoll())


@syscall("epoll_create1", "flags:open_flags")
def epoll_create1(task: Task, flags: int) -> int:
    if flags & ~c.O_CLOEXEC:
        raise LinuxError(errno.EINVAL)
    return install(task, Epoll(), flags)


def _epoll(task: Task, fd: int) -> Epoll:
    file = task.files.get(fd)
    if not isinstance(file, Epoll):
        raise LinuxError(errno.EINVAL)
    return file


@syscall("epoll_ctl", "epfd:fd op:epoll_op fd:fd event:epoll_event")
def epoll_ctl(task: Task, epfd: int, op: int, fd: int, event: int) -> int:
    if op not in c.EPOLL_OPERATIONS.values():
        raise LinuxError(errno.EINVAL)
    given = {"events": 0, "data": 0}
    if op != c.EPOLL_OPERATIONS["EPOLL_CTL_DEL"]:
        given = EPOLL_EVENT.read(task.memory, event)
    task.files.get(epfd)
    file = task.files.get(fd)
    epoll = _epoll(task, epfd)
    if file is epoll:
        raise LinuxError(errno.EINVAL)
    epoll.control(op, fd, file, given["events"], given["data"])
    task.process.kernel.wake(epoll)
    return 0


def _epoll_wait(task: Task, epfd: int, events: int, count: int, timeout: int) -> int:
    size = EPOLL_EVENT.size(task.process.pointer_size)
    epoll = _epoll(task, epfd)
    if not 0 < count <= (1 << 31) // size:
        raise LinuxError(errno.EINVAL)
    task.memory.check_write(events, size)
    found = epoll.collect(count)
    for n, (bits, data) in enumerate(found):
        EPOLL_EVENT.write(task.memory, events + n * size, events=bits, data=data)
    if not found:
        waits = Waits()
        epoll.wait(waits, POLLIN)
        sleep(task, waits, None if timeout < 0 else timeout * 1_000_000)
    return len(found)


@syscall("epoll_wait", "epfd:fd events:addr maxevents:int timeout:int")
def epoll_wait(task: Task, epfd: int, events: int, maxevents: int, timeout: int) -> int:
    return _epoll_wait(task, epfd, events, maxevents, timeout)


@syscall("epoll_pwait", "epfd:fd events:addr maxevents:int timeout:int sigmask:addr sigsetsize:size")
def epoll_pwait(task: Task, epfd: int, events: int, maxevents: int, timeout: int, sigmask: int, size: int) -> int:
    with signal_mask(task, sigmask, size):
        return _epoll_wait(task, epfd, events, maxevents, timeout)
