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
from e2kemu.net.backend import NetBackend
from tests.framework.virtio_driver import DESC, DRIVER, EVENT_IDX, NEXT, RAM, STEP, WRITE, VirtioDriver, load, saved

QUEUE, DATA = 8, 0x10000
MAC_FEATURE, STATUS = 1 << 5, 1 << 16
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


class Driver(VirtioDriver):
    """Of a network card: queue 0 receives, queue 1 sends."""

    kind, entries, queues = 1, QUEUE, 2

    def __init__(self, loop: MainLoop, features: int = 0) -> None:
        super().__init__(features | MAC_FEATURE | STATUS)
        self.loop, self.wire, self.clock = loop, Wire(loop), VirtualClock()
        self.device = VirtioNet(self.space, self.clock, self.wire, MAC)
        self.plug(self.device)
        self.clock.start()
        self.set_up()

    def chain(self, queue: int, parts: list[tuple[int, int]], head: int) -> None:
        """Offer (address, size) parts in descriptors from ``head`` on."""
        for number, (address, size) in enumerate(parts, head):
            flags = (NEXT if number + 1 < head + len(parts) else 0) | (0 if queue else WRITE)
            self.descriptor(number, address, size, flags, number + 1, table=DESC + STEP * queue)
        self.offer(head, queue)

    def room(self, head: int, size: int = 2048) -> None:
        self.chain(0, [(DATA + 2048 * head, size)], head)
        self.notify(0)

    def send(self, frame: bytes, cuts: tuple[int, ...] = (12,)) -> None:
        data = bytes(12) + frame
        self.ram.write(DATA + 0x8000, data)
        edges = [0, *cuts, len(data)]
        self.chain(1, [(DATA + 0x8000 + a, b - a) for a, b in itertools.pairwise(edges)], 0)
        self.notify(1)
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
    driver.chain(0, [(DATA + 2048 * 2, 2048)], 2)
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
    driver.chain(1, [(DATA, 11)], 0)
    driver.notify(1)
    assert driver.needs_reset
    driver.set_up()
    driver.chain(0, [(RAM - 4, 2048)], 0)
    driver.notify(0)
    driver.wire.deliver(bytes(100))
    assert driver.needs_reset
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
                following = rng.randrange(QUEUE + 1)
                driver.descriptor(number, address, size, flags, following, table=DESC + STEP * queue)
            driver.ram.write(DRIVER + STEP * queue + 4, bytes(rng.randrange(QUEUE) for _ in range(QUEUE * 2)))
            driver.ram.write(DRIVER + STEP * queue + 2, struct.pack("<H", rng.choice((0, 1, 3, 9))))
            driver.notify(queue)
        driver.wire.deliver(rng.randbytes(rng.randrange(60, 1515)))
        loop.run_once(0)
        if driver.needs_reset:
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
    data = saved(driver.device)
    there = Driver(loop, EVENT_IDX)
    there.device._own_mac = 0
    there.device.reset()
    there.clock.stop()
    load(there.device, data)
    there.go_on_from(driver)
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
