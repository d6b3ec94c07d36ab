"""A guest's driver of a virtio-mmio device, written from the specification: it polls, and may be told to misbehave.

Queue q has its areas ``STEP * q`` further than ``DESC``, ``DRIVER`` and ``DEVICE``; guest RAM is at 0.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from e2kemu.devices.virtio_mmio import VirtioMmio
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion, RAMRegion
from e2kemu.wire import BytesReader, Writer

BASE, RAM = 0x8130_1000, 1 << 20
DESC, DRIVER, DEVICE, STEP = 0x1000, 0x2000, 0x3000, 0x8000
NEXT, WRITE, INDIRECT = 1, 2, 4
"""Flags of a descriptor."""
VERSION_1, EVENT_IDX = 1 << 32, 1 << 29


class VirtioDriver:
    """``kind``: the device it expects; ``entries`` in each of its ``queues``. ``features`` beside VERSION_1.

    A subclass makes the device for ``space`` and plugs it in.
    """

    kind: ClassVar[int]
    entries: ClassVar[int] = 8
    queues: ClassVar[int] = 1

    def __init__(self, features: int = 0) -> None:
        self.space, self.ram = AddressSpace(), RAMBlock("ram", RAM)
        self.space.map(0, RAMRegion(self.ram), "ram")
        self.features = features | VERSION_1
        self.avail = [0] * self.queues
        """What has been offered, modulo 2**16."""
        self.seen = [0] * self.queues
        """What has been seen of the used entries."""

    def plug(self, device: VirtioMmio) -> None:
        self.space.map(BASE, MmioRegion(device, device.size, device.max_access), "device")

    def poke(self, offset: int, value: int) -> None:
        self.space.write(BASE + offset, 4, value)

    def peek(self, offset: int, size: int = 4) -> int:
        return self.space.read(BASE + offset, size)

    def offer_features(self, features: int) -> None:
        """Write them, and FEATURES_OK."""
        for half in (0, 1):
            self.poke(0x24, half)
            self.poke(0x20, features >> 32 * half & 0xFFFF_FFFF)
        self.poke(0x70, 11)

    def set_up(self) -> None:
        """Reset, negotiate, and begin with empty queues."""
        assert (self.peek(0), self.peek(4), self.peek(8)) == (0x74726976, 2, self.kind)
        for status in (0, 1, 3):
            self.poke(0x70, status)
        self.offer_features(self.features)
        assert self.peek(0x70) == 11
        for queue in range(self.queues):
            self.poke(0x30, queue)
            assert self.peek(0x34) == 256
            self.poke(0x38, self.entries)
            for offset, address in ((0x80, DESC), (0x90, DRIVER), (0xA0, DEVICE)):
                self.poke(offset, address + STEP * queue)
                self.poke(offset + 4, 0)
            self.ram.write(DRIVER + STEP * queue, bytes(6 + 2 * self.entries))
            self.ram.write(DEVICE + STEP * queue, bytes(6 + 8 * self.entries))
            self.poke(0x44, 1)
        self.poke(0x70, 15)
        self.avail, self.seen = [0] * self.queues, [0] * self.queues

    def descriptor(
        self, number: int, address: int, size: int, flags: int, following: int = 0, *, table: int = DESC
    ) -> None:
        self.ram.write(table + 16 * number, struct.pack("<QIHH", address, size, flags, following))

    def offer(self, head: int, queue: int = 0) -> None:
        """Make the chain from descriptor ``head`` on available; the device is not told yet."""
        ring = DRIVER + STEP * queue
        self.ram.write(ring + 4 + 2 * (self.avail[queue] % self.entries), struct.pack("<H", head))
        self.avail[queue] = (self.avail[queue] + 1) & 0xFFFF
        self.ram.write(ring + 2, struct.pack("<H", self.avail[queue]))

    def notify(self, queue: int = 0) -> None:
        self.poke(0x50, queue)

    def used(self, queue: int = 0) -> list[tuple[int, int]]:
        """The used entries that are new: (head, bytes written)."""
        area, found = DEVICE + STEP * queue, []
        (index,) = struct.unpack("<H", self.ram.read(area + 2, 2))
        while self.seen[queue] != index:
            found.append(struct.unpack("<II", self.ram.read(area + 4 + 8 * (self.seen[queue] % self.entries), 8)))
            self.seen[queue] = (self.seen[queue] + 1) & 0xFFFF
        return found

    @property
    def needs_reset(self) -> bool:
        """The device has met something that it does not put up with."""
        return bool(self.peek(0x70) & 0x40)

    def go_on_from(self, other: VirtioDriver) -> None:
        """Be the driver ``other`` after a migration of its memory."""
        self.ram.write(0, other.ram.read(0, RAM))
        self.avail, self.seen = list(other.avail), list(other.seen)


def saved(device: VirtioMmio) -> bytes:
    """Its section."""
    section, w = device.section(), Writer()
    assert section is not None
    section.save(w)
    return w.getvalue()


def load(device: VirtioMmio, data: bytes) -> None:
    """The other way; may raise StreamError."""
    section = device.section()
    assert section is not None
    section.load(BytesReader(data), section.version)
