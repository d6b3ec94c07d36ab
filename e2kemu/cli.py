"""The ``e2kemu`` command: QEMU's options -> a machine, its consoles and monitors -> run -> exit status.

Everything wrong at the start is one line, ``e2kemu: -option value: reason``, and status 1. Afterwards the
status is the guest's, or 0 for ``quit``, a signal and Ctrl-A x.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from types import FrameType

from e2kemu import authz, secret, trace
from e2kemu.chardev import Chardev, ChardevSet
from e2kemu.chardev_mux import Mux, parse_echr
from e2kemu.cli_config import blame, checked_config, is_process, settings_of, watchdog_action
from e2kemu.cli_console import consoles_of
from e2kemu.cli_disks import device_help, open_disks
from e2kemu.cli_net import nics_of
from e2kemu.cli_table import Given, help_text, parse, version_text
from e2kemu.cpu.isa import models
from e2kemu.errors import E2kError, ImageError, OptionError
from e2kemu.jobs import Jobs
from e2kemu.linux.lifecycle import catch_host_signals
from e2kemu.linux.machine import LinuxCpu
from e2kemu.loop import QUIT_SIGNALS, MainLoop, report
from e2kemu.machine import boards
from e2kemu.machine.builder import build
from e2kemu.machine.config import ACCELERATORS, MachineConfig
from e2kemu.machine.machine import Machine
from e2kemu.migration import commands as migration_commands
from e2kemu.migration import commands_old, commands_snapshot, tls_creds
from e2kemu.migration.address import Address, from_channels
from e2kemu.migration.service import MigrationService
from e2kemu.migration.snapshot import SnapshotService
from e2kemu.monitor import commands, commands_block, commands_interrupts, commands_memory, commands_net, info
from e2kemu.monitor.commands_objects import add_from_text, object_help
from e2kemu.monitor.dispatch import Context
from e2kemu.monitor.hmp import HmpMonitor
from e2kemu.monitor.qmp import EventBroadcast, QmpMonitor
from e2kemu.objects import ObjectStore
from e2kemu.options import Options

REGISTERED = (
    commands, commands_block, commands_interrupts, commands_memory, commands_net, info, migration_commands,
    commands_old, commands_snapshot, tls_creds, authz, secret,
)  # fmt: skip
"""Imported for the commands and object types they declare."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    _open_missing()
    try:
        given = parse(sys.argv[1:] if arguments is None else arguments)
        text = _asked_for(given)
        if text is not None:
            with suppress(BrokenPipeError):
                sys.stdout.write(text)
                sys.stdout.flush()
            return 0
        parent = _to_background() if given.flag("daemonize") else None
        with _stoppable(), ExitStack() as undo:
            return _Emulator(given, undo, parent).run()
    except E2kError as error:
        report(f"e2kemu: {error}")
        return 1
    except _Stopped as stopped:
        report(f"e2kemu: terminating on signal {stopped.signum}")
        return 0


def _open_missing() -> None:
    """Standard descriptors that are closed would be handed out again, to sockets for example."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one


def _to_background() -> int:
    """Go on in a child with a session of its own; returns the descriptor to tell the parent by.

    The parent stays until the child is ready (a byte comes: status 0) or has failed (none does: 1).
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()
    return writing


class _Stopped(BaseException):
    """A signal has ended what the main loop does not watch over: the start, or the clean-up."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def _stoppable() -> Iterator[None]:
    """Signals raise ``_Stopped``, so that a terminal is put back even when they come early."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _Stopped(signum)

    old = {signum: signal.signal(signum, stop) for signum in QUIT_SIGNALS}
    try:
        yield
    finally:
        for signum, action in old.items():
            signal.signal(signum, action)


def _asked_for(given: Given) -> str | None:
    """The text that a help or version option wants, None when none was given."""
    if given.flag("help"):
        return help_text()
    if given.flag("version"):
        return version_text()
    helps: dict[str, Callable[[], str]] = {
        "machine": boards.help_text,
        "cpu": models.help_text,
        "accel": lambda: "Accelerators supported by e2kemu:\n" + "".join(f"{a}\n" for a in ACCELERATORS),
        "d": trace.help_text,
        "device": device_help,
        "display": lambda: "Available display backend types:\nnone\n",
        "chardev": lambda: "Available chardev backend types:\nfile\nnull\npty\nsocket\nstdio\n",
    }
    for option, _, argument in given.order:
        if option.attribute == "object":
            with blame("-object", argument):
                answer = object_help(argument)
            if answer is not None:
                return answer
        if option.attribute in helps and argument.split(",")[0].rpartition("=")[2] in ("help", "?"):
            return helps[option.attribute]()
    return None


