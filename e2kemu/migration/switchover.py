"""The source's guest stops, and what is left of it goes over: the rest of the disks and pages, CPUs and devices.

Whatever was done to the machine is undone by the caller's ExitStack when the migration fails later: the guest runs
again if it ran, and has its disks back. All in the thread "migration out".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from e2kemu.migration.block import BLOCK_SECTION_ID, BlockSaver
from e2kemu.migration.disk_protocol import take_back
from e2kemu.migration.globalstate import GlobalState
from e2kemu.migration.hooks import RamHooks, RamPhase, around_pages
from e2kemu.migration.machine_protocol import MigratableMachine
from e2kemu.migration.postcopy import PING_WILL_COMMIT
from e2kemu.migration.ram import BATCH_PAGES, PAGE_RECORD, Flag, RamSaver
from e2kemu.migration.registry import RAM_SECTION_ID, Registry, send_section
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.stream import Command, ElementType, FrameWriter


class Switchover:
    """That of one migration. ``check`` raises when the migration is to end."""

    def __init__(
        self,
        machine: MigratableMachine,
        frames: FrameWriter,
        ram: RamSaver,
        blocks: BlockSaver | None,
        hooks: RamHooks | None,
        statistics: Statistics,
        check: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._frames = frames
        self._ram = ram
        self._blocks = blocks
        self._hooks = hooks
        self._statistics = statistics
        self._check = check
        self._run_state = ""

    def stop_guest(self, undo: ExitStack) -> None:
        """No page becomes dirty any more."""
        machine = self._machine
        self._statistics.stopped_at = time.monotonic()
        with machine.quiesced():  # nobody stops or starts it between the look and the stop
            self._run_state = machine.run_state
            machine.stop("finish-migrate")
        if self._run_state == "running":
            undo.callback(machine.start)
        else:
            undo.callback(machine.set_run_state, self._run_state)
        self._ram.guest_stopped = True

    def begin(self, undo: ExitStack) -> None:
        """Tell the destination, let go of the disks; what is dirty now is all there is."""
        self._frames.switchover_start()
        self._leave_disks(undo)
        self._ram.sync()

    def _leave_disks(self, undo: ExitStack) -> None:
        """Send the rest of the disks, if they are copied; then the destination may have the shared ones."""
        if self._blocks is not None:
            with self._frames.section_more(ElementType.SECTION_END, BLOCK_SECTION_ID) as out:
                self._blocks.save_end(out)
            self._check()
        undo.callback(take_back, self._machine.disks)
        for disk in self._machine.disks:
            disk.inactivate()

    def send_rest(self, *, announced: bool) -> list[dict[str, Any]]:
        """All pages and devices; returns the descriptions of the devices. ``announced``: the destination is told to
        wait for our word before it starts the guest."""
        frames = self._frames
        if announced:
            frames.command(Command.PING, PING_WILL_COMMIT.to_bytes(4, "big"))
        with frames.section_more(ElementType.SECTION_END, RAM_SECTION_ID) as out:
            with around_pages(self._hooks, out, RamPhase.FINISH):
                while self._ram.save_pages(out, BATCH_PAGES * PAGE_RECORD):
                    self._statistics.transferred = out.transferred
                    self._check()
            out.be64(Flag.EOS)
        descriptions = self.send_devices(frames)
        frames.out.flush()
        return descriptions

    def send_devices(self, frames: FrameWriter) -> list[dict[str, Any]]:
        """CPUs and devices, to ``frames`` (of a package, in a postcopy); returns their descriptions."""
        optional = not self._frames.format.store_global_state
        handlers = [*self._machine.save_handlers(), GlobalState(self._run_state, optional=optional)]
        descriptions = []
        for section_id, handler in Registry(handlers).numbered():
            descriptions.append(send_section(frames, section_id, handler))
            frames.out.flush_if_full()
            self._check()
        return descriptions
