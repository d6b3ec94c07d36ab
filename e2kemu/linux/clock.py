"""A process' clocks: CLOCK_MONOTONIC is the machine's virtual time, CLOCK_REALTIME the host's."""

from __future__ import annotations

import time

from e2kemu.clock import VirtualClock


class ProcessClock:
    """See ``task.Clock``."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.monotonic = clock.now

    @staticmethod
    def realtime() -> int:
        """ns since 1970."""
        return time.time_ns()

    @staticmethod
    def cpu() -> int:
        """ns of CPU time of the emulator."""
        return time.process_time_ns()