def _incoming_address(text: str) -> str | Address:
    """``-incoming``: a URI, or a migration channel in JSON. Raises OptionError."""
    if not text.startswith("{"):
        return text
    try:
        return from_channels([json.loads(text)])
    except ValueError as error:
        raise OptionError(f"JSON parse error, {error}") from error


class _Emulator:
    """One emulator from options to exit; ``undo`` collects what must happen at the end, whatever happens.

    ``parent`` is the descriptor of ``_to_background`` with -daemonize.
    """

    def __init__(self, given: Given, undo: ExitStack, parent: int | None) -> None:
        self._given = given
        self._parent = parent
        self._undo = undo
        self._log()
        config = checked_config(given)
        if given.text("display") not in (None, "none"):
            raise OptionError(f"-display {given.text('display')}: there is no graphics")
        self._write_pidfile()
        self._loop = MainLoop()
        self._chardevs = ChardevSet(self._loop)
        undo.callback(self._chardevs.close)
        self._human: list[Chardev] = []
        self._control: list[Chardev] = []
        serials = self._open_consoles()
        self._objects = ObjectStore()
        for text in given.all("object"):
            with blame("-object", text):
                add_from_text(self._objects, text)
        drives = open_disks(given, undo.callback, incoming=config.incoming)
        disks = tuple(disk for _, disk in drives if disk is not None)
        consoles = consoles_of(given, self._chardevs)
        self._machine = self._build(replace(config, serials=serials, disks=disks, nics=nics_of(given),
                                            consoles=consoles))
        undo.callback(self._machine.close)
        self._machine.watchdog_action = watchdog_action(given)
        settings = settings_of(given, config)
        with blame("-only-migratable"):
            blockers = self._machine.migration_blockers
            self._migration = MigrationService(self._machine, self._objects, settings, blockers)
        self._drives = [drive for drive, _ in drives]
        undo.callback(self._migration.close)
        directory = given.text("snapshot_dir")
        with blame("-snapshot-dir", directory or ""):
            self._snapshots = SnapshotService(self._machine, self._migration, directory)
        undo.callback(self._snapshots.close)
        self._open_monitors()

    def run(self) -> int:
        """Start what is to be started, run until the end; the exit status."""
        self._loop.on_signal = self._signal
        for cpu in self._machine.cpus:
            if isinstance(cpu, LinuxCpu):
                everything = self._given.flag("job_control")
                if everything:
                    self._loop.on_signal = cpu.kernel.host_signal
                self._undo.callback(catch_host_signals(cpu.kernel, everything=everything))
        self._loop.call_soon(self._start)
        return self._loop.run()

    # -- setting up

    def _log(self) -> None:
        items, path = self._given.text("d"), self._given.text("logfile")
        if path is not None:
            with blame("-D", path):
                trace.set_file(path)
        if items is not None:
            with blame("-d", items):
                trace.set_items(items)

    def _open_consoles(self) -> tuple[Chardev | None, ...]:
        """Open all character devices; returns the serial ports', keeps the monitors'.

        Without -display there is nothing but the terminal: the same as -nographic.
        """
        given = self._given
        serials, monitors = given.all("serial"), given.all("monitor")
        background = given.flag("daemonize")
        if background and given.flag("nographic"):
            raise OptionError("-nographic: cannot be used with -daemonize")
        if background:
            self._chardevs.stdio_refusal = "cannot use stdio with -daemonize"
        terminal = given.flag("nographic") or (given.text("display") is None and not background)
        muxed = any(spec.startswith("mon:") for spec in serials)
        # the terminal is the program's own when the machine is a process
        defaults = terminal and not given.flag("nodefaults") and not is_process(given)
        default_monitor = not (monitors or given.all("qmp") or given.all("mon") or muxed)
        self._chardevs.stdio_signals = not given.flag("nographic")
        if defaults and not serials:
            serials = ["mon:stdio" if default_monitor else "stdio"]
        elif defaults and default_monitor:
            monitors = ["stdio"]
        for text in given.all("chardev"):
            with blame("-chardev", text):
                self._chardevs.add(text)
        ports = [self._open_serial(spec, f"serial{index}") for index, spec in enumerate(serials)]
        for spec in monitors:
            self._open_monitor("-monitor", spec, self._human)
        for spec in given.all("qmp"):
            self._open_monitor("-qmp", spec, self._control)
        for text in given.all("mon"):
            self._open_mon(text)
        return tuple(ports)

    def _open_serial(self, spec: str, label: str) -> Chardev | None:
        if spec == "none":
            return None
        with blame("-serial", spec):
            device = self._chardevs.frontend(spec, label)
            if spec.startswith("mon:"):
                self._human.append(self._chardevs.port(self._chardevs.find(label), self._monitor_label()))
            return device

    def _open_monitor(self, option: str, spec: str, monitors: list[Chardev]) -> None:
        if spec != "none":
            with blame(option, spec):
                monitors.append(self._chardevs.frontend(spec, self._monitor_label()))

    def _open_mon(self, text: str) -> None:
        with blame("-mon", text):
            options = Options(text, implied="chardev")
            device = options.require("chardev")
            mode = options.get("mode", "readline")
            options.finish()
            if mode not in ("readline", "control"):
                raise OptionError(f"unknown monitor mode '{mode}'")
            port = self._chardevs.frontend(f"chardev:{device}", self._monitor_label())
            (self._human if mode == "readline" else self._control).append(port)

    def _monitor_label(self) -> str:
        return f"compat_monitor{len(self._human) + len(self._control)}"

    def _build(self, config: MachineConfig) -> Machine:
        try:
            return build(config, self._loop)
        except ImageError as error:
            for option, path in (("-kernel", config.kernel), ("-initrd", config.initrd), ("-bios", config.bios)):
                if path and path in str(error):
                    raise OptionError(f"{option} {path}: {error}") from error
            raise

    def _open_monitors(self) -> None:
        services = {
            "migration": self._migration,
            "drives": self._drives,
            "snapshots": self._snapshots,
            "jobs": Jobs(self._machine.emit),
        }
        ctx = Context(self._machine, self._loop, self._objects, self._chardevs, services)
        events = EventBroadcast(ctx)
        for chardev in self._human:
            HmpMonitor(ctx, chardev, edited=chardev.is_terminal)
        for chardev in self._control:
            events.monitors.append(QmpMonitor(ctx, chardev))
        echr = self._given.text("echr")
        for device in self._chardevs.devices.values():
            if isinstance(device, Mux):
                device.on_exit = self._escape_exit
                if echr is not None:
                    with blame("-echr", echr):
                        device.escape = parse_echr(echr)

    def _write_pidfile(self) -> None:
        path = self._given.text("pidfile")
        if path is None:
            return
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise OptionError(f"-pidfile {path}: cannot create PID file: {error.strerror}") from error
        self._undo.callback(_remove, path)

    # -- running

    def _start(self) -> None:
        uri = self._given.text("incoming")
        try:
            if uri is not None:
                if uri != "defer":
                    with blame("-incoming", uri):
                        self._migration.start_incoming(_incoming_address(uri))
            else:
                self._load_snapshot()
                if not self._given.flag("S"):
                    self._machine.start()
            self._ready()
        except E2kError as error:
            report(f"e2kemu: {error}")
            self._loop.quit(1)

    def _load_snapshot(self) -> None:
        tag = self._given.text("loadvm")
        if tag is not None:
            with blame("-loadvm", tag):
                self._snapshots.load(tag)

    def _ready(self) -> None:
        """With -daemonize: leave the terminal, let the parent go."""
        if self._parent is None:
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        os.close(nothing)
        os.write(self._parent, b"!")
        os.close(self._parent)

    def _escape_exit(self) -> None:
        self._machine.shutdown(0, guest=False, reason="host-ui")

    def _signal(self, signum: int) -> None:
        report(f"e2kemu: terminating on signal {signum}")
        self._machine.shutdown(0, guest=False, reason="host-signal")


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
