"""The entropy device with a driver written from the specification."""

from __future__ import annotations

import struct

import pytest

from e2kemu.devices.virtio_rng import MAX_REQUEST, VirtioRng
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion, RAMRegion
from e2kemu.wire import BytesReader, Writer

BASE, RAM, QUEUE = 0x8130_2000, 1 << 20, 8
DESC, DRIVER, DEVICE, DATA = 0x1000, 0x2000, 0x3000, 0x10000
WRITE = 2


class Driver:
    """A guest's driver that polls."""

    def __init__(self) -> None:
        self.space, self.ram = AddressSpace(), RAMBlock("ram", RAM)
        self.asked: list[int] = []
        self.device = VirtioRng(self.space, self.source)
        self.space.map(0, RAMRegion(self.ram), "ram")
        self.space.map(BASE, MmioRegion(self.device, self.device.size, self.device.max_access), "rng")
        self.avail = 0

    def source(self, count: int) -> bytes:
        self.asked.append(count)
        return bytes(number % 251 + 1 for number in range(count))

    def poke(self, offset: int, value: int) -> None:
        self.space.write(BASE + offset, 4, value)

    def peek(self, offset: int) -> int:
        return self.space.read(BASE + offset, 4)

    def set_up(self) -> None:
        assert (self.peek(0), self.peek(4), self.peek(8)) == (0x74726976, 2, 4)
        for status in (0, 1, 3):
            self.poke(0x70, status)
        self.poke(0x24, 1)
        self.poke(0x20, 1)                         # VERSION_1
        self.poke(0x70, 11)
        assert self.peek(0x70) == 11
        self.poke(0x38, QUEUE)
        for offset, address in ((0x80, DESC), (0x90, DRIVER), (0xA0, DEVICE)):
            self.poke(offset, address)
        self.poke(0x44, 1)
        self.poke(0x70, 15)

    def request(self, size: int, flags: int = WRITE) -> int:
        """Ask for ``size`` bytes; returns how many the device says it has written."""
        self.ram.write(DESC, struct.pack("<QIHH", DATA, size, flags, 0))
        self.ram.write(DRIVER + 4 + 2 * (self.avail % QUEUE), bytes(2))
        self.avail += 1
        self.ram.write(DRIVER + 2, struct.pack("<H", self.avail))
        self.poke(0x50, 0)
        at = DEVICE + 4 + 8 * ((self.avail - 1) % QUEUE)
        return int(struct.unpack("<4xI", self.ram.read(at, 8))[0])


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.set_up()
    return driver


def test_a_buffer_is_filled_and_the_guest_is_interrupted(driver: Driver) -> None:
    assert driver.request(100) == 100
    assert driver.ram.read(DATA, 101) == driver.source(100) + b"\0"
    assert (driver.device.irq.level, driver.peek(0x60)) == (True, 1)
    driver.poke(0x64, 1)
    assert driver.device.irq.level is False


def test_a_large_buffer_is_filled_in_part(driver: Driver) -> None:
    assert driver.request(MAX_REQUEST + 1000) == MAX_REQUEST
    assert driver.asked == [MAX_REQUEST]


def test_a_buffer_that_cannot_be_filled_breaks_the_protocol(driver: Driver) -> None:
    driver.request(100, flags=0)
    assert driver.peek(0x70) & 0x40
    assert driver.asked == []


def test_the_real_source_gives_bytes_that_differ() -> None:
    driver = Driver()
    driver.device = VirtioRng(driver.space)
    driver.space.map(BASE, MmioRegion(driver.device, driver.device.size, driver.device.max_access), "rng", 1)
    driver.set_up()
    assert driver.request(64) == 64
    first = driver.ram.read(DATA, 64)
    assert driver.request(64) == 64
    assert first != driver.ram.read(DATA, 64)


def test_the_queue_travels(driver: Driver) -> None:
    driver.request(10)
    section, there = driver.device.section(), Driver()
    assert section is not None
    w = Writer()
    section.save(w)
    target = there.device.section()
    assert target is not None
    target.load(BytesReader(w.getvalue()), 1)
    there.ram.write(0, driver.ram.read(0, RAM))
    there.avail = driver.avail
    assert there.request(20) == 20
    assert there.ram.read(DATA, 20) == driver.source(20)
