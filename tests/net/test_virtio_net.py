"""The network card through its registers, with rings in guest RAM: frames, drivers that misbehave, migration."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.devices.virtio_net import VirtioNet
from e2kemu.loop import MainLoop
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion, RAMRegion
from e2kemu.net.backend import NetBackend
from e2kemu.wire import BytesReader, Writer

BASE, RAM, QUEUE = 0x8130_1000, 1 << 20, 8
DESC, DRIVER, DEVICE, DATA, STEP = 0x1000, 0x2000, 0x3000, 0x10000, 0x8000
VERSION_1, EVENT_IDX, MAC_FEATURE, STATUS = 1 << 32, 1 << 29, 1 << 5, 1 << 16
MAC = bytes.fromhex("525400abcdef")


class Wire(NetBackend):
    """A back end that keeps what the guest sends."""

    kind = "wire"

    def __init__(self, loop: MainLoop) -> None:
        super().__init__("w", loop)
        self.sent: list[bytes] = []

    def _carry(self, frame: bytes) -> None:
        self.sent.append(frame)

    def describe(self) -> str:
        return ""


class Driver:
    """A guest's driver that polls; queue q has its areas ``STEP * q`` further."""

    def __init__(self, loop: MainLoop, features: int = 0) -> None:
        self.space, self.ram, self.loop = AddressSpace(), RAMBlock("ram", RAM), loop
        self.wire, self.clock = Wire(loop), VirtualClock()
        self.device = VirtioNet(self.space, self.clock, self.wire, MAC)
        self.space.map(0, RAMRegion(self.ram), "ram")
        self.space.map(BASE, MmioRegion(self.device, self.device.size, self.device.max_access), "net")
        self.features = features | VERSION_1 | MAC_FEATURE | STATUS
        self.clock.start()
        self.set_up()

    def poke(self, offset: int, value: int) -> None:
        self.space.write(BASE + offset, 4, value)

    def peek(self, offset: int, size: int = 4) -> int:
        return self.space.read(BASE + offset, size)

    def set_up(self) -> None:
        assert (self.peek(0), self.peek(4), self.peek(8)) == (0x74726976, 2, 1)
        for status in (0, 1, 3):
            self.poke(0x70, status)
        for half in (0, 1):
            self.poke(0x24, half)
            self.poke(0x20, self.features >> 32 * half & 0xFFFF_FFFF)
        self.poke(0x70, 11)
        assert self.peek(0x70) == 11
        for queue in (0, 1):
            self.poke(0x30, queue)
            assert self.peek(0x34) == 256
            self.poke(0x38, QUEUE)
            for offset, address in ((0x80, DESC), (0x90, DRIVER), (0xA0, DEVICE)):
                self.poke(offset, address + STEP * queue)
                self.poke(offset + 4, 0)
            self.ram.write(DRIVER + STEP * queue, bytes(64))
            self.ram.write(DEVICE + STEP * queue, bytes(128))
            self.poke(0x44, 1)
        self.poke(0x70, 15)
        self.avail, self.seen = [0, 0], [0, 0]

    def offer(self, queue: int, parts: list[tuple[int, int]], head: int, *, notify: bool = True) -> None:
        """A chain of (address, size) from descriptor ``head`` on; written by the device in queue 0."""
        for number, (address, size) in enumerate(parts):
            at = DESC + STEP * queue + 16 * (head + number)
            flags = (1 if number + 1 < len(parts) else 0) | (0 if queue else 2)
            self.ram.write(at, struct.pack("<QIHH", address, size, flags, head + number + 1))
        ring = DRIVER + STEP * queue
        self.ram.write(ring + 4 + 2 * (self.avail[queue] % QUEUE), struct.pack("<H", head))
        self.avail[queue] = (self.avail[queue] + 1) & 0xFFFF
        self.ram.write(ring + 2, struct.pack("<H", self.avail[queue]))
        if notify:
            self.poke(0x50, queue)

    def used(self, queue: int) -> list[tuple[int, int]]:
        """New (head, size) entries."""
        area, found = DEVICE + STEP * queue, []
        (index,) = struct.unpack("<H", self.ram.read(area + 2, 2))
        while self.seen[queue] != index:
            found.append(struct.unpack("<II", self.ram.read(area + 4 + 8 * (self.seen[queue] % QUEUE), 8)))
            self.seen[queue] = (self.seen[queue] + 1) & 0xFFFF
        return found

    def room(self, head: int, size: int = 2048) -> None:
        self.offer(0, [(DATA + 2048 * head, size)], head)

    def send(self, frame: bytes, cuts: tuple[int, ...] = (12,)) -> None:
        data = bytes(12) + frame
        self.ram.write(DATA + 0x8000, data)
        edges = [0, *cuts, len(data)]
        self.offer(1, [(DATA + 0x8000 + a, b - a) for a, b in itertools.pairwise(edges)], 0)
        self.loop.run_once(0)


@pytest.fixture
def loop() -> Iterator[MainLoop]:
    loop = MainLoop()
    yield loop
    loop.close()


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_frames_go_both_ways_through_the_rings(loop: MainLoop, features: int) -> None:
    rng, driver = random.Random(3), Driver(loop, features)
    assert b"".join(driver.peek(0x100 + n, 1).to_bytes(1, "little") for n in range(6)) == MAC
    assert driver.peek(0x106, 2) == 1
    for round_ in range(30):
        frame = rng.randbytes(rng.randrange(14, 1515))
        driver.send(frame, rng.choice(((12,), (), (5, 12), (12, 14), (20,))))
        assert driver.wire.sent.pop() == frame
        assert driver.used(1) == [(0, 0)]
        frame = rng.randbytes(rng.randrange(60, 1515))
        driver.room(round_ % QUEUE)
        driver.wire.deliver(frame)
        assert driver.used(0) == [(round_ % QUEUE, 12 + len(frame))]
        assert driver.ram.read(DATA + 2048 * (round_ % QUEUE), 12 + len(frame)) == bytes(10) + b"\1\0" + frame
    assert driver.peek(0x60) & 1
    driver.poke(0x64, 1)
    assert not driver.device.lines["irq"].level


