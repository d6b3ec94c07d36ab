"""Channels over file descriptors that are no sockets: pipes, files, character devices.

Pipes and devices are made non-blocking and polled together with a ``Waker``, since nothing else can wake a
thread out of write(2) on a full pipe. The flag belongs to the open file, which other processes may share, so
it is put back at the end. Regular files never block for long and are read and written directly.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable, Sequence

from e2kemu.errors import ChannelError, OptionError
from e2kemu.migration.address import FdAddress
from e2kemu.migration.channel import Buffer, Channel, DescriptorChannel, Waker, reason, write_fully
from e2kemu.migration.channel_socket import SocketChannel

PIPE_SIZE = 1 << 20
"""Bytes a pipe shall hold, as far as the system allows: fewer switches between writer and reader."""


class FdEnd:
    """One direction of an FdChannel: a descriptor and how to wait for it."""

    def __init__(self, fd: int, events: int, waker: Waker) -> None:
        self.fd = fd
        self._waker = waker
        self._poller: select.poll | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return
        self._was_blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        if stat.S_ISFIFO(mode):
            try:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:
                pass  # an ordinary user has a limit
        self._poller = select.poll()
        self._poller.register(fd, events)
        self._poller.register(waker, select.POLLIN)

    def attempt(self, call: Callable[[], int]) -> int:
        """``call()`` as soon as the descriptor is ready; raises ChannelError's cause OSError when woken."""
        while True:
            if self._poller is not None:
                self._poller.poll()
                if self._waker.is_set:
                    raise InterruptedError
            try:
                return call()
            except BlockingIOError:
                continue

    def close(self) -> None:
        if self._poller is not None and self._was_blocking:
            try:
                os.set_blocking(self.fd, True)
            except OSError:
                pass
        os.close(self.fd)


class FdChannel(DescriptorChannel):
    """Reads from one descriptor and writes to another (or the same); owns both. -1: no such direction."""

    def __init__(self, name: str, *, read_fd: int = -1, write_fd: int = -1) -> None:
        super().__init__(name)
        self._waker = Waker()
        self._reader = FdEnd(read_fd, select.POLLIN, self._waker) if read_fd >= 0 else None
        self._writer = FdEnd(write_fd, select.POLLOUT, self._waker) if write_fd >= 0 else None
        self.supports_return_path = self._reader is not None and self._writer is not None

    def readinto(self, view: memoryview) -> int:
        end = self._reader
        if end is None:
            raise ChannelError(f"Unable to read from {self.name}: it is open for writing only")
        with self._using("read from"):
            return end.attempt(lambda: os.readv(end.fd, [view]))

    def writev(self, buffers: Sequence[Buffer]) -> None:
        end = self._writer
        if end is None:
            raise ChannelError(f"Unable to write to {self.name}: it is open for reading only")
        with self._using("write to"):
            write_fully(lambda views: end.attempt(lambda: os.writev(end.fd, views)), buffers)

    def close_writer(self) -> None:
        """Give the reader at the other end its end of file. Not while another thread writes."""
        with self._use_lock:
            end, self._writer = self._writer, None
        if end is not None:
            end.close()

    def _wake(self) -> None:
        self._waker.set()

    def _release(self) -> None:
        for fd_end in {id(end): end for end in (self._reader, self._writer) if end is not None}.values():
            fd_end.close()
        self._reader = self._writer = None
        self._waker.close()


def take_fd(address: FdAddress, get_fd: Callable[[str], int]) -> int:
    """The descriptor of ``address``, now ours to close.

    A name is looked up with ``get_fd`` (it raises OptionError, and gives up its own claim). Raises
    OptionError when a number is no open descriptor.
    """
    if not address.name[:1].isdigit():
        return get_fd(address.name)
    if not address.name.isascii() or not address.name.isdecimal():
        raise OptionError(f"Invalid file descriptor number '{address.name}'")
    fd = int(address.name)
    try:
        if fd > 2:
            os.set_inheritable(fd, False)
            return fd
        # Standard input and output stay occupied: the next file opened must not become one of them.
        taken = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)
        return taken
    except (OSError, OverflowError) as error:
        why = reason(error) if isinstance(error, OSError) else "Bad file descriptor"
        raise OptionError(f"Invalid file descriptor number '{address.name}': {why}") from error


def open_fd(address: FdAddress, get_fd: Callable[[str], int], *, incoming: bool) -> Channel:
    """The channel on ``address``' descriptor: a stream socket, a pipe, or a file from its present offset on.

    Raises OptionError when it is none of these or open for the wrong direction.
    """
    fd = take_fd(address, get_fd)
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            sock = socket.socket(fileno=os.dup(fd))
            if sock.type != socket.SOCK_STREAM:
                sock.close()
                raise OptionError(f"{address}: not a stream socket")
            os.close(fd)
            fd = -1
            return SocketChannel(sock, str(address))
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if access == (os.O_WRONLY if incoming else os.O_RDONLY):
            raise OptionError(f"{address}: not open for {'reading' if incoming else 'writing'}")
        channel = FdChannel(str(address), **{"read_fd" if incoming else "write_fd": fd})
        fd = -1
        return channel
    except OSError as error:
        raise OptionError(f"{address}: {reason(error)}") from error
    finally:
        if fd >= 0:
            os.close(fd)
