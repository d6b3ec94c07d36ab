"""The section "block": what is written is loaded, whoever writes meanwhile, and damage is named."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2kemu.block.drive import Drive, parse_drive
from e2kemu.block.qcow2 import create
from e2kemu.errors import E2kError, StreamError
from e2kemu.migration.block import BlockLoader, BlockSaver
from e2kemu.migration.qemufile import StreamReader, StreamWriter
from e2kemu.migration.stream_block import walk_block
from e2kemu.wire import BytesReader

MIB = 1 << 20
SIZE = 5 * MIB + 1536


class Pipe:
    """Keeps what is written, gives it to a reader."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.at = 0

    def writev(self, buffers: list[bytes | bytearray | memoryview]) -> None:
        for buffer in buffers:
            self.data += buffer

    def readinto(self, buffer: memoryview) -> int:
        part = self.data[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


Make = Callable[..., Drive]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    drives: list[Drive] = []

    def one(name: str, format: str = "raw", *, data: bytes = b"", size: int = SIZE, backing: str = "") -> Drive:
        path = tmp_path / name
        if format == "raw":
            path.write_bytes(data.ljust(size, b"\0"))
        else:
            create(str(path), size, backing=backing, backing_format="raw" if backing else None)
        drives.append(parse_drive(f"file={path},format={format},id=d0", 0))
        drives[-1].activate()
        return drives[-1]

    yield one
    for drive in drives:
        drive.close()


def part(saver: BlockSaver, limit: int = MIB) -> bytes:
    pipe = Pipe()
    out = StreamWriter(pipe)
    saver.save_part(out, limit, time.monotonic() + 60)
    out.flush()
    return bytes(pipe.data)


def end(saver: BlockSaver) -> bytes:
    pipe = Pipe()
    out = StreamWriter(pipe)
    saver.save_end(out)
    out.flush()
    return bytes(pipe.data)


def load(disk: Drive, body: bytes) -> None:
    reader = StreamReader(Pipe(body))
    BlockLoader([disk]).load(reader)
    assert reader.at_end()


@pytest.mark.parametrize("zero_blocks", [False, True])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_disk_that_is_written_all_the_time_arrives_whole(make: Make, format: str, zero_blocks: bool) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    here, there = make("here", format), make("there")
    there.write(2 * MIB, b"old" * 1000)
    saver = BlockSaver([here], incremental=False, zero_blocks=zero_blocks)
    saver.start()
    counts: dict[str, int] = {"chunks": 0, "zero chunks": 0}
    for turn in range(30):
        if turn < 20:
            offset = rng.choice((0, MIB, SIZE - 5000)) + rng.randrange(4000)
            here.write(offset, rng.randbytes(900))
        body = part(saver, rng.choice((1, 3 * MIB)))
        for name, value in walk_block(BytesReader(body)).get("d0", {}).items():
            counts[name] += value
        load(there, body)
    assert saver.copied
    here.write(7000, b"last words")
    body = end(saver)
    assert walk_block(BytesReader(body))["progress"] == "100 %"
    load(there, body)
    assert saver.counters.remaining == 0
    assert there.read(0, SIZE) == here.read(0, SIZE)
    assert bool(counts["zero chunks"]) == zero_blocks
    assert counts["chunks"] > 3
    saver.stop()
    assert not here.take_dirty().size


def test_incremental_copies_what_the_image_holds_itself(make: Make) -> None:
    make("base", data=b"below" * 1000).close()
    here, there = make("here", "qcow2", backing="base"), make("there", "qcow2", backing="base")
    here.write(3 * MIB + 5, b"above")
    saver = BlockSaver([here], incremental=True, zero_blocks=False)
    saver.start()
    bodies = [part(saver, 1 << 30), end(saver)]
    assert walk_block(BytesReader(bodies[0]))["d0"] == {"chunks": 1, "zero chunks": 0}
    for body in bodies:
        load(there, body)
    assert there.read(0, SIZE) == here.read(0, SIZE)
    assert not there.is_allocated(0, MIB)


def test_disks_that_cannot_be_written_are_not_copied(make: Make, tmp_path: Path) -> None:
    make("image").close()
    drive = parse_drive(f"file={tmp_path}/image,format=raw,readonly=on", 0)
    assert BlockSaver([drive], incremental=False, zero_blocks=False).counters.total == 0
    drive.close()


def record(sector: int, flags: int, name: str = "d0") -> bytes:
    named = bytes([len(name)]) + name.encode() if flags & 1 else b""
    return (sector << 9 | flags).to_bytes(8, "big") + named


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (record(0, 1, "nobody"), "Error unknown block device nobody in section 'block' at offset 0x0"),
        (record(1 << 40, 9), "block at sector 1099511627776 of device d0, which has 10243"),
        (record(1, 9), "block at sector 1 of device d0, which has 10243"),
        (record(0, 16), "Unknown block migration flags: 0x10"),
        (record(0, 8), "Unknown block migration flags: 0x8"),
        (record(0, 3), "Unknown block migration flags: 0x3"),
        (record(0, 1) + b"short", "the stream ends early"),
        (record(0, 9), "the stream ends early"),
    ],
)
def test_a_wrong_record_is_named(make: Make, body: bytes, reason: str) -> None:
    with pytest.raises(StreamError) as caught:
        load(make("there"), body)
    assert reason in str(caught.value)


def test_random_bodies_never_do_worse_than_an_error(make: Make) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, there, refused = random.Random(seed), make("there"), 0
    whole = record(0, 9) + record(5 * 2048, 1) + b"x" * MIB + record(50, 4) + record(0, 2)
    load(there, whole)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.choice((rng.randrange(30), rng.randrange(len(whole) - 30, len(whole))))] = rng.randrange(256)
        try:
            load(there, bytes(damaged[: rng.choice((len(whole), rng.randrange(len(whole))))]))
        except E2kError:
            refused += 1
        except AssertionError:
            pass  # it ended before its end
    assert refused > 100
