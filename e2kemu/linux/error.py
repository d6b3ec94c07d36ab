"""How a system call ends other than with a value: an errno, sleep, or nothing at all.

Handlers raise these; ``linux/kernel.py`` catches them. An ``OSError`` of the host becomes its errno.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP = 1, 2, 4, 8, 16
"""Events of ``WouldBlock.fds``, as in poll(2)."""


class LinuxError(Exception):
    """The call fails with ``number`` (an E... of ``errno``; e2k uses the generic numbers)."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.number = number


class WouldBlock(Exception):
    """The call cannot finish now: the task sleeps, and the call is executed again, from its start and with the same
    arguments, when one of the conditions holds.

    ``fds``: host file descriptors with the poll events waited for; ``deadline``: process time in ns
    (``Clock.monotonic``); ``keys``: anything hashable, woken by ``Kernel.wake(key)`` (futex words, children);
    ``restart``: a signal handler with SA_RESTART lets the call go on (False: it ends in any case).
    ``interrupted``: its result when a signal ends it (None: ``Task.progress`` when that is positive, else -EINTR).
    ``on_signal`` is called when a signal ends it (a sleep stores what is left of it).
    A signal ends the sleep too. What the call did so far it keeps in ``Task.progress``.
    """

    def __init__(self, fds: Sequence[tuple[int, int]] = (), *, deadline: int | None = None,
                 keys: Sequence[object] = (), restart: bool = True, interrupted: int | None = None,
                 on_signal: Callable[[], None] | None = None) -> None:
        super().__init__("would block")
        self.fds = tuple(fds)
        self.deadline = deadline
        self.keys = tuple(keys)
        self.restart = restart
        self.interrupted = interrupted
        self.on_signal = on_signal


class NoReturn(Exception):
    """The call does not come back to where it was made: exit, exec, sigreturn. The registers are as they shall be."""
