"""How fast a migration is, and how much may be left when its guest stops."""

from __future__ import annotations

import time

from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.qemufile import WINDOW, StreamWriter
from e2kemu.migration.statistics import Statistics, megabits_per_second, milliseconds


class Meter:
    """Bandwidth, measured at most every 100 ms, and what follows from it."""

    def __init__(self, statistics: Statistics, parameters: MigrationParameters) -> None:
        self._statistics = statistics
        self._parameters = parameters
        self._since = time.monotonic()
        self._bytes = 0
        self._saved = 0
        self._pages = 0
        self._bandwidth = 0.0
        self.reserved = 0
        """Bytes of that which the disks need."""

    @property
    def threshold(self) -> float:
        """Bytes that can be sent within the downtime limit; 0 before the first measurement."""
        bandwidth = self._parameters.switchover_bandwidth or self._bandwidth
        return max(0.0, bandwidth * self._parameters.downtime_limit / 1000 - self.reserved)

    def update(self, out: StreamWriter) -> None:
        now = time.monotonic()
        elapsed = now - self._since
        if elapsed < WINDOW:
            return
        statistics, ram = self._statistics, self._statistics.ram
        sent = out.transferred - self._bytes
        saved = statistics.saved - self._saved
        self._bandwidth = (sent + saved) / elapsed  # of pages, which is what remains is counted in
        ram.mbps = megabits_per_second(sent, elapsed)
        ram.pages_per_second = int((statistics.pages_sent - self._pages) / elapsed)
        if ram.dirty_pages_rate and sent > 10000:
            statistics.expected_downtime_ms = milliseconds(ram.remaining / self._bandwidth)
        self.restart(out)

    def restart(self, out: StreamWriter) -> None:
        """Begin a measurement."""
        self._since, self._bytes, self._pages = time.monotonic(), out.transferred, self._statistics.pages_sent
        self._saved = self._statistics.saved
