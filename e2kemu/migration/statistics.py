"""The figures of one outgoing migration: what query-migrate and ``info migrate`` show.

The migration thread writes, anybody reads: each figure is one attribute, so a reader sees an old or a new
value, never half of one. Times are host seconds here and milliseconds in the answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from e2kemu.migration import state
from e2kemu.migration.block import DiskCounters
from e2kemu.migration.counters import CompressionCounters, XbzrleCounters


@dataclass
class RamCounters:
    """Pages and bytes of guest RAM; the names are query-migrate's."""

    total: int = 0
    """Bytes of all blocks."""
    page_size: int = 4096
    remaining: int = 0
    """Bytes still marked dirty."""
    duplicate: int = 0
    """Zero pages sent."""
    normal: int = 0
    """Full pages sent."""
    dirty_sync_count: int = 0
    dirty_pages_rate: int = 0
    """Pages the guest dirties per second, measured between syncs."""
    precopy_bytes: int = 0
    """RAM records sent while the guest could run."""
    downtime_bytes: int = 0
    """RAM records sent while it stood still."""
    postcopy_bytes: int = 0
    postcopy_requests: int = 0
    multifd_bytes: int = 0
    pages_per_second: int = 0
    mbps: float = 0.0

    @property
    def pages_sent(self) -> int:
        return self.normal + self.duplicate


@dataclass
class Statistics:
    """One migration from its ``migrate`` command on."""

    ram: RamCounters = field(default_factory=RamCounters)
    disk: DiskCounters | None = None
    """With block migration."""
    transferred: int = 0
    """Bytes that went into the channel."""
    started: float = field(default_factory=time.monotonic)
    setup_time: float = 0.0
    stopped_at: float | None = None
    """When the source stopped its guest for the switchover."""
    downtime: float = 0.0
    total_time: float | None = None
    """Known when it is over."""
    expected_downtime_ms: int = 0
    xbzrle: XbzrleCounters | None = None
    """With the capability xbzrle."""
    compression: CompressionCounters | None = None
    """With the capability compress."""
    throttle_percentage: int = 0
    """By how much auto-converge slows the guest down now."""

    @property
    def saved(self) -> int:
        """Bytes of pages that did not have to go into the channel, thanks to XBZRLE and compression."""
        return sum(counters.saved for counters in (self.xbzrle, self.compression) if counters is not None)

    @property
    def pages_sent(self) -> int:
        """Pages that went in any form."""
        encoded = sum(counters.pages for counters in (self.xbzrle, self.compression) if counters is not None)
        return self.ram.pages_sent + encoded - (self.xbzrle.overflow if self.xbzrle is not None else 0)

    def finish(self) -> None:
        """It is over: fix the total and the throughput over the whole migration."""
        self.total_time = time.monotonic() - self.started
        transfer_ms = milliseconds(self.total_time) - milliseconds(self.setup_time)
        self.ram.mbps = megabits_per_second(self.transferred, transfer_ms / 1000)
        for counters in (self.xbzrle, self.compression):
            if counters is not None:
                counters.finish()
        self.ram.remaining = 0 if self.stopped_at is not None else self.ram.remaining

    def query(self, status: str) -> dict[str, Any]:
        """The members of query-migrate that ``status`` has."""
        if status in (state.NONE, state.SETUP, state.CANCELLED, state.FAILED):
            return {}
        answer: dict[str, Any] = {}
        total = self.total_time
        answer["total-time"] = milliseconds(time.monotonic() - self.started if total is None else total)
        if status == state.COMPLETED:
            answer["downtime"] = milliseconds(self.downtime)
        else:
            answer["expected-downtime"] = self.expected_downtime_ms
            answer["remaining"] = self.ram.remaining
        answer["setup-time"] = milliseconds(self.setup_time)
        if self.disk is not None:
            answer["disk"] = self.disk.query()
        ram = self.ram
        answer["ram"] = {
            "transferred": self.transferred,
            "remaining": ram.remaining,
            "total": ram.total,
            "duplicate": ram.duplicate,
            "normal": ram.normal,
            "normal-bytes": ram.normal * ram.page_size,
            "dirty-pages-rate": ram.dirty_pages_rate,
            "mbps": ram.mbps,
            "dirty-sync-count": ram.dirty_sync_count,
            "postcopy-requests": ram.postcopy_requests,
            "page-size": ram.page_size,
            "multifd-bytes": ram.multifd_bytes,
            "pages-per-second": ram.pages_per_second,
            "precopy-bytes": ram.precopy_bytes,
            "downtime-bytes": ram.downtime_bytes,
            "postcopy-bytes": ram.postcopy_bytes,
            "dirty-sync-missed-zero-copy": 0,
        }
        if self.xbzrle is not None:
            answer["xbzrle-cache"] = self.xbzrle.query()
        if self.compression is not None:
            answer["compression"] = self.compression.query()
        if self.throttle_percentage:
            answer["cpu-throttle-percentage"] = self.throttle_percentage
        return answer


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded down as QEMU's clock does."""
    return int(seconds * 1000)


def megabits_per_second(count: int, seconds: float) -> float:
    """Throughput of ``count`` bytes in ``seconds``; 0 when no time passed."""
    return count * 8 / seconds / 1e6 if seconds > 0 else 0.0
