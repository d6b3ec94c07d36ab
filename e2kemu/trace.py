"""What ``-d`` and ``-D`` show: log items that cost one test when they are off.

Use: ``if trace.mask & Log.UNIMP: trace.log("...")``, or ``trace.unimp(...)`` and
``trace.guest_error(...)`` on paths that are rare anyway. Text goes to stderr, or to the file of ``-D``.
"""

from __future__ import annotations

import sys
import threading
from enum import IntFlag, auto
from typing import TextIO

from e2kemu.errors import OptionError


class Log(IntFlag):
    """Log items; the names in lower case are those of ``-d``."""

    IN_ASM = auto()
    OP = auto()
    OUT_ASM = auto()
    EXEC = auto()
    CPU = auto()
    INT = auto()
    MMU = auto()
    UNIMP = auto()
    GUEST_ERRORS = auto()
    PAGE = auto()
    CPU_RESET = auto()
    MIGRATION = auto()


HELP = {
    Log.IN_ASM: "show e2k code of each block when it is first decoded",
    Log.OP: "show what the executor made of each block",
    Log.OUT_ASM: "show host code of each compiled region",
    Log.EXEC: "show the address of each block executed",
    Log.CPU: "show CPU registers before entering a block",
    Log.INT: "show traps and interrupts",
    Log.MMU: "log MMU-related activities",
    Log.UNIMP: "log unimplemented functionality",
    Log.GUEST_ERRORS: "log when the guest does something invalid",
    Log.PAGE: "dump pages at the start of user mode emulation",
    Log.CPU_RESET: "show CPU state before CPU resets",
    Log.MIGRATION: "log the phases of a migration",
}

mask: Log = Log(0)
"""The items that are on."""

_file: TextIO | None = None
_lock = threading.Lock()


def set_items(text: str) -> None:
    """Switch on exactly the comma-separated items of ``text`` ("none": nothing, "all": everything)."""
    global mask
    chosen = Log(0)
    for name in filter(None, text.split(",")):
        if name == "all":
            chosen = ~Log(0)
        elif name.upper() in Log.__members__:
            chosen |= Log[name.upper()]
        elif name != "none":
            raise OptionError(f"invalid log item '{name}' (-d help lists them)")
    mask = chosen


def help_text() -> str:
    """The list that ``-d help`` prints."""
    lines = [f"{item.name.lower():15s} {text}" for item, text in HELP.items() if item.name]
    return "Log items (comma separated):\n" + "\n".join(lines) + "\n"


def set_file(path: str | None) -> None:
    """Send the log to ``path`` (None: stderr). Raises OptionError when it cannot be opened."""
    global _file
    try:
        _file = open(path, "w", buffering=1) if path else None  # noqa: SIM115 - lives with the process
    except OSError as error:
        raise OptionError(f"cannot open log file '{path}': {error.strerror}") from error


def log(text: str) -> None:
    """Write one entry; the caller has tested ``mask``."""
    with _lock:
        print(text, file=_file or sys.stderr, flush=True)


def unimp(text: str) -> None:
    """Log something the emulator does not have (``-d unimp``)."""
    if mask & Log.UNIMP:
        log(text)


def guest_error(text: str) -> None:
    """Log something the guest should not have done (``-d guest_errors``)."""
    if mask & Log.GUEST_ERRORS:
        log(text)


def forked() -> None:
    """This process is a fork in which only the calling thread goes on: nobody is in the middle of an entry."""
    global _lock
    _lock = threading.Lock()
