"""A channel: the full-duplex byte stream under a migration.

``Channel`` is what the stream writer, the stream reader and the return path see, whatever lies beneath:
a socket (`channel_socket`), a pipe or file descriptor (`channel_fd`), a child process (`channel_exec`), a
file (`channel_file`) or TLS over any of them (`tls`). ``Listener`` gives the incoming ones.

Threads: one thread may write while another reads; any thread may call ``shutdown`` or ``close``. A file
descriptor is released only when the last call that uses it has returned, so its number cannot be taken by
somebody else while a read is still going on with it.

A life: connect or accept, [TLS handshake], read/write, ``finish`` when all went well, ``close`` always.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from e2kemu.errors import ChannelError
from e2kemu.migration.hooks import RamHooks

Buffer = bytes | bytearray | memoryview

IOV_MAX = os.sysconf("SC_IOV_MAX")
"""The most buffers one sendmsg or writev takes."""

SocketAddressDict = dict[str, Any]
"""QEMU's SocketAddress: {"type": "inet", "host", "port", ...} or {"type": "unix", "path"}."""


def reason(error: OSError) -> str:
    """The system's words for ``error``: "Connection refused"."""
    return error.strerror or str(error) or type(error).__name__


def write_fully(send: Callable[[Sequence[memoryview]], int], buffers: Sequence[Buffer]) -> None:
    """Give ``buffers`` to ``send``, which takes up to IOV_MAX of them and returns the bytes it took."""
    views = [view for view in map(byte_view, buffers) if len(view)]
    at = 0
    while at < len(views):
        taken = send(views[at : at + IOV_MAX])
        while taken and taken >= len(views[at]):
            taken -= len(views[at])
            at += 1
        if taken:
            views[at] = views[at][taken:]


def byte_view(buffer: Buffer) -> memoryview:
    """``buffer`` (contiguous, of any item type) as a memoryview of bytes."""
    view = memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class Channel(ABC):
    """One byte stream in each direction. All errors are ChannelError and name the channel."""

    supports_return_path: bool = True
    """Whether bytes can come back on it (False: a file, or a pipe with one direction)."""

    ram_hooks: RamHooks | None = None
    """What the transport does in the RAM section, for one that moves pages by other means."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def readinto(self, view: memoryview) -> int:
        """Read up to ``len(view)`` bytes; blocks until there is at least one. 0 is the end of the stream."""

    @abstractmethod
    def writev(self, buffers: Sequence[Buffer]) -> None:
        """Write all bytes of all ``buffers``, in order; blocks until the last one was taken.

        A buffer that can be written to is the channel's meanwhile, and is afterwards as it was: so no memory that
        anybody else looks at.
        """

    def read(self, max_bytes: int) -> bytes:
        """Up to ``max_bytes`` (at least one, blocking); b"" at the end of the stream."""
        buffer = bytearray(max_bytes)
        size = self.readinto(memoryview(buffer))
        del buffer[size:]
        return bytes(buffer)

    @abstractmethod
    def finish(self) -> None:
        """After everything went well: the peer learns that no more is written, and what can still fail fails.

        TLS sends close_notify; exec closes the command's standard input, waits for its end and raises
        ChannelError when its status is not 0; the others have nothing to do. Nothing may be written
        afterwards, and what the peer still sends may be lost. Blocks; ``shutdown`` wakes it.
        """

    @abstractmethod
    def shutdown(self) -> None:
        """Make every blocked and every later read or write raise ChannelError.

        Any thread; returns at once; again is no error. The descriptor stays until ``close``.
        """

    def abandon(self) -> None:
        """From now on ``close`` makes void what is on its way, and what the peer writes fails, where that can be.

        TCP resets the connection; with the others nobody can write to who has closed anyway. Any thread; returns
        at once; never raises.
        """
        return

    def delivered(self) -> bool:
        """Nothing that was written is still on its way, as far as one can tell: the peer's system has it all.

        Any thread; returns at once; never raises.
        """
        return True

    def be_prompt(self) -> None:
        """From now on little may queue up in either direction: somebody waits for what is written next.

        TCP has buffers of many MiB; others are small anyway. Any thread; returns at once; never raises.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Release everything. Any thread; wakes blocked calls, never raises, again is no error."""

    def describe(self) -> str:
        """What it is, for a log line."""
        return self.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class DescriptorChannel(Channel):
    """A channel that owns descriptors: knows who uses them, and when they may go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._use_lock = threading.Lock()
        self._users = 0
        self._down = False
        self._closed = False

    def finish(self) -> None:
        self._check_open("finish")

    def shutdown(self) -> None:
        with self._use_lock:
            if self._down or self._closed:
                return
            self._down = True
            self._wake()

    def close(self) -> None:
        with self._use_lock:
            if self._closed:
                return
            self._closed = True
            self._wake()
            release = self._users == 0
        if release:
            self._release()

    @abstractmethod
    def _wake(self) -> None:
        """Make blocked system calls return. Called with the lock held; must not block."""

    @abstractmethod
    def _release(self) -> None:
        """Close the descriptors. Called once, when nobody uses them."""

    @contextmanager
    def _using(self, doing: str) -> Iterator[None]:
        """Around every use of a descriptor; makes OSError a ChannelError. ``doing``: "read from" or such."""
        with self._use_lock:
            self._check_open(doing)
            self._users += 1
        try:
            yield
        except OSError as error:
            self._check_open(doing)
            raise ChannelError(f"Unable to {doing} {self.name}: {reason(error)}") from error
        finally:
            with self._use_lock:
                self._users -= 1
                release = self._closed and self._users == 0
            if release:
                self._release()

    def _check_open(self, doing: str) -> None:
        """Raises ChannelError when this side has shut the channel down."""
        if self._closed:
            raise ChannelError(f"Unable to {doing} {self.name}: the channel is closed")
        if self._down:
            raise ChannelError(f"Unable to {doing} {self.name}: the channel was shut down")


class Waker:
    """An eventfd that, once set, stays readable: it ends the ``poll`` of whoever waits with it.

    ``Waker`` is also the cancel object of ``uri.connect``: ``set()`` from any thread ends the attempt.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0)
        self._is_set = False

    @property
    def is_set(self) -> bool:
        return self._is_set

    def fileno(self) -> int:
        return self._fd

    def set(self) -> None:
        """Wake everybody who polls, now and later. Any thread; after ``close`` it does nothing."""
        with self._lock:
            self._is_set = True
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __del__(self) -> None:
        self.close()


class Listener(ABC):
    """Where incoming channels come from."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def socket_addresses(self) -> list[SocketAddressDict]:
        """What query-migrate shows as socket-address: real ports; empty unless it is a socket."""
        return []

    @abstractmethod
    def accept(self) -> Channel:
        """The next incoming channel; blocks. Raises ChannelError, also when ``close`` is called meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening. Any thread; wakes ``accept``; again is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class SingleListener(Listener):
    """The listener of a transport with exactly one peer (fd, exec, file): its channel is there already."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel.name)
        self._condition = threading.Condition()
        self._channel: Channel | None = channel
        self._closed = False

    def accept(self) -> Channel:
        with self._condition:
            while self._channel is None and not self._closed:
                self._condition.wait()
            if self._closed or self._channel is None:
                raise ChannelError(f"Unable to accept on {self.name}: the listener is closed")
            channel, self._channel = self._channel, None
            return channel

    def close(self) -> None:
        with self._condition:
            self._closed = True
            channel, self._channel = self._channel, None
            self._condition.notify_all()
        if channel is not None:
            channel.close()
