"""What XBZRLE and the compression threads count: the members ``xbzrle-cache`` and ``compression`` of query-migrate.

The migration thread writes, anybody reads. Rates are measured over periods: from one look at the dirty log to the
next that comes a second later or more. A migration that is over has the rates of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from e2kemu.memory.dirty import PAGE_SIZE


@dataclass
class XbzrleCounters:
    """XBZRLECacheStats."""

    cache_size: int
    """Bytes."""
    bytes: int = 0
    """Sent for pages that were in the cache, full pages after an overflow included."""
    pages: int = 0
    """That were in the cache, whatever came of it."""
    cache_miss: int = 0
    overflow: int = 0
    """Pages whose code would have been longer than a page."""
    cache_miss_rate: float = 0.0
    """Part of the pages that were not in the cache."""
    encoding_rate: float = 0.0
    """Bytes of pages for one byte sent."""
    _before: tuple[int, int, int] = (0, 0, 0)

    @property
    def saved(self) -> int:
        """Bytes of pages that did not have to be sent."""
        return self.pages * PAGE_SIZE - self.bytes

    def end_period(self) -> None:
        """A period is over: its rates are the rates."""
        size, pages, missed = self.bytes, self.pages, self.cache_miss
        old_size, old_pages, old_missed = self._before
        looked_up = pages - old_pages + missed - old_missed
        self.cache_miss_rate = (missed - old_missed) / looked_up if looked_up else 0.0
        self.encoding_rate = (pages - old_pages) * PAGE_SIZE / (size - old_size) if size > old_size else 0.0
        self._before = (size, pages, missed)

    def finish(self) -> None:
        """The migration is over: all of it is the period."""
        self._before = (0, 0, 0)
        self.end_period()

    def query(self) -> dict[str, Any]:
        """The member of query-migrate."""
        return {
            "cache-size": self.cache_size,
            "bytes": self.bytes,
            "pages": self.pages,
            "cache-miss": self.cache_miss,
            "cache-miss-rate": self.cache_miss_rate,
            "encoding-rate": self.encoding_rate,
            "overflow": self.overflow,
        }


@dataclass
class CompressionCounters:
    """CompressionStats."""

    pages: int = 0
    """Sent compressed."""
    busy: int = 0
    """Pages for which no thread was free, and which therefore went as they are."""
    compressed_size: int = 0
    """Bytes of the compressed pages' records."""
    busy_rate: float = 0.0
    """Part of the pages for which no thread was free."""
    compression_rate: float = 0.0
    """Bytes of pages for one byte sent."""
    _before: tuple[int, int, int] = (0, 0, 0)

    @property
    def saved(self) -> int:
        """Bytes of pages that did not have to be sent."""
        return self.pages * PAGE_SIZE - self.compressed_size

    def end_period(self) -> None:
        """A period is over: its rates are the rates."""
        size, pages, busy = self.compressed_size, self.pages, self.busy
        old_size, old_pages, old_busy = self._before
        offered = pages - old_pages + busy - old_busy
        self.busy_rate = (busy - old_busy) / offered if offered else 0.0
        self.compression_rate = (pages - old_pages) * PAGE_SIZE / (size - old_size) if size > old_size else 0.0
        self._before = (size, pages, busy)

    def finish(self) -> None:
        """The migration is over: all of it is the period."""
        self._before = (0, 0, 0)
        self.end_period()

    def query(self) -> dict[str, Any]:
        """The member of query-migrate."""
        return {
            "pages": self.pages,
            "busy": self.busy,
            "busy-rate": self.busy_rate,
            "compressed-size": self.compressed_size,
            "compression-rate": self.compression_rate,
        }
