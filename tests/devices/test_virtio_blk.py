"""The virtio disk with a driver written from the specification: requests, negotiation, drivers that misbehave."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2kemu import trace
from e2kemu.block.drive import Drive, parse_drive
from e2kemu.devices.virtio_blk import VirtioBlk
from e2kemu.errors import StreamError
from tests.framework.virtio_driver import (
    BASE,
    DESC,
    DEVICE,
    DRIVER,
    EVENT_IDX,
    INDIRECT,
    NEXT,
    RAM,
    VERSION_1,
    WRITE,
    VirtioDriver,
    load,
    saved,
)

QUEUE = 16
TABLE, HEADER, DATA = 0x4000, 0x5000, 0x10000
DISK = 2 << 20
OK, IOERR, UNSUPP = 0, 1, 2


class Driver(VirtioDriver):
    """Of a disk."""

    kind, entries = 2, QUEUE

    def __init__(self, drive: Drive, features: int = 0) -> None:
        super().__init__(features)
        self.device = VirtioBlk(self.space, drive, serial="S-1")
        self.plug(self.device)
        self.set_up()

    def request(
        self, kind: int, sector: int, out: bytes = b"", room: int = 0, *, indirect: bool = False
    ) -> tuple[int, bytes]:
        """One request; (status, what the device wrote)."""
        self.ram.write(HEADER, struct.pack("<IIQ", kind, 0, sector))
        self.ram.write(HEADER + 16, b"\xff")
        self.ram.write(DATA, out)
        parts = [(HEADER, 16, 0)]
        half = len(out) // 2 // 512 * 512 or len(out)
        parts += [(DATA, half, 0)] if out else []
        parts += [(DATA + half, len(out) - half, 0)] if len(out) > half else []
        parts += [(DATA, room, WRITE)] if room else []
        parts += [(HEADER + 16, 1, WRITE)]
        table = TABLE if indirect else DESC
        for number, (address, size, flags) in enumerate(parts):
            more = NEXT if number + 1 < len(parts) else 0
            self.descriptor(number, address, size, flags | more, number + 1, table=table)
        if indirect:
            self.descriptor(3, TABLE, 16 * len(parts), INDIRECT)
        self.used()
        self.offer(3 if indirect else 0)
        self.notify()
        ((head, written),) = self.used()
        assert head == (3 if indirect else 0)
        assert written <= room + 1
        return self.ram.read(HEADER + 16, 1)[0], self.ram.read(DATA, room)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * (DISK // 256))
    return path


@pytest.fixture
def make(image: Path) -> Iterator[Callable[..., Driver]]:
    drives: list[Drive] = []

    def one(options: str = "", features: int = 0) -> Driver:
        for old in drives:
            old.inactivate()
        drives.append(parse_drive(f"file={image},format=raw,if=none,id=d{options}", 0))
        drives[-1].activate()
        return Driver(drives[-1], features)

    yield one
    for drive in drives:
        drive.close()


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_what_is_written_is_read_back_and_is_in_the_file(
    make: Callable[..., Driver], image: Path, indirect: bool, features: int
) -> None:
    driver = make(features=features)
    rng = random.Random(1)
    for _ in range(80):  # the ring of 16 goes round five times
        sector, data = rng.randrange(4000), rng.randbytes(512 * rng.randrange(1, 9))
        assert driver.request(1, sector, data, indirect=indirect)[0] == OK
        assert driver.request(0, sector, room=len(data), indirect=indirect) == (OK, data)
        assert image.read_bytes()[512 * sector :][: len(data)] == data
    assert driver.request(4, 0)[0] == OK
    assert driver.peek(0x60) & 1
    driver.poke(0x64, 3)
    assert driver.peek(0x60) == 0
    assert driver.peek(0x100) == DISK // 512
    assert driver.request(8, 0, room=20) == (OK, b"S-1".ljust(20, b"\0"))


def test_zeroes_are_written(make: Callable[..., Driver], image: Path) -> None:
    driver = make()
    assert driver.request(13, 0, struct.pack("<QII", 8, 16, 1))[0] == OK
    assert image.read_bytes()[8 * 512 : 24 * 512] == bytes(16 * 512)
    assert image.read_bytes()[24 * 512] == 0
    assert image.read_bytes()[24 * 512 + 1] == 1
    assert driver.request(13, 0, struct.pack("<QII", 8, 16, 2))[0] == UNSUPP
    assert driver.request(13, 0, struct.pack("<QII", DISK // 512, 1, 0))[0] == IOERR


def test_a_request_that_cannot_be_done_is_an_error_of_that_request(make: Callable[..., Driver], image: Path) -> None:
    driver = make()
    assert driver.request(0, DISK // 512, room=512)[0] == IOERR
    assert driver.request(0, DISK // 512 - 1, room=1024)[0] == IOERR
    assert driver.request(0, (1 << 64) - 1, room=512)[0] == IOERR
    assert driver.request(0, 0, room=100)[0] == IOERR
    assert driver.request(1, 0, b"x" * 700)[0] == IOERR
    assert driver.request(77, 0)[0] == UNSUPP
    assert driver.request(0, 0, room=512) == (OK, bytes(range(256)) * 2)
    driver = make(",readonly=on")
    assert driver.request(1, 0, b"x" * 512)[0] == IOERR
    assert driver.request(4, 0)[0] == OK
    driver.poke(0x14, 0)
    assert driver.peek(0x10) & 1 << 5
    assert image.read_bytes()[:2] == b"\0\1"


def test_the_header_may_lie_in_any_pieces(make: Callable[..., Driver]) -> None:
    driver = make()
    driver.ram.write(HEADER, struct.pack("<IIQ", 0, 0, 3))
    driver.descriptor(5, HEADER, 7, NEXT, 2)
    driver.descriptor(2, HEADER + 7, 9, NEXT, 7)
    driver.descriptor(7, DATA, 100, NEXT | WRITE, 1)
    driver.descriptor(1, DATA + 100, 413, WRITE)
    driver.offer(5)
    driver.notify()
    assert driver.used() == [(5, 513)]
    assert driver.ram.read(DATA, 513) == bytes(range(256)) * 2 + b"\0"


def test_what_the_disk_writes_into_memory_is_marked_dirty(make: Callable[..., Driver]) -> None:
    driver = make()
    driver.ram.harvest_dirty()
    driver.request(0, 0, room=8192)
    dirty = set(driver.ram.harvest_dirty().nonzero()[0].tolist())
    assert {DEVICE >> 12, HEADER >> 12, DATA >> 12, (DATA >> 12) + 1} <= dirty


def bad(name: str) -> Callable[[Driver], None]:
    """A way to break the protocol."""

    def loop(d: Driver) -> None:
        for number in range(QUEUE):
            d.descriptor(number, DATA, 16, NEXT, (number + 1) % QUEUE)
        d.offer(0)

    def chain(*descriptors: tuple[int, int, int, int]) -> Callable[[Driver], None]:
        def run(d: Driver) -> None:
            for number, values in enumerate(descriptors):
                d.descriptor(number, *values)
            d.offer(0)

        return run

    def many(d: Driver) -> None:
        d.ram.write(DRIVER + 2, struct.pack("<H", QUEUE + 1))

    def elsewhere(offset: int, address: int) -> Callable[[Driver], None]:
        def run(d: Driver) -> None:
            d.poke(0x44, 0)
            d.poke(offset, address)
            d.poke(0x44, 1)
            d.offer(0)

        return run

    return {
        "loop": loop,
        "many": many,
        "head": lambda d: d.offer(QUEUE),
        "next": chain((DATA, 16, NEXT, QUEUE)),
        "address": chain((RAM - 8, 16, 0, 0)),
        "mmio": chain((BASE, 16, 0, 0)),
        "huge": chain((DATA, 0xFFFF_FFFF, WRITE, 0)),
        "wrap": chain(((1 << 64) - 8, 16, 0, 0)),
        "empty": chain((DATA, 0, 0, 0)),
        "order": chain((DATA, 16, NEXT | WRITE, 1), (DATA, 16, 0, 0)),
        "no header": chain((DATA, 8, NEXT, 1), (DATA, 1, WRITE, 0)),
        "no status": chain((DATA, 16, 0, 0)),
        "nested": chain((DESC, 16, INDIRECT, 0)),
        "indirect size": chain((TABLE, 17, INDIRECT, 0)),
        "indirect large": chain((TABLE, 16 * QUEUE + 16, INDIRECT, 0)),
        "indirect outside": chain((RAM - 16, 32, INDIRECT | NEXT, 1)),
        "descriptors": elsewhere(0x80, RAM - 16),
        "driver area": elsewhere(0x90, RAM),
        "device area": elsewhere(0xA0, 0xFFFF_0000),
        "alignment": elsewhere(0x80, DESC + 1),
    }[name]


BAD = (
    "loop", "many", "head", "next", "address", "mmio", "huge", "wrap", "empty", "order", "no header", "no status",
    "nested", "indirect size", "indirect large", "indirect outside", "descriptors", "driver area", "device area",
    "alignment",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_driver_that_breaks_the_protocol_must_reset_the_device(
    name: str, make: Callable[..., Driver], capfd: pytest.CaptureFixture[str]
) -> None:
    driver = make()
    trace.set_items("guest_errors")
    try:
        bad(name)(driver)
        driver.notify()
        assert driver.needs_reset, name
        assert driver.peek(0x60) & 2
        driver.notify()
        driver.poke(0x70, 15)
        assert driver.needs_reset, "only a reset helps"
    finally:
        trace.set_items("none")
    assert "needs a reset" in capfd.readouterr().err
    driver.set_up()
    assert driver.request(0, 0, room=512) == (OK, bytes(range(256)) * 2)


def test_random_queues_never_do_worse_than_a_reset(make: Callable[..., Driver]) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, driver, broken = random.Random(seed), make(features=EVENT_IDX), 0
    for _ in range(600):
        for number in range(QUEUE):
            address = rng.choice((HEADER, DATA, TABLE, DESC, RAM - 100, rng.getrandbits(64)))
            size = rng.choice((1, 16, 17, 512, 4096, 48, rng.getrandbits(32)))
            driver.descriptor(number, address, size, rng.choice((0, 1, 2, 3, 4, 5)), rng.randrange(QUEUE + 1))
        driver.ram.write(HEADER, struct.pack("<IIQ", rng.choice((0, 1, 4, 8, 13, 99)), 0, rng.choice((0, 5, 1 << 63))))
        driver.offer(rng.randrange(QUEUE))
        driver.notify(rng.choice((0, 0, 0, 1)))
        if driver.needs_reset:
            broken += 1
            driver.set_up()
    assert broken > 50


def test_features_that_were_not_offered_are_not_accepted(make: Callable[..., Driver]) -> None:
    driver = make()
    for features in (0, 1 << 40, VERSION_1 | 1 << 3):
        driver.poke(0x70, 0)
        driver.poke(0x70, 3)
        driver.offer_features(features)
        assert driver.peek(0x70) == 3, hex(features)


def test_a_driver_goes_on_after_a_migration_and_another_size_is_refused(
    make: Callable[..., Driver], image: Path, tmp_path: Path
) -> None:
    driver = make(features=EVENT_IDX)
    for sector in range(5):
        driver.request(1, sector, b"before a" * 64)
    data = saved(driver.device)
    there = make(features=EVENT_IDX)
    there.device.reset()
    load(there.device, data)
    there.go_on_from(driver)
    assert there.request(0, 4, room=512) == (OK, b"before a" * 64)
    small = tmp_path / "small"
    small.write_bytes(bytes(DISK - 512))
    drive = parse_drive(f"file={small},format=raw", 0)
    third = Driver(drive)
    with pytest.raises(StreamError, match="Failed to load virtio-blk:sectors: fff != 1000"):
        load(third.device, data)
    drive.close()
