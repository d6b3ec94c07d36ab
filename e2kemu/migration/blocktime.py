"""How long a destination's vCPUs have waited for pages: the capability postcopy-blocktime.

Figures of query-migrate (those of QEMU 10.2): per vCPU the time blocked in ms and the mean latency of a page
in ns, the time during which *all* vCPUs were blocked, the mean of all latencies, that of waits which were no
vCPU's, and how the latencies are distributed over powers of two of a microsecond. QEMU has no names for a median
and the like, so ours begin with ``x-``: ``x-postcopy-latency-median`` and ``x-postcopy-latency-p99``, in ns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

BUCKETS = 24
"""Counts of latencies: below 2 us, 4 us, ... the last takes all that is longer."""


@dataclass
class _Waits:
    count: int = 0
    nanoseconds: int = 0

    def mean(self) -> int:
        return self.nanoseconds // self.count if self.count else 0


FINE = 5
"""``Percentiles`` knows a value to one part in two to this."""


class Percentiles:
    """How many values there were of which size, in memory that does not grow with them."""

    def __init__(self) -> None:
        self._counts = [0] * (64 << FINE)
        self._total = 0

    def add(self, value: int) -> None:
        """Count ``value``, 0 to 2**63."""
        shift = max(value.bit_length() - FINE - 1, 0)
        self._counts[(shift << FINE) + (value >> shift)] += 1
        self._total += 1

    def percentile(self, percent: int) -> int:
        """The value that ``percent`` of all do not exceed, rounded up to what is known of it; 0: there are none."""
        rank, seen = -(-self._total * percent // 100), 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                shift = max((index >> FINE) - 1, 0)
                return ((index - (shift << FINE) + 1) << shift) - 1
        return 0


class BlockTime:
    """An observer of ``memory.received.Arrivals`` for ``cpus`` vCPUs; its calls are serialized."""

    def __init__(self, cpus: int) -> None:
        self._cpus = [_Waits() for _ in range(cpus)]
        self._others = _Waits()
        self._buckets = [0] * BUCKETS
        self._latencies = Percentiles()
        self._blocked = 0
        self._all_since = 0
        self._all = 0

    def waiting(self, cpu: int | None) -> None:
        """``cpu`` (None: somebody else) begins to wait."""
        if cpu is not None:
            self._blocked += 1
            if self._blocked == len(self._cpus):
                self._all_since = time.monotonic_ns()

    def arrived(self, cpu: int | None, nanoseconds: int) -> None:
        """It has waited that long."""
        if cpu is not None:
            if self._blocked == len(self._cpus):
                self._all += time.monotonic_ns() - self._all_since
            self._blocked -= 1
        waits = self._others if cpu is None else self._cpus[cpu]
        waits.count += 1
        waits.nanoseconds += nanoseconds
        self._buckets[bucket(nanoseconds)] += 1
        self._latencies.add(nanoseconds)

    def query(self) -> dict[str, Any]:
        """The members of query-migrate."""
        total = _Waits(
            sum(one.count for one in (*self._cpus, self._others)),
            sum(one.nanoseconds for one in (*self._cpus, self._others)),
        )
        return {
            "postcopy-blocktime": self._all // 1_000_000,
            "postcopy-vcpu-blocktime": [one.nanoseconds // 1_000_000 for one in self._cpus],
            "postcopy-latency": total.mean(),
            "postcopy-latency-dist": list(self._buckets),
            "postcopy-vcpu-latency": [one.mean() for one in self._cpus],
            "postcopy-non-vcpu-latency": self._others.mean(),
            "x-postcopy-latency-median": self._latencies.percentile(50),
            "x-postcopy-latency-p99": self._latencies.percentile(99),
        }


def bucket(nanoseconds: int) -> int:
    """Which of the counts a latency belongs to."""
    microseconds = nanoseconds // 1000
    return min(max(microseconds.bit_length() - 1, 0), BUCKETS - 1)
