"""The entropy device with a driver written from the specification."""

from __future__ import annotations

import pytest

from e2kemu.devices.virtio_rng import MAX_REQUEST, VirtioRng
from tests.framework.virtio_driver import WRITE, VirtioDriver, load, saved

DATA = 0x10000


class Driver(VirtioDriver):
    """Of an entropy device whose source is known, or the ``real`` one."""

    kind = 4

    def __init__(self, *, real: bool = False) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.device = VirtioRng(self.space) if real else VirtioRng(self.space, self.source)
        self.plug(self.device)

    def source(self, count: int) -> bytes:
        self.asked.append(count)
        return bytes(number % 251 + 1 for number in range(count))

    def request(self, size: int, flags: int = WRITE) -> int:
        """Ask for ``size`` bytes; returns how many the device says it has written."""
        self.descriptor(0, DATA, size, flags)
        self.offer(0)
        self.notify()
        return sum(written for _, written in self.used())


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
    assert driver.needs_reset
    assert driver.asked == []


def test_the_real_source_gives_bytes_that_differ() -> None:
    driver = Driver(real=True)
    driver.set_up()
    assert driver.request(64) == 64
    first = driver.ram.read(DATA, 64)
    assert driver.request(64) == 64
    assert first != driver.ram.read(DATA, 64)


def test_the_queue_travels(driver: Driver) -> None:
    driver.request(10)
    there = Driver()
    load(there.device, saved(driver.device))
    there.go_on_from(driver)
    assert there.request(20) == 20
    assert there.ram.read(DATA, 20) == driver.source(20)
