"""A guest in a library machine works on its disk; the machine with its disk goes through a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2kemu import Machine
from e2kemu.block.drive import parse_drive
from e2kemu.block.qcow2 import create
from e2kemu.errors import ChannelError, OptionError, StateError
from e2kemu.migration.stream_reader import walk
from tests.framework import forked
from tests.framework.disk_guest import laps_on_disk, make_rom

GEOMETRY = {"blocks": 16, "stride": 300}
SIZE = 3 << 20


@pytest.fixture
def rom(tmp_path: Path) -> str:
    return str(make_rom(tmp_path / "disk.rom", **GEOMETRY))


def contents(path: Path, format: str) -> bytes:
    drive = parse_drive(f"file={path},format={format},readonly=on", 0)
    try:
        return drive.read(0, drive.size)
    finally:
        drive.close()


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_what_the_guest_writes_is_in_the_image(rom: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    if format == "raw":
        path.write_bytes(bytes(SIZE))
    else:
        create(str(path), SIZE, cluster_bits=12)
    with Machine.build(ram="32M", bios=rom, drives=[f"file={path},format={format}"]) as machine:
        assert machine.run(timeout=60, until=b"LLL") == "until"
        assert "virtio-blk-device" in machine.info_qtree()
        machine.reset()
        assert machine.run(timeout=60, until=b"L") == "until"
        machine.run(timeout=60, until=b"LL")
        assert "F" not in machine.console.text
    assert laps_on_disk(contents(path, format), **GEOMETRY)[0] >= 3


def test_a_guest_that_finds_another_disk_than_it_left_says_so(rom: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with Machine.build(ram="32M", bios=rom, drives=[f"file={path},format=raw"]) as machine:
        machine.run(timeout=60, until=b"LL")
        with open(path, "r+b") as file:
            file.seek(5 * 300 * 512)
            file.write(b"spoiled!")
        assert machine.run(timeout=60) == "exit"
        assert "F" in machine.console.text
        assert machine.exit_status == 4


def test_a_copied_disk_goes_through_a_file_and_its_stream_is_shown(rom: str, tmp_path: Path) -> None:
    here, there, stream = tmp_path / "here", tmp_path / "there", tmp_path / "stream"
    here.write_bytes(bytes(SIZE))
    create(str(there), SIZE)
    with Machine.build(ram="32M", bios=rom, drives=[f"file={here},format=raw,id=d"]) as source:
        source.run(timeout=60, until=b"LLL")
        source.migration.capabilities.set({"zero-blocks": True})
        source.migration.migrate(f"file:{stream}", blk=True)
        assert source.migration.wait(60) == "completed"
        assert source.migration.query()["disk"]["transferred"] == SIZE
        with pytest.raises(StateError, match="paused due to previous migration"):
            source.migration.migrate(f"file:{stream}", blk=True)
    bodies = [record for record in walk(stream.read_bytes()) if record.name == "block"]
    assert (bodies[0].kind, bodies[-1].kind) == ("START", "END")
    shown = forked.run(
        [sys.executable, "-m", "e2kemu.migration.stream_cli", str(stream)], capture_output=True, text=True, check=True
    ).stdout
    assert "'block'" in shown
    assert "progress = 100 %" in shown
    with Machine.build(ram="32M", bios=rom, incoming=True, drives=[f"file={there},format=qcow2,id=d"]) as target:
        target.load(str(stream))
        assert contents_of(target) == here.read_bytes()
        assert target.run(timeout=60, until=b"LL") == "until"
        assert "F" not in target.console.text
    wrong = Machine.build(ram="32M", bios=rom, incoming=True, drives=[f"file={here},format=raw,id=other"])
    with wrong, pytest.raises(ChannelError, match="Error unknown block device d"):
        wrong.load(str(stream))


def contents_of(machine: Machine) -> bytes:
    drive = machine.disks[0]
    return drive.read(0, drive.size)


def test_saving_a_machine_gives_it_its_disk_back_and_two_cannot_have_it(rom: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    text = f"file={path},format=raw"
    with Machine.build(ram="32M", bios=rom, drives=[text]) as machine:
        machine.run(timeout=60, until=b"LL")
        machine.save(str(tmp_path / "saved"))
        machine.run(timeout=60, until=b"L")
        with pytest.raises(OptionError, match='Failed to get "write" lock'):
            Machine.build(ram="32M", bios=rom, drives=[text])
        assert "F" not in machine.console.text
    disks = [tmp_path / f"disk{number}" for number in range(9)]
    for disk in disks:
        disk.write_bytes(bytes(512))
    with pytest.raises(OptionError, match="too many virtio devices, max 8"):
        Machine.build(ram="32M", bios=rom, drives=[f"file={disk},format=raw" for disk in disks])
    snapshot = Machine.build(ram="32M", bios=rom, drives=[text + ",snapshot=on"])
    with snapshot, pytest.raises(StateError, match="temporary snapshot"):
        snapshot.save(str(tmp_path / "saved"))


def test_the_machine_goes_on_while_its_disk_waits_for_the_host(rom: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with Machine.build(ram="32M", bios=rom, drives=[f"file={path},format=raw"]) as machine:
        machine.run(timeout=60, until=b"L")
        drive = machine.disks[0]
        machine.start()
        with drive._lock:  # as if the host took its time
            for _ in range(20):
                machine.loop.run_once(0.01)
            free = [machine.lock.acquire(timeout=1) for _ in range(3)]
            for _ in filter(None, free):
                machine.lock.release()
        assert all(free), "the guest's CPU keeps the machine lock while it waits for its disk"
        machine.stop()
        assert machine.run(timeout=60, until=b"LL") == "until"
        assert "F" not in machine.console.text
