"""The registry of monitor commands: what QMP and HMP know comes from the decorators here.

A QMP command is a function whose typed signature is its declaration::

    @command("migrate-set-capabilities")
    def migrate_set_capabilities(ctx: Context, capabilities: list[CapabilityStatus]) -> None: ...

(``arguments=Struct`` instead hands the whole checked struct over, for table-made argument lists; with
``raw=True`` the struct only checks and the handler gets the plain values.) An HMP
command is a function called with keyword arguments by QEMU's argument letters (``hmp_args``)::

    @hmp_command("migrate", "detach:-d,resume:-r,uri:s", params="[-d] [-r] uri", help="migrate to URI ...")
    def hmp_migrate(ctx: Context, detach: bool, resume: bool, uri: str) -> None: ctx.monitor.print(...)

    @info_command("migrate", "all:-a", params="[-a]", help="show migration status")

Handlers run in the main loop with the machine lock held and must not wait. A handler that has to keep its
user waiting calls ``ctx.monitor.suspend()`` and, later, from any thread, ``ctx.monitor.resume()``.
Errors are E2kError (CommandError for a QMP class of its own); HMP shows them as ``Error: ...``.
"""

from __future__ import annotations

import os
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from e2kemu.errors import CommandError, E2kError
from e2kemu.loop import MainLoop, report
from e2kemu.monitor.schema import Qapi, Schema, arguments_of, check, encode
from e2kemu.objects import ObjectStore

F = TypeVar("F", bound=Callable[..., Any])
Completion = Callable[["Context", list[str], str], Iterable[str]]
"""(context, words before with the command's name first, text so far) -> candidates for the word."""


class Monitor:
    """What a command may do with the monitor it came from."""

    is_qmp = False

    captured = False
    """The answer is the text that was printed when the handler returns: a command that takes long must be done
    by then, there is nobody to be kept waiting."""

    def __init__(self) -> None:
        self.cpu = 0
        """Number of the CPU that commands are about; ``cpu N`` selects it."""
        self.fds: dict[str, int] = {}
        """Named descriptors (``getfd``); the monitor's until ``take_fd``, also when its client goes."""

    def print(self, text: str, end: str = "\n") -> None:
        """Show text to the person (nothing on QMP)."""

    def suspend(self) -> None:
        """Take no further command from this monitor until ``resume``; the others live on."""

    def resume(self) -> None:
        """End ``suspend``; from any thread."""

    def received_fds(self) -> list[int]:
        """Descriptors that came with the last input (SCM_RIGHTS), now the caller's."""
        return []

    def add_fd(self, name: str, fd: int) -> None:
        """Keep ``fd`` under ``name``; an older one of that name is closed."""
        self.close_fd(name, missing_ok=True)
        self.fds[name] = fd

    def take_fd(self, name: str) -> int:
        """The descriptor called ``name``, now the caller's. Raises CommandError when there is none."""
        if name not in self.fds:
            raise CommandError(f"File descriptor named '{name}' has not been found")
        return self.fds.pop(name)

    def close_fd(self, name: str, *, missing_ok: bool = False) -> None:
        """Close the descriptor called ``name``. Raises CommandError when there is none."""
        if name in self.fds:
            os.close(self.fds.pop(name))
        elif not missing_ok:
            raise CommandError(f"File descriptor named '{name}' not found")


@dataclass
class Context:
    """The world of a command: one emulator, and the monitor the command came from."""

    vm: Any
    """The ``Machine``."""
    loop: MainLoop
    objects: ObjectStore
    chardevs: Any = None
    """The ``ChardevSet``."""
    services: dict[str, Any] = field(default_factory=dict)
    """Where other subsystems hang theirs, for example "migration"."""
    monitor: Monitor = field(default_factory=Monitor)

    @property
    def cpu(self) -> Any:
        """The CPU that the monitor has selected."""
        return self.vm.cpus[self.monitor.cpu]

    def at(self, monitor: Monitor) -> Context:
        """The same world seen from ``monitor``."""
        return replace(self, monitor=monitor)


@dataclass(frozen=True)
class QmpCommand:
    """A declared QMP command."""

    name: str
    handler: Callable[..., Any]
    arguments: type[msgspec.Struct]
    passing: str
    """What the handler takes: "members" of the argument struct, the "struct" itself, or "raw" values."""
    result: Any
    oob: bool

    def run(self, ctx: Context, values: Mapping[str, Any]) -> Any:
        """Check the arguments, run, encode the result. Raises E2kError."""
        arguments = check(values, self.arguments)
        if self.passing == "raw":
            return encode(self.handler(ctx, values))
        if self.passing == "struct":
            return encode(self.handler(ctx, arguments))
        members = {name: getattr(arguments, name) for name in arguments.__struct_fields__}
        return encode(self.handler(ctx, **members))