def test_frames_wait_for_buffers_and_for_a_machine_that_runs(loop: MainLoop) -> None:
    driver = Driver(loop)
    frames = [bytes([n]) * 100 for n in range(6)]
    for frame in frames[:3]:
        driver.wire.deliver(frame)
    assert driver.used(0) == []
    driver.room(0)
    driver.room(1)
    assert driver.used(0) == [(0, 112), (1, 112)]
    driver.clock.stop()
    driver.ram.harvest_dirty()
    driver.offer(0, [(DATA + 2048 * 2, 2048)], 2, notify=False)
    driver.ram.harvest_dirty()
    driver.wire.deliver(frames[3])
    assert not driver.ram.harvest_dirty().any(), "memory of a stopped machine changes"
    driver.clock.start()
    driver.device.resumed()
    assert driver.used(0) == [(2, 112)]
    driver.room(3)
    assert [driver.ram.read(DATA + 2048 * n + 12, 100) for n in range(4)] == frames[:4]


def test_without_a_driver_and_without_a_cable_frames_are_dropped(loop: MainLoop) -> None:
    driver = Driver(loop)
    driver.device.set_link(False)
    assert driver.peek(0x60) & 2
    assert driver.peek(0x106, 2) == 0
    driver.room(0)
    driver.wire.deliver(bytes(100))
    driver.send(bytes(100))
    assert (driver.used(0), driver.wire.sent, driver.used(1)) == ([], [], [(0, 0)])
    driver.device.set_link(True)
    driver.wire.deliver(bytes(100))
    assert driver.used(0) == [(0, 112)]
    driver.poke(0x70, 0)
    driver.wire.deliver(bytes(100))
    assert not driver.wire.stalled


def test_a_buffer_that_is_too_small_stays_and_headers_must_be_there(loop: MainLoop) -> None:
    driver = Driver(loop)
    driver.room(0, 100)
    driver.wire.deliver(bytes(200))
    assert driver.used(0) == []
    driver.wire.deliver(bytes(88))
    assert driver.used(0) == [(0, 100)]
    driver.offer(1, [(DATA, 11)], 0)
    assert driver.peek(0x70) & 0x40
    driver.set_up()
    driver.offer(0, [(RAM - 4, 2048)], 0)
    driver.wire.deliver(bytes(100))
    assert driver.peek(0x70) & 0x40
    driver.set_up()
    driver.send(b"x" * 13)
    driver.send(b"x" * 14)
    assert driver.wire.sent == [b"x" * 14], "what is no frame is not carried"


def test_random_rings_never_do_worse_than_a_reset(loop: MainLoop) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, driver, broken = random.Random(seed), Driver(loop, EVENT_IDX), 0
    for _ in range(500):
        for queue in (0, 1):
            for number in range(QUEUE):
                address = rng.choice((DATA, DATA + 0x8000, DESC, RAM - 100, rng.getrandbits(64)))
                size = rng.choice((1, 12, 26, 2048, 70000, rng.getrandbits(32)))
                flags = rng.choice((0, 1, 2, 3, 4, 5))
                at = DESC + STEP * queue + 16 * number
                driver.ram.write(at, struct.pack("<QIHH", address, size, flags, rng.randrange(QUEUE + 1)))
            driver.ram.write(DRIVER + STEP * queue + 4, bytes(rng.randrange(QUEUE) for _ in range(QUEUE * 2)))
            driver.ram.write(DRIVER + STEP * queue + 2, struct.pack("<H", rng.choice((0, 1, 3, 9))))
            driver.poke(0x50, queue)
        driver.wire.deliver(rng.randbytes(rng.randrange(60, 1515)))
        loop.run_once(0)
        if driver.peek(0x70) & 0x40:
            broken += 1
            driver.set_up()
    assert broken > 50


def test_a_driver_goes_on_after_a_migration_with_its_address_and_the_wire_hears_of_it(loop: MainLoop) -> None:
    driver = Driver(loop, EVENT_IDX)
    driver.room(0)
    driver.wire.deliver(bytes(100))
    driver.send(bytes(60))
    driver.used(0)
    driver.room(1)
    driver.clock.stop()
    section, w = driver.device.section(), Writer()
    assert section is not None
    section.save(w)
    there = Driver(loop, EVENT_IDX)
    there.device._own_mac = 0
    there.device.reset()
    there.clock.stop()
    other = there.device.section()
    assert other is not None
    other.load(BytesReader(w.getvalue()), section.version)
    there.ram.write(0, driver.ram.read(0, RAM))
    there.avail, there.seen = driver.avail, driver.seen
    there.wire.deliver(b"y" * 100)
    assert there.used(0) == []
    there.clock.start()
    there.device.resumed()
    assert there.used(0) == [(1, 112)]
    assert there.device.mac_bytes == MAC
    loop.run_once(0.01)
    loop.run_once(0)
    assert there.wire.sent[0][:14] == b"\xff" * 6 + MAC + b"\x80\x35"
    there.send(b"z" * 60)
    assert b"z" * 60 in there.wire.sent
