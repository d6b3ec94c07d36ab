"""From an address to a channel: ``connect`` for the source, ``listen`` for the destination.

The text and the QMP form of addresses are `address`'s; each transport has its own ``channel_*`` module.
"""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.errors import OptionError
from e2kemu.migration.address import (
    Address,
    ExecAddress,
    FdAddress,
    FileAddress,
    InetAddress,
    UnixAddress,
    from_channels,
    from_qmp,
    parse_uri,
)
from e2kemu.migration.channel import Channel, Listener, SingleListener, Waker
from e2kemu.migration.channel_exec import ExecChannel
from e2kemu.migration.channel_fd import open_fd
from e2kemu.migration.channel_file import open_file
from e2kemu.migration.channel_socket import connect_inet, connect_unix, listen_inet, listen_unix

__all__ = ["Address", "connect", "from_channels", "from_qmp", "listen", "no_named_fds", "parse_uri"]


def no_named_fds(name: str) -> int:
    """The ``get_fd`` of somebody without a monitor: knows no names."""
    raise OptionError(f"File descriptor named '{name}' has not been found")


def connect(
    address: Address, get_fd: Callable[[str], int] = no_named_fds, cancel: Waker | None = None
) -> Channel:
    """The outgoing channel to ``address``. Blocks until the peer answers; ``cancel.set()`` from another
    thread ends that (but not the look-up of a host name).

    ``get_fd`` gives the descriptor that a name stands for and no longer owns it; it raises OptionError when
    there is none. Raises ChannelError ("Failed to connect to 'host:port': Connection refused") and
    OptionError (fd).
    """
    match address:
        case InetAddress():
            return connect_inet(address, cancel)
        case UnixAddress():
            return connect_unix(address, cancel)
        case FdAddress():
            return open_fd(address, get_fd, incoming=False)
        case ExecAddress():
            return ExecChannel(address)
        case FileAddress():
            return open_file(address, incoming=False)


def listen(address: Address, get_fd: Callable[[str], int] = no_named_fds) -> Listener:
    """Make ``address`` ready for the source: listen, start the command, open the file.

    Returns at once; ``accept`` of the listener waits. Raises ChannelError and OptionError as ``connect``.
    """
    match address:
        case InetAddress():
            return listen_inet(address)
        case UnixAddress():
            return listen_unix(address)
        case FdAddress():
            return SingleListener(open_fd(address, get_fd, incoming=True))
        case ExecAddress():
            return SingleListener(ExecChannel(address))
        case FileAddress():
            return SingleListener(open_file(address, incoming=True))
