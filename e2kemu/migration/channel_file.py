"""The ``file:`` transport: a migration stream in a file, from an offset on."""

from __future__ import annotations

import os
import stat

from e2kemu.errors import ChannelError
from e2kemu.migration.address import FileAddress
from e2kemu.migration.channel import reason
from e2kemu.migration.channel_fd import FdChannel

MODE = 0o660
"""Of a file that is made: guest memory is nobody else's business."""


def open_file(address: FileAddress, *, incoming: bool) -> FdChannel:
    """Open the file at its offset; an outgoing stream makes the file, or cuts it off at the offset.

    Raises ChannelError.
    """
    # O_NONBLOCK: a FIFO without its other end must not hang whoever opens it.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDONLY if incoming else os.O_WRONLY | os.O_CREAT)
    fd = -1
    try:
        fd = os.open(address.filename, flags, MODE)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory")
        if stat.S_ISREG(mode) and not incoming:
            os.ftruncate(fd, address.offset)
        if address.offset:
            os.lseek(fd, address.offset, os.SEEK_SET)
        channel = FdChannel(str(address), **{"read_fd" if incoming else "write_fd": fd})
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise ChannelError(f"Unable to open {address.filename}: {reason(error)}") from error
    return channel
