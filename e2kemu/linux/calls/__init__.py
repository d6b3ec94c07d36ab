"""The handlers of system calls, by theme; importing this package fills ``table.CALLS``."""

from e2kemu.linux.calls import (
    directory,
    e2k,
    file,
    mm,
    pipe,
    poll,
    signals,
    socket,
    status,
    system,
    threads,
    time,
    transfer,
)

__all__ = ["directory", "e2k", "file", "mm", "pipe", "poll", "signals", "socket", "status", "system", "threads", "time",
           "transfer"]
