"""Split virtqueues of virtio 1.x, the device's side: chains of buffers in guest memory.

    descriptor table   per entry u64 address, u32 length, u16 flags (1 NEXT, 2 WRITE, 4 INDIRECT), u16 next
    driver area        u16 flags (1 NO_INTERRUPT), u16 idx, u16 ring[size], u16 used_event
    device area        u16 flags, u16 idx, {u32 id, u32 length} ring[size], u16 avail_event

All little endian. ``Virtqueue.pop`` gives the next chain, ``push`` hands it back. A driver that breaks the
protocol is a ``VirtioError``; the transport then demands a reset. All memory is checked to be RAM before it is
touched, and written through the RAM block, so that migration sees it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from e2kemu.devices import vmstate as vm
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace

NEXT, WRITE, INDIRECT = 1, 2, 4
DESCRIPTOR = 16

NO_INTERRUPT = 1


class VirtioError(Exception):
    """The driver has broken the protocol: one line that says how."""


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes of guest memory at ``offset`` of ``block``."""

    block: RAMBlock
    offset: int
    size: int


@dataclass(frozen=True)
class Chain:
    """One request: what the device reads, what it writes, and the descriptor it began with."""

    head: int
    readable: tuple[Buffer, ...]
    writable: tuple[Buffer, ...]

    @property
    def readable_size(self) -> int:
        """Bytes the driver gives."""
        return sum(buffer.size for buffer in self.readable)

    @property
    def writable_size(self) -> int:
        """Bytes the driver has room for."""
        return sum(buffer.size for buffer in self.writable)

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from byte ``start`` of the readable buffers on."""
        parts = [buffer.block.read(buffer.offset, buffer.size) for buffer in _cut(self.readable, start, size)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, start: int, data: bytes) -> None:
        """Store ``data`` from byte ``start`` of the writable buffers on."""
        at = 0
        for buffer in _cut(self.writable, start, len(data)):
            buffer.block.write(buffer.offset, data[at : at + buffer.size])
            at += buffer.size


def _cut(buffers: tuple[Buffer, ...], start: int, size: int) -> list[Buffer]:
    """The part of ``buffers`` from byte ``start`` on, ``size`` bytes long."""
    parts = []
    for buffer in buffers:
        if start < buffer.size and size:
            count = min(size, buffer.size - start)
            parts.append(Buffer(buffer.block, buffer.offset + start, count))
            size -= count
        start = max(0, start - buffer.size)
    return parts


class Virtqueue:
    """One queue: its registers, and where it is in the rings. ``size_max`` is a power of two."""

    def __init__(self, space: AddressSpace, size_max: int) -> None:
        self.space, self.size_max = space, size_max
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self.size = self.size_max
        self.ready = 0
        self.desc = self.driver = self.device = 0
        self.last_avail = self.used = self.signalled = 0

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "virtqueue",
        1,
        [
            vm.u32("size"), vm.u32("ready"), vm.u64("desc"), vm.u64("driver"), vm.u64("device"),
            vm.u16("last_avail"), vm.u16("used"), vm.u16("signalled"),
        ],
        post_load="_post_load",
    )  # fmt: skip

    def _post_load(self, version: int) -> None:
        if not self.size_is_valid() or self.ready > 1:
            raise ValueError(f"queue of {self.size} entries, ready {self.ready}")

    def size_is_valid(self) -> bool:
        """A power of two up to the maximum."""
        return 0 < self.size <= self.size_max and not self.size & (self.size - 1)

    # -- guest memory

    def buffer(self, address: int, size: int) -> Buffer:
        """``size`` bytes of RAM at ``address``. Raises VirtioError when they are not RAM in one piece."""
        flat = self.space.find(address)
        if flat is None or flat.block is None or not flat.writable or address + size > flat.end:
            raise VirtioError(f"{size} bytes at {address:#x} are not RAM")
        return Buffer(flat.block, flat.block_offset + address - flat.start, size)

    def _read(self, address: int, form: str) -> tuple[int, ...]:
        where = self.buffer(address, struct.calcsize(form))
        return struct.unpack(form, where.block.read(where.offset, where.size))

    def _write(self, address: int, form: str, *values: int) -> None:
        where = self.buffer(address, struct.calcsize(form))
        where.block.write(where.offset, struct.pack(form, *values))

    # -- requests

    def avail(self) -> int:
        """Chains that wait. Raises VirtioError for more than the queue holds."""
        count = (self._read(self.driver + 2, "<H")[0] - self.last_avail) & 0xFFFF
        if count > self.size:
            raise VirtioError(f"Guest moved used index from {self.last_avail} by {count}, queue size {self.size}")
        return count

    def pop(self) -> Chain | None:
        """The next chain, None when there is none. Raises VirtioError."""
        if not self.avail():
            return None
        (head,) = self._read(self.driver + 4 + 2 * (self.last_avail % self.size), "<H")
        if head >= self.size:
            raise VirtioError(f"Guest says index {head} is available, queue size {self.size}")
        chain = self._chain(head)
        self.last_avail = (self.last_avail + 1) & 0xFFFF
        return chain

    def unpop(self) -> None:
        """The chain of the last ``pop`` has not been used: it is the next one again."""
        self.last_avail = (self.last_avail - 1) & 0xFFFF

    def _chain(self, head: int) -> Chain:
        readable: list[Buffer] = []
        writable: list[Buffer] = []
        table, entries, index = self.desc, self.size, head
        left = self.size  # of this table; a chain that is longer has a loop
        indirect = False
        while True:
            address, size, flags, following = self._read(table + DESCRIPTOR * index, "<QIHH")
            left -= 1
            if flags & INDIRECT:
                if indirect or readable or writable or flags & NEXT:
                    raise VirtioError("Invalid indirect descriptor: it is nested or not alone")
                if not size or size % DESCRIPTOR or size // DESCRIPTOR > self.size:
                    raise VirtioError(f"Invalid size for indirect buffer table: {size}")
                table, entries, index = address, size // DESCRIPTOR, 0
                left, indirect = entries, True
                continue
            if not size:
                raise VirtioError("virtio: zero sized buffers are not allowed")
            if flags & WRITE:
                writable.append(self.buffer(address, size))
            elif writable:
                raise VirtioError("Incorrect order for descriptors: readable after writable")
            else:
                readable.append(self.buffer(address, size))
            if not flags & NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            if following >= entries:
                raise VirtioError(f"Desc next is {following}, table has {entries}")
            if left == 0:
                raise VirtioError("Looped descriptor")
            index = following

    def push(self, chain: Chain, written: int) -> None:
        """Hand ``chain`` back, of which the device has written ``written`` bytes. Raises VirtioError."""
        self._write(self.device + 4 + 8 * (self.used % self.size), "<II", chain.head, written)
        self.used = (self.used + 1) & 0xFFFF
        # The index last: the driver that sees it finds the entry.
        self._write(self.device + 2, "<H", self.used)

    def set_avail_event(self) -> None:
        """With EVENT_IDX: tell from where on the driver has to notify. Raises VirtioError."""
        self._write(self.device + 4 + 8 * self.size, "<H", self.last_avail)

    def should_interrupt(self, event_idx: bool) -> bool:
        """Whether the driver wants to hear of what was pushed since the last call. Raises VirtioError."""
        old, self.signalled = self.signalled, self.used
        if old == self.used:
            return False
        if not event_idx:
            return not self._read(self.driver, "<H")[0] & NO_INTERRUPT
        (event,) = self._read(self.driver + 4 + 2 * self.size, "<H")
        return (self.used - event - 1) & 0xFFFF < (self.used - old) & 0xFFFF
