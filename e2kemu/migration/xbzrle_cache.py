"""The source's side of XBZRLE: which pages it remembers, and what it sends of those that come again.

``PageCache`` holds pages as they were last *sent*; that is what the destination has. It is direct-mapped: page
number modulo the number of places. A page may take the place of another only when that one was not looked up in
the last two rounds (``LIFETIME``); otherwise it is not kept. Memory is used as places are, and never for more
pages than the guest has.

``XbzrleSender`` is the ``PageCoder`` (``ram.py``) that asks the cache. It is given copies of pages, so what is
encoded, sent whole and remembered is the same even while the guest goes on writing.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from e2kemu.memory.dirty import PAGE_BITS, PAGE_SIZE
from e2kemu.migration.counters import XbzrleCounters
from e2kemu.migration.ram import BlockPages, Flag, PageSink, heads
from e2kemu.migration.xbzrle import encode_pages, prepare

LIFETIME = 2
"""Rounds for which a page that was looked up keeps its place."""

STEP = 1024
"""Places that are moved at once when the cache gets another size."""

BATCH = 256
"""Pages that are looked up and encoded at once: copies of them exist for a moment."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def places_for(size: int, guest_pages: int) -> int:
    """Places of a cache of ``size`` bytes (rounded down to a power of two), no more than the guest can fill."""
    wanted = 1 << (max(size >> PAGE_BITS, 1).bit_length() - 1)
    return min(wanted, 1 << max(guest_pages - 1, 0).bit_length())


class PageCache:
    """``places`` (a power of two) pages by number. The numbers of one call have different places."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._map = mmap.mmap(-1, places << PAGE_BITS, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._store = np.frombuffer(self._map, dtype=np.uint8).reshape(places, PAGE_SIZE)
        self._owner = np.zeros(places, dtype=np.int64)  # page number + 1; 0: free
        self._age = np.zeros(places, dtype=np.int64)  # round of the last look

    def fit(self, numbers: Ints) -> int:
        """How many of these ascending numbers, from the first on, have different places."""
        return int(np.searchsorted(numbers, numbers[0] + self.places))

    def look_up(self, numbers: Ints, generation: int) -> npt.NDArray[np.bool_]:
        """Which of the pages are here; they stay young."""
        place = numbers & (self.places - 1)
        found: npt.NDArray[np.bool_] = self._owner[place] == numbers + 1
        self._age[place[found]] = generation
        return found

    def get(self, numbers: Ints) -> Bytes:
        """Pages that are here."""
        place = numbers & (self.places - 1)
        if len(place) and int(place[-1]) - int(place[0]) == len(place) - 1:
            return self._store[place[0] : int(place[-1]) + 1]
        pages: Bytes = self._store[place]
        return pages

    def put(self, numbers: Ints, pages: Bytes, generation: int) -> None:
        """Remember ``pages``; those whose place belongs to another young page are forgotten."""
        place = numbers & (self.places - 1)
        owner = self._owner[place]
        may = (owner == 0) | (owner == numbers + 1) | (self._age[place] + LIFETIME <= generation)
        if not may.all():
            place, numbers = place[may], numbers[may]
            pages = pages if len(pages) == 1 else pages[may]
        self._store[place] = pages
        self._owner[place] = numbers + 1
        self._age[place] = generation

    def resized(self, places: int) -> PageCache:
        """A cache of another size with the same pages; where two want one place, the younger stays.

        This one is empty afterwards: its memory goes as the other's comes.
        """
        other = PageCache(places)
        step = min(STEP, places, self.places)
        for start in range(0, self.places, step):
            here = start + np.flatnonzero(self._owner[start : start + step])
            if not len(here):
                continue
            there = (self._owner[here] - 1) & (places - 1)
            younger = (other._owner[there] == 0) | (other._age[there] < self._age[here])
            here, there = here[younger], there[younger]
            other._store[there] = self._store[here]
            other._owner[there] = self._owner[here]
            other._age[there] = self._age[here]
            self._owner[start : start + step] = 0
            self._map.madvise(mmap.MADV_DONTNEED, start << PAGE_BITS, step << PAGE_BITS)
        return other


class XbzrleSender:
    """The coder of one migration. ``cache_size()`` gives the size wanted now, in bytes."""

    def __init__(self, counters: XbzrleCounters, cache_size: Callable[[], int], guest_pages: int) -> None:
        self._counters = counters
        self._cache_size = cache_size
        self._guest_pages = guest_pages
        self._cache = PageCache(places_for(cache_size(), guest_pages))
        self._generation = 0
        self._keep = True  # not in the last round, after which nothing comes
        prepare()  # now, while the guest runs

    def synced(self, generation: int, *, last: bool, period: bool) -> None:
        """See ``PageCoder``."""
        self._generation, self._keep = generation, not last
        if period:
            self._counters.end_period()

    def fit(self, block: BlockPages, index: Ints) -> int:
        """How many of the pages can be given to ``send`` at once."""
        size = self._cache_size()
        self._counters.cache_size = size
        places = places_for(size, self._guest_pages)
        if places != self._cache.places:
            self._cache = self._cache.resized(places)
        return self._cache.fit(index[:BATCH] + block.first)

    def zeroed(self, block: BlockPages, index: Ints) -> None:
        """Zero pages are sent: so the destination has them."""
        if self._keep:
            self._cache.put(index + block.first, np.zeros((1, PAGE_SIZE), dtype=np.uint8), self._generation)

    def send(self, sink: PageSink, block: BlockPages, index: Ints, pages: Bytes) -> None:
        """Send what has changed of pages that are remembered, all others whole."""
        counters, numbers = self._counters, index + block.first
        found = self._cache.look_up(numbers, self._generation)
        counters.cache_miss += len(found) - int(np.count_nonzero(found))
        whole = ~found
        if found.any():
            hits = np.flatnonzero(found)
            some = len(hits) < len(numbers)
            new = pages[hits] if some else pages
            encoded = encode_pages(self._cache.get(numbers[hits]), new)
            whole[hits[encoded.lengths < 0]] = True
            sent = index[hits[encoded.lengths > 0]]
            overflow = int(np.count_nonzero(encoded.lengths < 0))
            counters.pages += len(hits)
            counters.overflow += overflow
            counters.bytes += overflow * PAGE_SIZE + len(encoded.records) - 8 * len(sent)
            if len(sent):
                place = encoded.starts[:, None] + np.arange(8)
                encoded.records[place] = heads(sent, Flag.XBZRLE | Flag.CONTINUE)
                sink.coded(encoded.records.data)
        if self._keep:
            self._cache.put(numbers, pages, self._generation)
        if whole.any():
            all_whole = whole.all()
            sink.whole(index if all_whole else index[whole], pages if all_whole else pages[whole])
