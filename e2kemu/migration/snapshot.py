"""Snapshots of the whole machine: savevm, loadvm, delvm.

The stream is that of a migration, without commands: header, RAM in one START and one END (the guest stands still),
devices, vmdescription. Saving and loading exclude migrations, and the run state is "save-vm" or "restore-vm"
meanwhile. A guest that ran before runs afterwards, any other keeps its state; only what needed a reset is "paused"
once another state has been loaded.

Disks are not part of a snapshot, so a machine with a disk that the guest may write is refused: after a loadvm its
memory and its disk would be of different times.

Loading checks the file before the guest is touched (``snapshot_store.py``). Should it fail all the same, the machine
is as after power-on, its memory zero, in run state "prelaunch": never a mixture of two guests.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from e2kemu.errors import ChannelError, E2kError, StateError, StreamError
from e2kemu.migration.address import FileAddress
from e2kemu.migration.channel import Channel
from e2kemu.migration.channel_file import open_file
from e2kemu.migration.compat import NEWEST, StreamFormat
from e2kemu.migration.globalstate import GlobalState
from e2kemu.migration.load import StreamLoader
from e2kemu.migration.machine_protocol import MigratableMachine, SaveHandler
from e2kemu.migration.qemufile import Buffer, StreamReader, StreamWriter
from e2kemu.migration.ram import BATCH_PAGES, PAGE_RECORD, Flag, RamSaver
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.registry import (
    RAM_IDSTR,
    RAM_INSTANCE,
    RAM_SECTION_ID,
    RAM_VERSION,
    Registry,
    send_section,
    vmdescription,
)
from e2kemu.migration.service import MigrationService
from e2kemu.migration.snapshot_store import FORMAT, HEADER, SnapshotInfo, SnapshotStore, check_tag, finish_file
from e2kemu.migration.statistics import RamCounters
from e2kemu.migration.stream import Configuration, ElementType, FrameWriter
from e2kemu.wire import Reader, Writer

NEEDED_RESET = frozenset(("shutdown", "internal-error", "guest-panicked", "watchdog", "io-error", "debug"))
"""States of a guest that could not go on as it was; another one that is loaded can."""

AWAY = {
    "inmigrate": "Guest is waiting for an incoming migration",
    "finish-migrate": "There's a migration process in progress",
    "postmigrate": "The guest has been migrated",
    "save-vm": "A snapshot is being saved or loaded",
    "restore-vm": "A snapshot is being saved or loaded",
}
"""States in which there is no guest to save or to replace."""


class SnapshotClock(Protocol):
    """The guest's clock."""

    def now(self) -> int:
        """Nanoseconds."""


class SnapshotMachine(MigratableMachine, Protocol):
    """A machine that can go back to an earlier state."""

    @property
    def clock(self) -> SnapshotClock: ...

    def power_on(self) -> None:
        """Devices and CPUs as after power-on, images loaded again."""


class _Locked:
    """A section whose device may be asked by the main loop meanwhile: input from outside waits."""

    def __init__(self, handler: SaveHandler, machine: MigratableMachine) -> None:
        self._handler = handler
        self._machine = machine
        self.idstr, self.instance_id = handler.idstr, handler.instance_id
        self.version, self.minimum_version = handler.version, handler.minimum_version

    def is_needed(self) -> bool:
        return self._handler.is_needed()

    def save(self, w: Writer) -> None:
        with self._machine.lock:
            self._handler.save(w)

    def load(self, r: Reader, version: int) -> None:
        with self._machine.lock:
            self._handler.load(r, version)

    def vmdesc(self) -> dict[str, Any]:
        return self._handler.vmdesc()


class _Checked:
    """The file under a StreamWriter: counts, sums up, and can be interrupted."""

    def __init__(self, channel: Channel, interrupt: threading.Event) -> None:
        self._channel = channel
        self._interrupt = interrupt
        self.size = self.crc32 = 0

    def writev(self, buffers: list[Buffer]) -> None:
        if self._interrupt.is_set():
            raise ChannelError("the emulator ends")
        for buffer in buffers:
            self.size += len(buffer)
            self.crc32 = zlib.crc32(buffer, self.crc32)
        self._channel.writev(buffers)


