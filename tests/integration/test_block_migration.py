"""Guests that write to their disk all the time migrate: with a shared image, and with images that are copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from qemu.qmp.legacy import QMPError

from e2kemu.block.image import open_image
from e2kemu.block.qcow2 import create
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.disk_guest import laps_on_disk, make_rom
from tests.framework.transports import tcp

MIB = 1 << 20
SIZE = 24 * MIB + 512 * 3
GEOMETRY = {"blocks": 32, "stride": 1024}
"""4 KiB every 512 KiB: all chunks of the first 16 MiB are dirty all the time, the rest never is."""

IMAGES = ("raw", "qcow2", "overlay")


def machine(rom: Path, image: Path, format: str) -> tuple[str, ...]:
    drive = f"file={image},format={format},if=none,id=disk0"
    return "-m", "32M", "-bios", str(rom), "-drive", drive, "-device", "virtio-blk-device,drive=disk0"


def make_image(path: Path, kind: str) -> str:
    """Make an image of SIZE bytes; returns its format. An overlay lies over ``base`` beside it."""
    if kind == "raw":
        with open(path, "wb") as file:
            file.truncate(SIZE)
            file.seek(20 * MIB)
            file.write(b"what was there before")
        return "raw"
    if kind == "overlay":
        base = path.parent / "base"
        if not base.exists():
            base.write_bytes(bytes(18 * MIB) + b"base" * 1000 + bytes(96))
        create(str(path), SIZE, backing="base", backing_format="raw")
    else:
        create(str(path), SIZE)
    return "qcow2"


def contents(path: Path, format: str) -> bytes:
    image = open_image(str(path), format, readonly=True)
    try:
        return image.read(0, image.size)
    finally:
        image.close()


@pytest.fixture
def rom(tmp_path: Path) -> Path:
    return make_rom(tmp_path / "disk.rom", delay=200, **GEOMETRY)


def fast(source: Emulator) -> None:
    source.set_parameters(max_bandwidth=1 << 30, downtime_limit=5000)


@pytest.mark.parametrize("kind", IMAGES)
def test_a_copied_disk_is_the_same_at_both_ends(kind: str, start: StartEmulator, rom: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    format = make_image(here, kind)
    make_image(there, kind)
    source = start("source", *machine(rom, here, format))
    source.wait_console("LLL")
    destination = start("destination", *machine(rom, there, format), "-incoming", "defer", "-S")
    source.set_parameters(max_bandwidth=40 * MIB, downtime_limit=1)
    source.set_capability("zero-blocks")
    uri = tcp(source, destination, tmp_path)
    laps = source.console().count("L")
    source.qmp("migrate", uri=uri, **({"inc": True} if kind == "overlay" else {"blk": True}))
    source.wait_console("L", count=laps + 4)  # the guest goes on while its disk is copied
    disk = source.migration()["disk"]
    assert disk["total"] == SIZE
    fast(source)
    info = source.wait_migration()
    assert info["status"] == "completed", (info, destination.stderr())
    assert info["disk"]["remaining"] == 0
    assert f"total disk: {SIZE >> 10} kbytes\n" in source.hmp("info migrate")
    destination.wait_status("paused")
    source.close()
    destination.close()
    disk_here, disk_there = contents(here, format), contents(there, format)
    assert disk_here == disk_there
    assert laps_on_disk(disk_there, **GEOMETRY)[0] >= laps
    assert disk_there[20 * MIB :][:21] == (b"what was there before" if kind == "raw" else bytes(21))
    if kind == "overlay":
        image = open_image(str(there), "qcow2", readonly=True)
        assert not image.is_allocated(17 * MIB, 2 * MIB), "what the base holds was not to be copied"
        image.close()
    assert "F" not in source.console()


def test_a_copied_disk_goes_on_being_written_at_the_destination(
    start: StartEmulator, rom: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for path in (here, there):
        make_image(path, "raw")
    source = start("source", *machine(rom, here, "raw"))
    source.wait_console("LLL")
    destination = start("destination", *machine(rom, there, "raw"), "-incoming", "defer")
    fast(source)
    assert source.hmp(f"migrate -d -b {tcp(source, destination, tmp_path)}") == ""
    assert source.wait_migration()["status"] == "completed"
    destination.wait_console("LLL")
    destination.qmp("stop")
    assert "F" not in source.console() + destination.console()
    destination.close()
    assert laps_on_disk(there.read_bytes(), **GEOMETRY)[0] > 5


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_shared_disk_changes_hands_there_and_back(kind: str, start: StartEmulator, rom: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    format = make_image(image, kind)
    emulators = [start("hop0", *machine(rom, image, format))]
    emulators[0].wait_console("LLL")
    for hop in (1, 2):
        source = emulators[-1]
        destination = start(f"hop{hop}", *machine(rom, image, format), "-incoming", "defer")
        fast(source)
        source.qmp("migrate", uri=tcp(source, destination, tmp_path))
        assert source.wait_migration()["status"] == "completed", destination.stderr()
        destination.wait_console("LL")
        with pytest.raises(QMPError, match=r'Failed to get "write" lock: Is another process using the image'):
            source.qmp("cont")
        assert source.status() == "postmigrate"
        emulators.append(destination)
    for emulator in emulators:
        assert "F" not in emulator.console()
        emulator.close()
    laps = laps_on_disk(contents(image, format), **GEOMETRY)
    assert laps[0] >= sum(emulator.console().count("L") for emulator in emulators) - 1


def test_a_destination_killed_in_the_middle_leaves_the_source_its_guest_and_disk(
    start: StartEmulator, rom: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for path in (here, there):
        make_image(path, "raw")
    source = start("source", *machine(rom, here, "raw"))
    source.wait_console("LL")
    victim = start("victim", *machine(rom, there, "raw"), "-incoming", "defer")
    source.set_parameters(max_bandwidth=4 * MIB)
    source.qmp("migrate", uri=tcp(source, victim, tmp_path), blk=True)
    source.wait_for(source.migration, lambda info: info.get("disk", {}).get("transferred", 0) > 2 * MIB, 30, "disk")
    victim.process.kill()
    assert source.wait_migration("failed")["error-desc"]
    source.wait_status("running")
    source.wait_console("L", count=source.console().count("L") + 2)
    again = start("again", *machine(rom, there, "raw"), "-incoming", "defer", "-S")
    fast(source)
    source.qmp("migrate", uri=tcp(source, again, tmp_path), blk=True)
    assert source.wait_migration()["status"] == "completed"
    again.wait_status("paused")
    again.close()
    source.close()
    assert here.read_bytes() == there.read_bytes()
    assert "F" not in source.console()


def test_a_destination_that_cannot_have_the_disk_says_so_and_the_source_goes_on(
    start: StartEmulator, rom: Path, tmp_path: Path
) -> None:
    here, there, small, other = (tmp_path / name for name in ("here", "there", "small", "other"))
    make_image(here, "raw")
    shutil.copy(here, there)
    shutil.copy(here, other)
    with open(small, "wb") as file:
        file.truncate(SIZE - 512)
    source = start("source", *machine(rom, here, "raw"))
    source.wait_console("L")
    fast(source)
    owner = start("owner", *machine(rom, there, "raw"), "-S")
    owner.connect()
    for image, blk, reason in (
        (there, False, 'Failed to get "write" lock'),
        (here, True, 'Failed to get "write" lock'),
        (small, False, "Failed to load virtio-blk:sectors"),
        (other, False, "does not hold what the source's image does: one that is not shared has to be copied"),
    ):
        destination = start(f"to-{image.name}-{blk}", *machine(rom, image, "raw"), "-incoming", "defer")
        source.qmp("migrate", uri=tcp(source, destination, tmp_path), blk=blk)
        assert source.wait_migration()["status"] == "failed"
        assert destination.wait_exit() == 1
        assert reason in destination.stderr()
        assert len(destination.stderr().splitlines()) == 1
        source.wait_status("running")
    source.wait_console("L", count=source.console().count("L") + 2)
    assert "F" not in source.console()


def test_a_snapshot_keeps_its_guest_here(start: StartEmulator, rom: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    make_image(image, "raw")
    before = image.read_bytes()
    source = start("source", "-m", "32M", "-bios", str(rom), "-drive", f"file={image},format=raw,snapshot=on,id=s")
    source.wait_console("LL")
    with pytest.raises(QMPError, match=r"The drive 's' is a temporary snapshot \(snapshot=on\)"):
        source.qmp("migrate", uri="exec:cat > /dev/null")
    assert source.migration()["blocked-reasons"]
    source.close()
    assert image.read_bytes() == before


def test_a_shared_disk_follows_its_guest_in_postcopy(start: StartEmulator, rom: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    make_image(image, "raw")
    source = start("source", *machine(rom, image, "raw"))
    source.wait_console("LLL")
    destination = start("destination", *machine(rom, image, "raw"), "-incoming", "defer")
    for emulator in (source, destination):
        emulator.set_capability("postcopy-ram")
    # 48 MiB to send, zeroes and all, so that there is time to switch over
    source.set_parameters(max_bandwidth=4 * MIB, downtime_limit=1, zero_page_detection="none")
    uri = tcp(source, destination, tmp_path)
    with pytest.raises(QMPError, match="incompatible with current migration capabilities"):
        source.qmp("migrate", uri=uri, blk=True)
    source.qmp("migrate", uri=uri)
    source.wait_migration("active")
    source.qmp("migrate-start-postcopy")
    assert source.wait_migration("completed", "failed")["status"] == "completed", destination.stderr()
    destination.wait_console("LLL")
    destination.close()
    source.close()
    assert "F" not in source.console() + destination.console()
    assert laps_on_disk(image.read_bytes(), **GEOMETRY)[0] >= 5
