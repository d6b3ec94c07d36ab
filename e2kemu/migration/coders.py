"""Which ``PageCoder`` sends pages, by the capabilities xbzrle and compress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from e2kemu.memory.dirty import PAGE_BITS
from e2kemu.migration.compress import CompressionSender, CompressionSettings
from e2kemu.migration.counters import CompressionCounters, XbzrleCounters
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.ram import PageCoder
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.xbzrle_cache import XbzrleSender

BUFFERS = 36 << 20
"""Bytes that a migration takes beside the cache with everything on: batches of pages, their records, TLS."""


def page_coders(
    capabilities: Mapping[str, bool],
    parameters: MigrationParameters,
    statistics: Statistics,
    ram_size: int,
    at_end: ExitStack,
) -> tuple[PageCoder | None, PageCoder | None]:
    """The coders of the first round and of the others. XBZRLE has nothing to compare with in the first round, and
    is better than compression afterwards. ``at_end`` ends their threads."""
    compression = xbzrle = None
    if capabilities["compress"]:
        statistics.compression = CompressionCounters()
        settings = CompressionSettings(
            int(parameters["compress-threads"]),
            lambda: int(parameters["compress-level"]),
            lambda: bool(parameters["compress-wait-thread"]),
        )
        compression = CompressionSender(statistics.compression, settings)
        at_end.callback(compression.close)
    if capabilities["xbzrle"]:
        size = cache_size(parameters, ram_size)
        statistics.xbzrle = XbzrleCounters(size())
        xbzrle = XbzrleSender(statistics.xbzrle, size, ram_size >> PAGE_BITS)
    return compression, xbzrle or compression


def cache_size(parameters: MigrationParameters, ram_size: int) -> Callable[[], int]:
    """The size wanted now: what the user set, else the default, but so that the source grows by no more than a
    tenth of the guest's memory (a small guest's cache is small, but not nothing)."""

    def wanted() -> int:
        size = int(parameters["xbzrle-cache-size"])
        if "xbzrle-cache-size" in parameters.given:
            return size
        share = max(ram_size // 10 - BUFFERS, ram_size // 64, 1 << PAGE_BITS)
        return min(size, 1 << (share.bit_length() - 1))

    return wanted
