"""The table of system calls: who handles which, and how its arguments look.

    @syscall("openat", "dirfd:fd path:path flags:open_flags mode:octal")
    def openat(task: Task, dirfd: int, path: int, flags: int, mode: int) -> int: ...

The handler gets each argument as an int, converted by the width of its kind: ``uint``: the low 32 bits; ``long``:
pointer-sized, signed; ``size``, ``ulong`` and all of ``POINTERS``: pointer-sized, unsigned; ``off``: 64 bits, signed,
in both modes; every other kind (``int`` ``fd`` ``octal`` ``hex`` ``open_flags`` ...): the low 32 bits, signed. What it
returns is the result (masked to 64 bits); it fails with ``raise LinuxError(errno.E...)``, any ``OSError`` is
translated, and it waits by ``raise WouldBlock(...)``. The same text gives ``--strace`` its lines;
``@formatter("open_flags")`` teaches it a kind. Numbers are in ``numbers.py``; one handler may have several names
(``names`` separated by ``|``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2kemu.linux.numbers import NUMBERS

if TYPE_CHECKING:
    from e2kemu.linux.task import Task

Handler = Callable[..., int]
Formatter = Callable[["Task", int, "Call", "tuple[int, ...]", int], str]
"""(task, value, call, all arguments, result) -> text. ``result`` is negative for an errno."""

M64 = (1 << 64) - 1


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


POINTERS = ("addr", "path", "buf", "out", "received", "strings", "sigset", "stat", "stat64", "iovec", "iovec_out",
            "sockaddr", "timespec", "timeval", "itimerspec", "pollfds", "fd_set", "fd_pair", "epoll_event", "msghdr")
"""Kinds that are addresses of something."""

KINDS: dict[str, Callable[[int, int], int]] = {
    **dict.fromkeys(("uint", "hex", "clone_flags"), lambda value, pointer: value & 0xFFFFFFFF),
    **dict.fromkeys(("long", "fcntl_arg"), lambda value, pointer: _signed(value, pointer * 8)),
    "off": lambda value, pointer: _signed(value, 64),
    **dict.fromkeys(("size", "ulong", *POINTERS), lambda value, pointer: value & (1 << pointer * 8) - 1),
}
"""Kind -> (register value, pointer size in bytes) -> argument; 32 bits signed when not here."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: its name and its kind."""

    name: str
    kind: str

    def convert(self, value: int, pointer_size: int) -> int:
        """The register's value as the handler gets it."""
        rule = KINDS.get(self.kind)
        return _signed(value, 32) if rule is None else rule(value, pointer_size)


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that we have."""

    name: str
    number: int
    arguments: tuple[Argument, ...]
    handler: Handler


CALLS: dict[int, Call] = {}
"""All calls by number; complete once ``e2kemu.linux.calls`` is imported."""

FORMATTERS: dict[str, Formatter] = {}
"""How ``--strace`` prints an argument, by kind."""


def syscall(names: str, signature: str = "") -> Callable[[Handler], Handler]:
    """Register the handler of the calls ``names`` ("pipe|pipe2") with ``signature`` ("name:kind ...")."""
    arguments = tuple(Argument(*item.split(":")) for item in signature.split())

    def register(handler: Handler) -> Handler:
        for name in names.split("|"):
            number = NUMBERS[name]
            if number in CALLS:
                raise ValueError(f"system call {name} has two handlers")
            CALLS[number] = Call(name, number, arguments, handler)
        return handler

    return register


def formatter(kind: str) -> Callable[[Formatter], Formatter]:
    """Register how ``--strace`` prints arguments of ``kind``."""

    def register(function: Formatter) -> Formatter:
        FORMATTERS[kind] = function
        return function

    return register


def arguments_of(call: Call, registers: list[int], pointer_size: int) -> tuple[Any, ...]:
    """What the handler is called with behind the task."""
    return tuple(a.convert(value, pointer_size) for a, value in zip(call.arguments, registers, strict=False))
