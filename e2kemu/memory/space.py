"""Address spaces: what lies at which physical address, and accesses that are not plain RAM.

Regions are mapped with a priority; where they overlap, the higher priority is seen (equal: the one
mapped later). The result is kept as a *flat view*: sorted ranges without overlap, looked up by
bisection. A vCPU keeps the ``FlatRange`` of its last access and works on ``block.mem`` itself; it
comes here for everything else.

All values are little endian, as e2k is. MMIO accesses are split into naturally aligned pieces no
larger than the region's ``max_access``, and are made with the space's lock (the machine lock) held.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from e2kemu import trace
from e2kemu.memory.ram import RAMBlock

ADDRESS_END = 1 << 64
"""One past the last address."""


class MmioHandler(Protocol):
    """The registers of a device; ``offset`` counts from the start of the region, sizes are 1, 2, 4, 8."""

    def mmio_read(self, offset: int, size: int) -> int:
        """The value there, ``size`` bytes."""

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Store the low ``size`` bytes of ``value``."""


@dataclass(frozen=True, eq=False)
class RAMRegion:
    """``size`` bytes of ``block`` from its byte ``offset`` (default: all of it)."""

    block: RAMBlock
    offset: int = 0
    length: int | None = None

    @property
    def size(self) -> int:
        """Bytes of address space it takes."""
        return self.block.size - self.offset if self.length is None else self.length

    @property
    def kind(self) -> str:
        """The word in ``info mtree``."""
        return "rom" if self.block.readonly else "ram"


@dataclass(frozen=True, eq=False)
class MmioRegion:
    """``size`` bytes of registers; an access larger than ``max_access`` is made in pieces."""

    handler: MmioHandler
    size: int
    max_access: int = 8

    @property
    def kind(self) -> str:
        """The word in ``info mtree``."""
        return "i/o"


Region = RAMRegion | MmioRegion


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """One ``map`` call: a region at an address, with its name and priority."""

    base: int
    region: Region
    name: str
    priority: int

    @property
    def end(self) -> int:
        """One past the last address."""
        return self.base + self.region.size


@dataclass(frozen=True, slots=True, eq=False)
class FlatRange:
    """Addresses ``start`` up to, not including, ``end`` of one region.

    ``offset`` is that of ``start`` in the region. For RAM ``block`` is set and ``block_offset`` is the
    offset of ``start`` in the block: the byte at address a is ``block.mem[block_offset + a - start]``.
    ``writable`` says whether the guest may store there directly.
    """

    start: int
    end: int
    region: Region
    offset: int
    name: str
    priority: int
    block: RAMBlock | None
    block_offset: int
    writable: bool


