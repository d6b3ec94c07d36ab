"""The Python face: one machine in your own program, without a command line or a monitor.

    from e2kemu import Machine

    with Machine.build(ram="64M", append="workload=hello") as machine:
        machine.run(until=b"hello")            # boots the bundled firmware
        print(machine.console.text)
        print(hex(machine.read_reg("pc")), machine.read_mem(0xFF0000, 16).hex())
        machine.run()                          # to the guest's end
        print(machine.exit_status)

The guest runs in its own thread while ``run`` is in progress, and only then; between calls it stands
still, so whatever you read is consistent. ``step`` executes wide instructions in the calling thread.
One machine is used by one thread of yours; several machines may live in one program.
"""

from __future__ import annotations

import time
import uuid as uuidlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from e2kemu.block.drive import Drive, parse_drive
from e2kemu.chardev import Chardev
from e2kemu.cpu.rights import READ, WRITE
from e2kemu.errors import ChannelError, OptionError, StateError
from e2kemu.machine import builder
from e2kemu.machine import machine as core
from e2kemu.machine.boards import DEFAULT
from e2kemu.machine.config import DiskConfig, MachineConfig
from e2kemu.machine.icount import parse_icount
from e2kemu.machine.nics import parse_nic
from e2kemu.migration.compat import migration_settings
from e2kemu.migration.service import MigrationService
from e2kemu.migration.snapshot import SnapshotService
from e2kemu.options import parse_size

POLL_SECONDS = 0.02
"""How often ``run`` looks at a condition that nothing announces."""

Until = bytes | int | Callable[["Machine"], bool]
"""Console output that must appear, an address that must be reached, or a function that says when it is
enough."""


class Console(Chardev):
    """The serial port of a library machine: keeps what the guest prints, sends what you type."""

    kind = "console"

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__("console")
        self.output = bytearray()
        """All bytes the guest has printed."""
        self.awaited = False
        """Somebody waits for what the guest prints."""
        self._changed = changed

    @property
    def text(self) -> str:
        """``output`` as text."""
        return self.output.decode("utf-8", "backslashreplace")

    def write(self, data: bytes) -> None:
        """The guest prints."""
        self.output += data
        if self.awaited:
            self._changed()

    def send(self, data: bytes | str) -> None:
        """Type ``data``: the guest receives it when it reads its serial port."""
        self.input(data.encode() if isinstance(data, str) else data)


def _open_drives(texts: Sequence[str], *, active: bool) -> list[Drive]:
    """All of them or none. Raises OptionError, ImageError."""
    drives: list[Drive] = []
    try:
        for number, text in enumerate(texts):
            drives.append(parse_drive(text, number))
            if active:
                drives[-1].activate()
    except BaseException:
        for drive in drives:
            drive.close()
        raise
    return drives


