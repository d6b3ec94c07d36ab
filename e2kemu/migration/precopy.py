"""The rounds of a live migration: pages go over while the guest runs, until the rest fits into the downtime.

One PART section of RAM takes 50 ms at most, so that the limits, the throttle and the user are looked at often. What
the disks have left is sent before pages are. All in the thread "migration out".
"""

from __future__ import annotations

import time
from typing import Protocol

from e2kemu.migration.block import BLOCK_SECTION_ID, BlockSaver
from e2kemu.migration.hooks import RamHooks, RamPhase, around_pages
from e2kemu.migration.meter import Meter
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.qemufile import WINDOW
from e2kemu.migration.ram import Flag, RamSaver
from e2kemu.migration.registry import RAM_SECTION_ID
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.stream import ElementType, FrameWriter
from e2kemu.migration.throttle import AutoConverge

ITERATION_SECONDS = 0.05
"""The longest one PART section may take (QEMU: MAX_WAIT, 50 ms)."""


LITTLE = 1 << 20
"""Bytes that may be left when the pause shall not have to wait for what is under way: more makes it long anyway."""


class RoundsControl(Protocol):
    """What the conductor knows and the rounds ask."""

    def check(self) -> None:
        """Raises when the migration is to end: the user has cancelled, the peer has given up."""

    def sleep(self, seconds: float) -> None:
        """Returns earlier when the migration is to end."""

    def interrupted(self) -> bool:
        """The migration is to end."""

    def may_go_first(self) -> bool:
        """Postcopy is wanted, and possible now."""

    def acknowledged(self) -> bool:
        """The destination agrees to the switchover, if it was to be asked."""

    def caught_up(self, frames: FrameWriter) -> bool:
        """What is under way will not be a part of the guest's pause; False: it was waited for just now."""


class Precopy:
    """The rounds of one migration, whose setup has been sent."""

    def __init__(
        self,
        frames: FrameWriter,
        ram: RamSaver,
        blocks: BlockSaver | None,
        hooks: RamHooks | None,
        converge: AutoConverge | None,
        statistics: Statistics,
        parameters: MigrationParameters,
        control: RoundsControl,
    ) -> None:
        self._frames = frames
        self._ram = ram
        self._blocks = blocks
        self._hooks = hooks
        self._converge = converge
        self._statistics = statistics
        self._parameters = parameters
        self._control = control
        self._meter = Meter(statistics, parameters)
        self._rest = ram.remaining  # what was to be sent after the last look at the dirty log

    def run(self) -> None:
        """Returns when the guest should stop, be it for a postcopy. Raises E2kError."""
        ram, meter, control, rate = self._ram, self._meter, self._control, self._frames.out.rate
        sending_on = False  # the rest fits the downtime limit, but it gets smaller still
        while True:
            control.check()
            meter.update(self._frames.out)
            if self._blocks is not None and self._send_blocks(self._blocks):
                continue
            if control.may_go_first():
                return
            if self._converge is not None and self._converge.sync_is_due():
                self._sync()
            fits = ram.remaining <= meter.threshold and not sending_on and control.acknowledged()
            if fits or not ram.remaining:
                gaining = self._sync()
                fits = ram.remaining <= meter.threshold and control.acknowledged()
                if fits and not gaining:
                    if ram.remaining > LITTLE or control.caught_up(self._frames):
                        return
                    meter.restart(self._frames.out)
                    continue
                sending_on = fits
                if not ram.remaining:
                    control.sleep(WINDOW)
                    continue
            self._send_part()
            if rate.budget(self._parameters.max_bandwidth) <= 0:
                control.sleep(rate.remaining_time())

    def _send_blocks(self, blocks: BlockSaver) -> bool:
        """A part of the disks, unless what is left of them fits into half of the downtime. Returns whether."""
        meter, frames = self._meter, self._frames
        meter.reserved = 0
        left = blocks.sync()
        if blocks.copied and left <= meter.threshold / 2:
            meter.reserved = left
            return False
        budget = frames.out.rate.budget(self._parameters.max_bandwidth)
        if budget <= 0:
            # A chunk may be more than a window takes: what was too much is waited for as well.
            debt = -budget / self._parameters.max_bandwidth
            self._control.sleep(frames.out.rate.remaining_time() + debt)
            return True
        with frames.section_more(ElementType.SECTION_PART, BLOCK_SECTION_ID) as out:
            blocks.save_part(out, budget, time.monotonic() + ITERATION_SECONDS)
        frames.out.flush()
        self._statistics.transferred = frames.out.transferred
        return True

    def _send_part(self) -> None:
        deadline = time.monotonic() + ITERATION_SECONDS
        rate = self._frames.out.rate
        with self._frames.section_more(ElementType.SECTION_PART, RAM_SECTION_ID) as out:
            with around_pages(self._hooks, out, RamPhase.ROUND):
                while True:
                    budget = rate.budget(self._parameters.max_bandwidth)
                    if budget <= 0 or not self._ram.save_pages(out, budget):
                        break
                    self._statistics.transferred = out.transferred
                    if time.monotonic() >= deadline or self._control.interrupted():
                        break
            out.be64(Flag.EOS)
        self._frames.out.flush()
        self._statistics.transferred = self._frames.out.transferred

    def _sync(self) -> bool:
        """Look at the dirty log. Returns whether there will be less to send next time, if nothing changes: since
        the last look no more than half as much was added as was sent."""
        ram = self._ram
        before = ram.remaining
        dirtied = ram.sync()
        sent, added = self._rest - before, ram.remaining - before
        self._rest = ram.remaining
        if self._converge is not None:
            self._converge.synced(dirtied)
        return ram.remaining > 0 and 2 * added <= sent