class AddressSpace:
    """The map of one machine (or of its I/O). ``lock`` is held around every MMIO access."""

    def __init__(self, name: str = "memory", lock: AbstractContextManager[Any] | None = None) -> None:
        self.name = name
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        self._mappings: list[Mapping] = []
        self._flat: list[FlatRange] = []
        self._starts: list[int] = []
        self._watched: set[RAMBlock] = set()
        self.generation = 0
        """Grows with every ``map``, and when pages of RAM begin or cease to be missing: what was kept
        of ranges, blocks and their bytes is good as long as this has not changed."""
        self.listeners: list[Callable[[int, int], None]] = []
        """Called with (address, size) when a device, the monitor or the loader changed RAM there."""
        self.on_mmio: Callable[[], None] | None = None
        """Called before every access to a device; may raise instead."""

    def map(self, base: int, region: Region, name: str, priority: int = 0) -> None:
        """Put ``region`` at ``base``. Raises ValueError when it does not fit into 64 bits of address."""
        if base < 0 or base + region.size > ADDRESS_END or region.size <= 0:
            raise ValueError(f"region {name} does not fit at {base:#x}")
        self._mappings.append(Mapping(base, region, name, priority))
        if isinstance(region, RAMRegion) and region.block not in self._watched:
            self._watched.add(region.block)
            block = region.block
            block.listeners.append(lambda offset, size: self._block_changed(block, offset, size))
            block.remapped.append(self._block_remapped)
        self._flat = self._flatten()
        self._starts = [flat.start for flat in self._flat]
        self.generation += 1

    def _flatten(self) -> list[FlatRange]:
        edges = sorted({edge for m in self._mappings for edge in (m.base, m.end)})
        # stable sort: of equal priorities the one mapped last comes last and wins
        by_priority = sorted(self._mappings, key=lambda m: m.priority)
        pieces: list[tuple[int, int, Mapping]] = []
        for start, end in itertools.pairwise(edges):
            seen = [m for m in by_priority if m.base <= start and end <= m.end]
            if not seen:
                continue
            top = seen[-1]
            if pieces and pieces[-1][2] is top and pieces[-1][1] == start:
                pieces[-1] = (pieces[-1][0], end, top)
            else:
                pieces.append((start, end, top))
        return [self._flat_range(*piece) for piece in pieces]

    @staticmethod
    def _flat_range(start: int, end: int, mapping: Mapping) -> FlatRange:
        region, offset = mapping.region, start - mapping.base
        if isinstance(region, RAMRegion):
            block, at, writable = region.block, region.offset + offset, not region.block.readonly
            return FlatRange(start, end, region, offset, mapping.name, mapping.priority, block, at, writable)
        return FlatRange(start, end, region, offset, mapping.name, mapping.priority, None, 0, False)

    @property
    def ranges(self) -> list[FlatRange]:
        """The flat view, by rising address."""
        return list(self._flat)

    def find(self, address: int) -> FlatRange | None:
        """The range that holds ``address``, or None where nothing is mapped."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        flat = self._flat[index]
        return flat if address < flat.end else None

    # -- accesses of 1, 2, 4, 8 bytes ------------------------------------------------------------

    def read(self, address: int, size: int) -> int:
        """The ``size`` (1, 2, 4, 8) bytes at ``address``, little endian.

        Where nothing is mapped the bytes read as ones and the log item guest_errors says so.
        """
        flat = self.find(address)
        if flat is not None and address + size <= flat.end:
            if flat.block is not None:
                at = flat.block_offset + address - flat.start
                if flat.block.arrivals is not None:
                    flat.block.need(at, size)
                return int.from_bytes(flat.block.mem[at : at + size], "little")
            return self._mmio_read(flat, address, size)
        if flat is None and self._nothing_in(address, size):
            trace.guest_error(f"Invalid read at addr {address:#x}, size {size}, reason: rejected")
            return (1 << 8 * size) - 1
        return sum(self.read(address + i, 1) << 8 * i for i in range(size))

    def write(self, address: int, size: int, value: int) -> None:
        """Store the low ``size`` (1, 2, 4, 8) bytes of ``value``; logged where nothing can be stored."""
        flat = self.find(address)
        if flat is not None and address + size <= flat.end:
            if flat.block is None:
                self._mmio_write(flat, address, size, value)
            elif flat.writable:
                data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
                flat.block.write(flat.block_offset + address - flat.start, data)
            else:
                where = f"addr {address:#x}, size {size}, region '{flat.name}'"
                trace.guest_error(f"Invalid write at {where}, reason: read-only")
        elif flat is None and self._nothing_in(address, size):
            trace.guest_error(f"Invalid write at addr {address:#x}, size {size}, reason: rejected")
        else:
            for i in range(size):
                self.write(address + i, 1, value >> 8 * i & 0xFF)

    def _nothing_in(self, address: int, size: int) -> bool:
        index = bisect_right(self._starts, address)
        return index == len(self._starts) or self._starts[index] >= address + size

    def _mmio_read(self, flat: FlatRange, address: int, size: int) -> int:
        if self.on_mmio is not None:
            self.on_mmio()
        region = flat.region
        assert isinstance(region, MmioRegion)
        offset = flat.offset + address - flat.start
        with self._lock:
            if size <= region.max_access and not offset & (size - 1):
                return region.handler.mmio_read(offset, size) & ((1 << 8 * size) - 1)
            value = 0
            for at, piece in _pieces(offset, size, region.max_access):
                got = region.handler.mmio_read(at, piece) & ((1 << 8 * piece) - 1)
                value |= got << 8 * (at - offset)
            return value

    def _mmio_write(self, flat: FlatRange, address: int, size: int, value: int) -> None:
        if self.on_mmio is not None:
            self.on_mmio()
        region = flat.region
        assert isinstance(region, MmioRegion)
        offset = flat.offset + address - flat.start
        with self._lock:
            for at, piece in _pieces(offset, size, region.max_access):
                region.handler.mmio_write(at, piece, value >> 8 * (at - offset) & ((1 << 8 * piece) - 1))

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """For a device that waits for the host in the middle of an access: the lock is not held meanwhile.

        However deep the caller holds it. Everything but that CPU may go on: the device must expect other accesses.
        """
        lock: Any = self._lock
        # What threading.Condition uses to wait with an RLock, too.
        if not (hasattr(lock, "_is_owned") and lock._is_owned()):
            yield
            return
        depth = lock._release_save()
        try:
            yield
        finally:
            lock._acquire_restore(depth)

    # -- many bytes ------------------------------------------------------------------------------

    def read_bytes(self, address: int, size: int) -> bytes:
        """``size`` bytes from ``address`` on: RAM as it is, the rest by single accesses."""
        out = bytearray()
        while size:
            flat = self.find(address)
            if flat is not None and flat.block is not None:
                count = min(size, flat.end - address)
                at = flat.block_offset + address - flat.start
                flat.block.need(at, count)
                out += flat.block.mem[at : at + count]
            else:
                count = min(size, 1 if address & 3 or size < 4 else 4)
                out += self.read(address, count).to_bytes(count, "little")
            address += count
            size -= count
        return bytes(out)

    def write_bytes(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store ``data`` from ``address`` on: into RAM (marked dirty) or by single accesses."""
        rest = memoryview(data)
        while rest:
            flat = self.find(address)
            if flat is not None and flat.block is not None and flat.writable:
                count = min(len(rest), flat.end - address)
                flat.block.write(flat.block_offset + address - flat.start, rest[:count])
            else:
                count = 1 if address & 3 or len(rest) < 4 else 4
                self.write(address, count, int.from_bytes(rest[:count], "little"))
            address += count
            rest = rest[count:]

    # -- change notices and printing -------------------------------------------------------------

    def _block_remapped(self) -> None:
        self.generation += 1

    def _block_changed(self, block: RAMBlock, offset: int, size: int) -> None:
        if not self.listeners:
            return
        for flat in self._flat:
            if flat.block is not block:
                continue
            low = max(offset, flat.block_offset)
            high = min(offset + size, flat.block_offset + flat.end - flat.start)
            if low < high:
                for listener in self.listeners:
                    listener(flat.start + low - flat.block_offset, high - low)

    def mtree(self, flat: bool = False) -> str:
        """The text of ``info mtree`` (``flat``: of ``info mtree -f``)."""
        if flat:
            lines = ["FlatView #0", f' AS "{self.name}", root: system', " Root memory region: system"]
            for piece in self._flat:
                at = f" @{piece.block_offset if piece.block else piece.offset:016x}"
                shown = at if (piece.block_offset or piece.offset) else ""
                line = _mtree_line(piece.start, piece.end, piece.priority, piece.region, piece.name)
                lines.append(f"  {line}{shown}")
            return "\n".join(lines) + "\n"
        lines = [f"address-space: {self.name}", "  0000000000000000-ffffffffffffffff (prio 0, i/o): system"]
        for m in sorted(self._mappings, key=lambda m: (m.base, -m.priority)):
            lines.append("    " + _mtree_line(m.base, m.end, m.priority, m.region, m.name))
        return "\n".join(lines) + "\n"


def _mtree_line(start: int, end: int, priority: int, region: Region, name: str) -> str:
    return f"{start:016x}-{end - 1:016x} (prio {priority}, {region.kind}): {name}"


def _pieces(offset: int, size: int, limit: int) -> list[tuple[int, int]]:
    """Cut an access into naturally aligned (offset, size) pieces of at most ``limit`` bytes."""
    pieces = []
    end = offset + size
    while offset < end:
        piece = min(limit, size)
        while offset & (piece - 1) or offset + piece > end:
            piece >>= 1
        pieces.append((offset, piece))
        offset += piece
    return pieces
