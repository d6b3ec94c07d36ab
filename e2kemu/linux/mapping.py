"""What is mapped where in a process: areas (as in /proc/self/maps), the rights of each page, and the bytes.

A guest address is the offset in the RAM block that the board maps at 0; programs linked above its end get blocks of
their own (``Ram``). Memory of the hardware stacks is an area without any rights: only the CPU and the kernel
use it. The host gets pages back when they are unmapped, so that what is mapped anew reads as zero.

``AddressMap`` is the ``PageRights`` of the CPU, the ``Backing`` of ``Memory``, and saved as the list of its areas.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from e2kemu import trace
from e2kemu.cpu.rights import EXECUTE, READ, WRITE
from e2kemu.linux import sharing
from e2kemu.memory.ram import RAMBlock

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
PAGE_MASK = PAGE_SIZE - 1

LOWEST = 0x10000
"""No mapping below: a null pointer with an offset faults."""

PROT_READ, PROT_WRITE, PROT_EXEC = READ, WRITE, EXECUTE
"""The bits of mmap's ``prot``; they are those of the CPU's rights."""


def page_up(value: int) -> int:
    """The page boundary at or above."""
    return value + PAGE_MASK & ~PAGE_MASK


@dataclass(frozen=True, slots=True)
class SharedFile:
    """Where stores to a MAP_SHARED mapping go: descriptor of our own."""

    fd: int
    path: str


@dataclass(frozen=True, slots=True)
class Area:
    """Pages ``start`` up to, not including, ``end`` with equal rights and origin."""

    start: int
    end: int
    prot: int
    name: str = ""
    """What /proc/self/maps shows: a path, "[heap]", "[stack]", ..."""
    offset: int = 0
    """Of ``start`` in the file."""
    shared: SharedFile | None = None
    private: bool = False
    """Not the program's: hardware stacks. It may neither use nor unmap it."""
    mark: bool = False
    """MAP_SHARED, for /proc/self/maps."""

    def part(self, start: int, end: int) -> Area:
        """The same for some of its pages."""
        return replace(self, start=start, end=end, offset=self.offset + start - self.start)

    def joins(self, other: Area) -> bool:
        """Whether ``other``, which begins where this ends, is more of the same."""
        same = (self.prot, self.name, self.shared, self.private, self.mark) == (
            other.prot, other.name, other.shared, other.private, other.mark)
        is_file = self.name and not self.name.startswith("[")
        return same and self.end == other.start and (
            not is_file or self.offset + self.end - self.start == other.offset)


@dataclass(frozen=True, slots=True)
class Ram:
    """A block of the machine and the guest address of its first byte."""

    base: int
    block: RAMBlock

    @property
    def end(self) -> int:
        """One past its last address."""
        return self.base + self.block.size


class RightsListener(Protocol):
    """Who caches rights: the CPU's core."""

    def protection_changed(self, first: int, last: int) -> None: ...