@dataclass(frozen=True)
class HmpCommand:
    """A declared HMP command; ``names`` holds the name and its aliases."""

    names: tuple[str, ...]
    args_type: str
    params: str
    help: str
    handler: Callable[..., Any]
    completion: Completion | None
    details: Callable[[], str] | None
    """What ``help NAME`` tells beside ``usage``."""

    @property
    def name(self) -> str:
        return self.names[0]

    def usage(self, prefix: str = "") -> str:
        """The line of ``help``: ``quit|q  -- quit the emulator``."""
        return f"{prefix}{'|'.join(self.names)} {self.params} -- {self.help}"


QMP: dict[str, QmpCommand] = {}
"""All QMP commands by name."""
HMP: dict[str, HmpCommand] = {}
"""All HMP commands by their first name."""
INFO: dict[str, HmpCommand] = {}
"""All ``info`` items by name."""
EVENTS: dict[str, type[msgspec.Struct] | None] = {}
"""All events by name, with the type of their data."""


def command(
    name: str,
    *,
    arguments: type[msgspec.Struct] | None = None,
    raw: bool = False,
    rename: Mapping[str, str] | None = None,
    oob: bool = False,
) -> Callable[[F], F]:
    """Declare a QMP command; see the module.

    ``rename`` gives argument names that are not the kebab-case of the parameter's; ``oob``: may be run
    out of band.
    """

    def register(handler: F) -> F:
        if name in QMP:
            raise ValueError(f"QMP command {name} declared twice")
        kind = arguments if arguments is not None else arguments_of(handler, rename or {})
        result = typing.get_type_hints(handler).get("return")
        passing = "raw" if raw else "struct" if arguments is not None else "members"
        QMP[name] = QmpCommand(name, handler, kind, passing, result, oob)
        return handler

    return register


def _register_hmp(
    table: dict[str, HmpCommand],
    name: str,
    args_type: str,
    params: str,
    help: str,
    aliases: tuple[str, ...],
    completion: Completion | None,
    details: Callable[[], str] | None = None,
) -> Callable[[F], F]:
    def register(handler: F) -> F:
        taken = {known for entry in table.values() for known in entry.names}
        for known in (name, *aliases):
            if known in taken:
                raise ValueError(f"HMP command {known} declared twice")
        table[name] = HmpCommand((name, *aliases), args_type, params, help, handler, completion, details)
        return handler

    return register


def hmp_command(
    name: str,
    args_type: str = "",
    *,
    params: str = "",
    help: str,
    aliases: tuple[str, ...] = (),
    completion: Completion | None = None,
    details: Callable[[], str] | None = None,
) -> Callable[[F], F]:
    """Declare an HMP command; see the module. ``details``: text for ``help NAME``, after the usage."""
    return _register_hmp(HMP, name, args_type, params, help, aliases, completion, details)


def info_command(
    name: str,
    args_type: str = "",
    *,
    params: str = "",
    help: str,
    completion: Completion | None = None,
) -> Callable[[F], F]:
    """Declare ``info NAME``."""
    return _register_hmp(INFO, name, args_type, params, help, (), completion)


def declare_event(name: str, data: type[msgspec.Struct] | None = None) -> None:
    """Declare an event for the schema."""
    EVENTS[name] = data


def run_qmp(ctx: Context, name: str, values: Mapping[str, Any], *, oob: bool = False) -> Any:
    """Run a QMP command by name; plain JSON values back. Raises CommandError only."""
    found = QMP.get(name)
    if found is None:
        raise CommandError(f"The command {name} has not been found", "CommandNotFound")
    if oob and not found.oob:
        raise CommandError(f"The command {name} does not support OOB")
    try:
        return found.run(ctx, values)
    except CommandError:
        raise
    except E2kError as error:
        raise CommandError(str(error)) from error
    except Exception as error:
        # A fault of ours must not cost the user his guest: say it, go on.
        report(f"e2kemu: internal error in '{name}'\n{traceback.format_exc()}")
        raise CommandError(f"internal error in '{name}': {error}") from error


def find_hmp(name: str, table: Mapping[str, HmpCommand]) -> HmpCommand | None:
    """The command of that name or alias, or the only one that begins so."""
    for entry in table.values():
        if name in entry.names:
            return entry
    starting = [entry for entry in table.values() if entry.name.startswith(name)]
    return starting[0] if name and len(starting) == 1 else None


def schema() -> list[dict[str, Any]]:
    """What ``query-qmp-schema`` returns."""
    result = Schema()
    for entry in QMP.values():
        result.command(entry.name, entry.arguments, entry.result, oob=entry.oob)
    for name, data in EVENTS.items():
        result.event(name, data)
    return result.entries()


class _Shutdown(Qapi):
    guest: bool
    reason: str


class _Watchdog(Qapi):
    action: str


for _name, _data in {
    "STOP": None,
    "RESUME": None,
    "SHUTDOWN": _Shutdown,
    "RESET": _Shutdown,
    "POWERDOWN": None,
    "WATCHDOG": _Watchdog,
}.items():
    declare_event(_name, _data)