class Machine(core.Machine):
    """A machine of a library user; ``build`` makes it. See the module for an example."""

    console: Console
    migration: MigrationService
    """Capabilities, parameters, ``migrate`` and ``start_incoming`` as the monitors have them; ``add_notifier`` and
    ``add_blocker``."""
    snapshots: SnapshotService
    """``save``, ``load`` and ``delete`` by tag, as savevm, loadvm and delvm."""

    @classmethod
    def build(
        cls,
        *,
        ram: int | str = 0,
        cpu: str = "",
        machine: str = DEFAULT.name,
        kernel: str | None = None,
        initrd: str | None = None,
        bios: str | None = None,
        append: str = "",
        name: str = "",
        uuid: uuidlib.UUID | None = None,
        incoming: bool = False,
        accel: str = "jit",
        smp: int = 1,
        icount: str = "",
        drives: Sequence[str] = (),
        nics: Sequence[str] = (),
        suppress_vmdesc: bool = False,
        properties: Mapping[str, str] | None = None,
        only_migratable: bool = False,
        snapshot_dir: str | None = None,
    ) -> Machine:
        """Make a machine, stopped before its first instruction. Arguments are those of the command line;
        ``ram`` is in bytes or a text like "64M" (0: the default of the machine type). Each of ``drives`` is the
        text of a ``-drive`` and becomes a virtio disk, each of ``nics`` that of a ``-nic``;
        ``properties`` are those of ``-global migration.NAME=VALUE``.

        Raises OptionError and ImageError, one line each, for what cannot be built.
        """
        # the console must be known to the config before the machine with its loop exists
        made: list[Machine] = []
        console = Console(lambda: made[0].loop.wake() if made else None)
        config = MachineConfig(
            machine=machine,
            cpu=cpu,
            ram_size=parse_size(ram, "M", "size") if isinstance(ram, str) else ram,
            kernel=kernel,
            initrd=initrd,
            bios=bios,
            append=append,
            name=name,
            uuid=uuid,
            incoming=incoming,
            accel=accel,
            smp=smp,
            icount=parse_icount(icount) if icount else None,
            suppress_vmdesc=suppress_vmdesc,
            serials=(console,),
            nics=tuple(parse_nic(text, number) for number, text in enumerate(nics)),
        )
        settings = migration_settings(
            config.board.compat,
            (properties or {}).items(),
            suppress_vmdesc=suppress_vmdesc,
            only_migratable=only_migratable,
        )
        opened = _open_drives(drives, active=not incoming)
        try:
            disks = tuple(DiskConfig(drive) for drive in opened)
            result = builder.build(replace(config, disks=disks), cls=cls)
            blockers = result.migration_blockers
            result.migration = MigrationService(result, settings=settings, device_blockers=blockers)
            result.snapshots = SnapshotService(result, result.migration, snapshot_dir)
        except BaseException:
            for drive in opened:
                drive.close()
            raise
        result.console = console
        made.append(result)
        return result

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its threads and release what it holds."""
        self.migration.close()
        super().close()
        self.loop.close()
        for disk in self.disks:
            disk.close()

    # -- running

    def run(self, timeout: float | None = None, until: Until | None = None) -> str:
        """Let the guest run; it stands still again when this returns. Says why it returned:

        "exit" (the guest has ended, see ``exit_status``), "until" (the text was printed since the call,
        the wide instruction at that address comes next, or the function returned true), "timeout"
        (``timeout`` seconds of host time have passed), or the run state if something else stopped it
        ("debug": a breakpoint or watchpoint, "internal-error").
        Raises StateError when the machine cannot run (it has ended, or waits for a migration).
        """
        if self.exit_status is not None:
            raise StateError(f"the guest has ended with status {self.exit_status}")
        if self.run_state == "inmigrate":
            raise StateError("the machine waits for its state: call load() first")
        seen = len(self.console.output)
        deadline = None if timeout is None else time.monotonic() + timeout
        added = set() if not isinstance(until, int) else {until} - self.breakpoints
        self.breakpoints.update(added)
        self.console.awaited = until is not None and not isinstance(until, int)
        self.cont()
        try:
            while True:
                if self.exit_status is not None:
                    return "exit"
                if until is not None and self._reached(until, seen):
                    return "until"
                if not self.is_running():
                    there = self.run_state == "debug" and until == self.read_reg("pc")
                    return "until" if there else self.run_state
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return "timeout"
                poll = POLL_SECONDS if callable(until) else 1.0
                self.loop.run_once(poll if left is None else min(poll, left))
        finally:
            self.stop()
            self.breakpoints.difference_update(added)

    def _reached(self, until: Until, seen: int) -> bool:
        if isinstance(until, bytes):
            return until in self.console.output[seen:]
        return callable(until) and until(self)

    def step(self, count: int = 1, cpu: int = 0) -> str:
        """Execute ``count`` wide instructions in this thread; virtual time stands, a sleeping CPU is woken
        at its time at once. Returns "limit" when all were executed, otherwise why not: "exit" (the guest
        has ended), "fatal", "breakpoint", "watchpoint".

        Raises StateError while the guest runs, or after its end.
        """
        if self.is_running():
            raise StateError("the guest runs")
        if self.exit_status is not None:
            raise StateError(f"the guest has ended with status {self.exit_status}")
        one = self.cpus[cpu]
        end = one.executed + count
        reason = "limit"
        while one.executed < end and self.exit_status is None:
            if one.idle_until is not None:
                self.clock.set(max(self.clock.now(), one.idle_until))
                one.idle_until = None
            reason = one.run(1)
            self.loop.run_once(0)          # finishes the guest's own end, if that was it
            if reason in ("fatal", "breakpoint", "watchpoint"):
                return str(reason)
        return "exit" if self.exit_status is not None else "limit"

    @property
    def breakpoints(self) -> set[int]:
        """Addresses of wide instructions before which the first CPU stops (run state "debug")."""
        found: set[int] = self.cpus[0].breakpoints
        return found

    def watch(self, address: int, size: int = 8, access: str = "w", cpu: int = 0) -> Callable[[], None]:
        """Stop a CPU (run state "debug") behind a wide instruction that accesses these bytes: ``access`` is "r", "w" or
        "rw". Returns a function that removes the watchpoint. Speculative loads count as well.

        Raises OptionError for another ``access`` or a size below 1.
        """
        kinds = {"r": READ, "w": WRITE, "rw": READ | WRITE}.get(access)
        if kinds is None or size < 1:
            raise OptionError(f"watch: access '{access}' of {size} bytes")
        watching = self.cpus[cpu].core
        with self.quiesced():
            watching.watch(address, size, kinds)

        def remove() -> None:
            with self.quiesced():
                watching.unwatch(address, size, kinds)

        return remove

    def on_block(self, hook: Callable[[Any, int], None], cpu: int = 0) -> Callable[[], None]:
        """Call ``hook(cpu, address)`` before every block of wide instructions; returns a function that
        removes the hook. Hooks run in the CPU's thread; they make it slower."""
        with self.quiesced():
            remove: Callable[[], None] = self.cpus[cpu].on_block(hook)
            return remove

    # -- state in a file

    def save(self, path: str) -> None:
        """Write the whole machine to a file, as ``migrate file:PATH`` does; it goes on afterwards as
        before. Raises ChannelError when the file cannot be written."""
        running = self.is_running()
        self.migration.migrate(f"file:{path}")
        state = self.migration.outgoing_state
        self._pump(lambda: not state.running())
        if state.status != "completed":
            raise ChannelError(state.error or f"saving to '{path}' was cancelled")
        if running:
            self.start()
        else:
            self.set_run_state("prelaunch")

    def load(self, path: str) -> None:
        """Take over the state in a file that ``save`` (or ``migrate file:``) has written; the machine was
        built alike, with ``incoming=True``. It stands still then. Raises StreamError or ChannelError."""
        self.autostart = False
        self.migration.start_incoming(f"file:{path}", exit_on_error=False)
        state = self.migration.incoming_state
        self._pump(lambda: not state.running())
        if state.status != "completed":
            raise ChannelError(state.error or f"loading '{path}' was cancelled")
        self._pump(lambda: self.run_state != "inmigrate")

    def _pump(self, done: Callable[[], Any]) -> None:
        while not done():
            self.loop.run_once(POLL_SECONDS)