class _NoCommands:
    """A snapshot has no COMMANDs: there is nobody to talk to."""

    def _refuse(self, *arguments: object) -> None:
        raise StreamError("a command in a snapshot")

    open_return_path = ping = switchover_start = postcopy_advise = postcopy_discard = _refuse
    postcopy_listen = postcopy_run = postcopy_resume = send_received = _refuse


class SnapshotService:
    """Snapshots of ``machine`` in ``directory`` (None: nowhere). The methods wait; any thread.

    Raises OptionError when ``directory`` is not one.
    """

    def __init__(self, machine: SnapshotMachine, migration: MigrationService, directory: str | None) -> None:
        self._machine = machine
        self._migration = migration
        self._closing = threading.Event()
        self._saving = threading.Lock()
        self._store = None if directory is None else SnapshotStore(directory)

    @property
    def store(self) -> SnapshotStore:
        """The directory. Raises StateError when there is none."""
        if self._store is None:
            raise StateError("no block device can store vmstate for snapshot (-snapshot-dir gives them a place)")
        return self._store

    def save(self, tag: str | None = None, *, replace: bool = True) -> SnapshotInfo:
        """Save the machine; without ``tag`` under the time of day, as QEMU does.

        Raises OptionError (not a tag), StateError (not now, or not this machine), ChannelError (the file).
        """
        store = self.store
        tag = check_tag(time.strftime("vm-%Y%m%d%H%M%S") if tag is None else tag)
        with self._migration.exclusive():
            self._check_machine()
            self._migration.check_not_blocked()
            if not replace and store.exists(tag):
                raise StateError(f"Snapshot '{tag}' already exists in one or more devices")
            with self._saving, self._stopped("save-vm") as run_state:
                return self._save(store, tag, run_state)

    def load(self, tag: str) -> None:
        """Go back to a snapshot. Raises OptionError and StateError; the guest is as it was then, unless the text
        says that it has been reset."""
        store = self.store
        info = store.read(tag)
        with self._migration.exclusive():
            self._check_machine()
            self._check_fits(info)
            store.verify(info)
            with self._stopped("restore-vm"):
                try:
                    self._load(store.path(tag), info)
                except Exception as error:
                    self._start_anew()
                    if not isinstance(error, E2kError):
                        raise
                    raise StateError(f"Error while loading VM state: {error}; the guest has been reset") from error

    def delete(self, tag: str) -> None:
        """Remove a snapshot. Raises OptionError (not a tag), StateError (not there)."""
        self.store.delete(tag)

    def close(self) -> None:
        """The emulator ends: leave no unfinished file behind."""
        self._closing.set()
        with self._saving:
            pass

    # -- checks

    def _check_machine(self) -> None:
        reason = AWAY.get(self._machine.run_state)
        if reason is not None:
            raise StateError(reason)
        for disk in self._machine.disks:
            if not disk.readonly:
                raise StateError(f"Device '{disk.id}' is writable but does not support snapshots")

    def _check_fits(self, info: SnapshotInfo) -> None:
        """Raises StateError when the machine is not like the one that was saved."""
        machine, problem = self._machine, ""
        blocks = {block.idstr: block.size for block in machine.ram_blocks}
        optional = not info.format.get("store_global_state", True)
        registry = Registry(self._handlers(GlobalState(optional=optional)))
        try:
            if set(info.format) != set(asdict(NEWEST)):
                problem = "its stream is of another version of the emulator"
            if info.machine != machine.machine_type:
                problem = f"its machine type is '{info.machine}' and this is '{machine.machine_type}'"
            elif info.blocks != blocks:
                problem = f"its RAM is {_sizes(info.blocks)} and this machine's is {_sizes(blocks)}"
            for idstr, instance_id, version in info.sections:
                registry.find(idstr, instance_id, version, HEADER)
        except StreamError as error:
            problem = problem or error.message
        there = {(idstr, instance_id) for idstr, instance_id, _ in info.sections}
        for _, handler in registry.numbered():
            if (handler.idstr, handler.instance_id) not in there:
                problem = problem or f"section '{handler.idstr}' instance {handler.instance_id} is missing from it"
        if problem:
            raise StateError(f"Snapshot '{info.tag}' does not fit this machine: {problem}")

    # -- the run state

    @contextmanager
    def _stopped(self, during: str) -> Iterator[str]:
        """The machine stands still in run state ``during``; yields the state it was in, and goes back to it."""
        machine = self._machine
        with machine.quiesced():
            before = machine.run_state
            machine.stop(during)
        try:
            yield before
        finally:
            if machine.run_state == during:  # nothing else happened, such as the guest's own end
                if before == "running":
                    machine.start()
                elif during == "restore-vm" and before in NEEDED_RESET:
                    machine.set_run_state("paused")
                else:
                    machine.set_run_state(before)

    def _start_anew(self) -> None:
        """After a load that failed: no trace of either guest."""
        machine = self._machine
        with machine.quiesced():
            for block in machine.ram_blocks:
                block.release(0, block.size)
                block.changed(0, block.size)
            machine.power_on()
            machine.set_run_state("prelaunch")

    # -- writing

    def _handlers(self, state: GlobalState) -> Sequence[SaveHandler]:
        return [*(_Locked(handler, self._machine) for handler in self._machine.save_handlers()), state]

    def _save(self, store: SnapshotStore, tag: str, run_state: str) -> SnapshotInfo:
        machine, format = self._machine, self._migration.settings.format
        now = time.time_ns()
        state = GlobalState(run_state, optional=not format.store_global_state)
        registry = Registry(self._handlers(state))
        info = SnapshotInfo(
            e2kemu_snapshot=FORMAT,
            id=store.next_id(tag),
            tag=tag,
            date_sec=now // 10**9,
            date_nsec=now % 10**9,
            vm_clock_nsec=machine.clock.now(),
            run_state=run_state,
            machine=machine.machine_type,
            format=asdict(format),
            blocks={block.idstr: block.size for block in machine.ram_blocks},
            sections=[(one.idstr, one.instance_id, one.version) for _, one in registry.numbered()],
        )
        with store.writing(tag) as path:
            with open_file(FileAddress(str(path), HEADER), incoming=False) as channel:
                sink = _Checked(channel, self._closing)
                self._write(FrameWriter(StreamWriter(sink), format), registry)
            info.vm_state_size, info.crc32 = sink.size, sink.crc32
            finish_file(path, info)
        return info

    def _write(self, frames: FrameWriter, registry: Registry) -> None:
        configuration = Configuration(self._machine.machine_type)
        ram = RamSaver(self._machine, RamCounters())
        ram.guest_stopped = True
        frames.header(configuration)
        ram.start_tracking()
        with frames.section_start(
            ElementType.SECTION_START, RAM_SECTION_ID, RAM_IDSTR, RAM_INSTANCE, RAM_VERSION
        ) as out:
            ram.save_setup(out)
        with frames.section_more(ElementType.SECTION_END, RAM_SECTION_ID) as out:
            while ram.save_pages(out, BATCH_PAGES * PAGE_RECORD):
                out.flush_if_full()
            out.be64(Flag.EOS)
        devices = []
        for section_id, handler in registry.numbered():
            devices.append(send_section(frames, section_id, handler))
        frames.end(vmdescription(configuration, devices))
        frames.out.flush()

    # -- reading

    def _load(self, path: Path, info: SnapshotInfo) -> None:
        machine = self._machine
        machine.power_on()
        format = StreamFormat(**info.format)
        registry = Registry(self._handlers(GlobalState(optional=not format.store_global_state)))
        configuration = Configuration(machine.machine_type)
        with open_file(FileAddress(str(path), HEADER), incoming=True) as channel:
            reader, ram = StreamReader(channel), RamLoader(machine.ram_blocks)
            StreamLoader(reader, configuration, registry, ram, _NoCommands(), format=format).load()


def _sizes(blocks: dict[str, int]) -> str:
    return ", ".join(f"'{name}' of {size >> 10} KiB" for name, size in blocks.items())