class AddressMap:
    """The address space of one process."""

    def __init__(self, rams: list[Ram], listener: RightsListener | None = None) -> None:
        self.rams = sorted(rams, key=lambda ram: ram.base)
        self.listener = listener
        self.areas: list[Area] = []
        """By rising address, without overlap."""
        self.brk_start = 0
        self.brk = 0
        """The program's break, and where it began."""
        self.limit = self.rams[0].end
        """Where the block at 0 ends: mmap places below."""
        self._common: list[tuple[int, int]] = []
        """(start, end) of what forked emulators have in common with this one."""
        self._low = bytearray(self.limit >> PAGE_BITS)
        self._high: dict[int, int] = {}

    # -- rights (cpu.core.PageRights)

    def of(self, page: int) -> int:
        """Rights of a page number."""
        if 0 <= page < len(self._low):
            return self._low[page]
        return self._high.get(page, 0)

    def _allows(self, address: int, size: int, access: int) -> bool:
        first, last = address >> PAGE_BITS, address + size - 1 >> PAGE_BITS
        if last - first > 1 << 20:
            return False
        return all(self.of(page) & access for page in range(first, last + 1))

    def readable(self, address: int, size: int) -> bool:
        """Whether the program may read all of it."""
        return self._allows(address, size, READ)

    def writable(self, address: int, size: int) -> bool:
        """Whether the program may write all of it."""
        return self._allows(address, size, WRITE)

    # -- bytes

    def _pieces(self, address: int, size: int) -> Iterator[tuple[RAMBlock, int, int]]:
        """(block, offset, count) of the memory behind addresses that are inside of blocks."""
        for ram in self.rams:
            low, high = max(address, ram.base), min(address + size, ram.end)
            if low < high:
                yield ram.block, low - ram.base, high - low

    def backed(self, start: int, end: int) -> bool:
        """Whether there is memory behind all of these addresses."""
        return sum(count for _, _, count in self._pieces(start, end - start)) == end - start

    def load(self, address: int, size: int) -> bytes:
        """Bytes, whatever the rights."""
        return b"".join(block.read(offset, count) for block, offset, count in self._pieces(address, size))

    def store(self, address: int, data: bytes) -> None:
        """Store bytes, whatever the rights."""
        at = 0
        for block, offset, count in self._pieces(address, len(data)):
            block.write(offset, data[at : at + count])
            at += count

    # -- what is in common with children

    def share(self) -> None:
        """The emulator is about to be forked: shared mappings, but for those that nobody may write, are not copied."""
        for area in self.areas:
            written = area.mark and (area.shared is not None or not area.name)
            if written and not self.is_common(area.start, area.end):
                if area.end - area.start > sharing.LARGEST:
                    trace.unimp(f"fork with a shared mapping of {area.end - area.start} bytes: the child gets a copy")
                    continue
                for block, offset, count in self._pieces(area.start, area.end - area.start):
                    sharing.share(block, offset, count)
                self._common.append((area.start, area.end))

    def is_common(self, start: int, end: int) -> bool:
        """Whether some of it is in common with other emulators."""
        return any(low < end and start < high for low, high in self._common)

    def _part(self, start: int, end: int) -> None:
        """Nothing there is in common any more, and it reads as zero."""
        for common in [one for one in self._common if one[0] < end and start < one[1]]:
            low, high = max(start, common[0]), min(end, common[1])
            for block, offset, count in self._pieces(low, high - low):
                sharing.part(block, offset, count)
                block.log.mark(offset, count)
                block.changed(offset, count)
            self._common.remove(common)
            self._common += [(a, b) for a, b in ((common[0], low), (high, common[1])) if a < b]

    def _clear(self, start: int, end: int) -> None:
        """The pages read as zero; the host has them back."""
        if self._common:
            self._part(start, end)
        for block, offset, count in self._pieces(start, end - start):
            if not block.untouched(offset >> PAGE_BITS, count >> PAGE_BITS).all():
                block.need(offset, count)
                block.release(offset, count)
                block.log.mark(offset, count)
                block.changed(offset, count)

    # -- areas

    def find(self, address: int) -> Area | None:
        """The area that holds ``address``."""
        index = bisect.bisect_right(self.areas, address, key=lambda area: area.start) - 1
        return self.areas[index] if index >= 0 and address < self.areas[index].end else None

    def overlapping(self, start: int, end: int) -> list[Area]:
        """The areas that have pages in this range, cut to it."""
        return [area.part(max(area.start, start), min(area.end, end))
                for area in self.areas if area.start < end and start < area.end]

    def covered(self, start: int, end: int) -> bool:
        """Whether everything there is mapped, by the program."""
        found = self.overlapping(start, end)
        return sum(a.end - a.start for a in found) == end - start and not any(a.private for a in found)

    def _replace(self, start: int, end: int, new: list[Area]) -> None:
        kept = [part for area in self.areas for part in (
            [area] if area.end <= start or end <= area.start else
            ([area.part(area.start, start)] if area.start < start else [])
            + ([area.part(end, area.end)] if end < area.end else []))]
        joined: list[Area] = []
        for area in sorted(kept + new, key=lambda one: one.start):
            if joined and joined[-1].joins(area):
                joined[-1] = replace(joined[-1], end=area.end)
            else:
                joined.append(area)
        self.areas = joined
        self._set_rights(start, end, new)

    def _set_rights(self, start: int, end: int, areas: list[Area]) -> None:
        self._paint(start, end, 0)
        for area in areas:
            self._paint(area.start, area.end, area.prot | READ if area.prot & (WRITE | EXECUTE) else area.prot)
        if self.listener is not None:
            self.listener.protection_changed(start >> PAGE_BITS, (end >> PAGE_BITS) - 1)

    def _paint(self, start: int, end: int, rights: int) -> None:
        first, last = start >> PAGE_BITS, end >> PAGE_BITS
        low = min(last, len(self._low))
        if first < low:
            self._low[first:low] = bytes((rights,)) * (low - first)
        for page in range(max(first, len(self._low)), last):
            if rights:
                self._high[page] = rights
            else:
                self._high.pop(page, None)

    def map(self, area: Area) -> None:
        """Map zeroed pages, in place of what was there."""
        self.unmap(area.start, area.end)
        self._replace(area.start, area.end, [area])

    def unmap(self, start: int, end: int) -> None:
        """Nothing is there any more."""
        gone = self.overlapping(start, end)
        if gone:
            self.write_back(start, end)
            self._replace(start, end, [])
            for area in gone:
                self._clear(area.start, area.end)
            used = {area.shared.fd for area in self.each_shared() if area.shared is not None}
            for fd in {area.shared.fd for area in gone if area.shared is not None} - used:
                os.close(fd)

    def protect(self, start: int, end: int, prot: int) -> None:
        """Other rights for pages that are mapped."""
        self._replace(start, end, [replace(area, prot=prot) for area in self.overlapping(start, end)])

    def discard(self, start: int, end: int) -> None:
        """Private anonymous pages read as zero again (MADV_DONTNEED)."""
        for area in self.overlapping(start, end):
            if not (area.mark or area.shared or area.private) and not (area.name and not area.name.startswith("[")):
                self._clear(area.start, area.end)

    def write_back(self, start: int, end: int) -> None:
        """Shared mappings of files in this range: bring the files up to date."""
        for area in self.overlapping(start, end):
            if area.shared is not None:
                with suppress(OSError):
                    size = os.fstat(area.shared.fd).st_size
                    count = min(area.end - area.start, max(size - area.offset, 0))
                    if count:
                        os.pwrite(area.shared.fd, self.load(area.start, count), area.offset)

    def find_free(self, size: int, below: int = 0, *, above: int = LOWEST) -> int | None:
        """The highest place of ``size`` free bytes that ends at or under ``below`` (default: of the RAM)."""
        high = below or self.limit
        for area in reversed(self.areas):
            if area.start >= high:
                continue
            if area.end <= high and high - max(area.end, above) >= size:
                return high - size
            high = min(high, area.start)
        return high - size if high - size >= above else None

    def clear(self) -> None:
        """Unmap everything: a new program."""
        for area in list(self.areas):
            self.unmap(area.start, area.end)

    def restore(self, areas: list[Area]) -> None:
        """The areas of a migrated process; the bytes come with the RAM."""
        self._low = bytearray(len(self._low))
        self._high.clear()
        self.areas = []
        for area in areas:
            self._replace(area.start, area.end, [area])

    def each_shared(self) -> Iterator[Area]:
        """Mappings through which files are written."""
        return (area for area in self.areas if area.shared is not None)

    def maps_text(self) -> str:
        """What /proc/self/maps says."""
        lines = []
        for area in self.areas:
            if area.private:
                continue
            letters = "".join(c if area.prot & bit else "-" for c, bit in zip("rwx", (1, 2, 4), strict=True))
            line = f"{area.start:08x}-{area.end:08x} {letters}{'s' if area.mark else 'p'} {area.offset:08x} 00:00 0"
            lines.append(f"{line:<73s}{area.name}".rstrip())
        return "".join(line + "\n" for line in lines)
