"""The handlers of system calls, by theme; importing this package fills ``table.CALLS``."""

from e2kemu.linux import strace_files
from e2kemu.linux.calls import (
    attributes,
    directory,
    e2k,
    file,
    group,
    ids,
    inotify,
    message,
    mm,
    oldsignals,
    pipe,
    poll,
    scheduling,
    signals,
    socket,
    status,
    system,
    threads,
    time,
    timer,
    transfer,
)

__all__ = ["attributes", "directory", "e2k", "file", "group", "ids", "inotify", "message", "mm", "oldsignals", "pipe",
           "poll", "scheduling", "signals", "socket", "status", "strace_files", "system", "threads", "time", "timer",
           "transfer"]
