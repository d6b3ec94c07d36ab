"""Raw images, locks between processes, the options -drive and -device, dirty chunks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2kemu.block.drive import CHUNK, Drive, parse_drive
from e2kemu.block.image import open_image
from e2kemu.block.qcow2 import create
from e2kemu.cli import main
from e2kemu.errors import ImageError, OptionError
from tests.framework import forked

QEMU_IMG = shutil.which("qemu-img")


def drive(text: str) -> Drive:
    made = parse_drive(text, 0)
    made.activate()
    return made


def test_a_size_that_is_no_sector_is_rounded_up_and_the_file_grows_when_written(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 700)
    disk = drive(f"file={path},format=raw")
    assert disk.size == 1024
    assert disk.read(512, 512) == b"x" * 188 + bytes(324)
    disk.write(512, b"y" * 512)
    assert path.stat().st_size == 1024
    with pytest.raises(ImageError, match="drive 'virtio0': 512 bytes at 0x400 lie outside"):
        disk.read(1024, 512)
    disk.close()


def test_holes_are_known_to_be_zero_and_zeroes_do_not_fill_them(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(8 * CHUNK)
        file.seek(4 * CHUNK)
        file.write(b"x" * 4096)
    disk = drive(f"file={path},format=raw")
    assert disk.is_zero(0, 4 * CHUNK)
    assert not disk.is_zero(4 * CHUNK, 512)
    disk.write_zeroes(0, 8 * CHUNK)
    assert path.stat().st_blocks * 512 < CHUNK * 2
    assert disk.read(0, disk.size) == bytes(disk.size)
    disk.close()


def test_a_read_only_drive_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    disk = drive(f"file={path},format=raw,readonly=on")
    with pytest.raises(ImageError, match="is read-only"):
        disk.write(0, b"x" * 512)
    disk.close()


def test_a_guessed_raw_image_cannot_be_made_into_a_qcow2_image_by_its_guest(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1024))
    disk = drive(f"file={path}")
    with pytest.raises(ImageError):
        disk.write(0, b"QFI\xfb" + bytes(508))
    disk.write(1, b"FI\xfb")
    with pytest.raises(ImageError):
        disk.write(0, b"Q")
    disk.close()
    disk = drive(f"file={path},format=raw")
    disk.write(0, b"QFI\xfb")
    disk.close()


def test_snapshot_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"a" * CHUNK)
    disk = drive(f"file={path},format=raw,snapshot=on,id=s")
    disk.write(5000, b"b" * 512)
    assert disk.read(4096, 2048) == b"a" * 904 + b"b" * 512 + b"a" * 632
    assert disk.migration_blocker
    disk.close()
    assert path.read_bytes() == b"a" * CHUNK


HOLDER = """
import sys
from e2kemu.block.drive import parse_drive
drive = parse_drive(sys.argv[1], 0)
drive.activate()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_two_processes_cannot_write_one_image_but_can_read_it(format: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    if format == "raw":
        path.write_bytes(bytes(CHUNK))
    else:
        create(str(path), CHUNK)
    text = f"file={path},format={format}"

    def hold(options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, text + options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    writer = hold("")
    with pytest.raises(OptionError) as caught:
        drive(text)
    assert str(caught.value) == f'Failed to get "write" lock: Is another process using the image [{path}]?'
    with pytest.raises(OptionError, match='Failed to get shared "write" lock'):
        drive(text + ",readonly=on")
    if QEMU_IMG:
        result = subprocess.run(
            [QEMU_IMG, "convert", "-O", "raw", str(path), str(tmp_path / "copy")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 'Failed to get shared "write" lock' in result.stderr
    writer.kill()
    writer.wait()
    reader = hold(",readonly=on")
    other = drive(text + ",readonly=on")
    other.close()
    with pytest.raises(OptionError, match='Failed to get "write" lock'):
        drive(text)
    reader.communicate()
    mine = drive(text)
    mine.inactivate()
    theirs = hold("")
    with pytest.raises(OptionError):
        mine.activate()
    theirs.communicate()
    mine.activate()
    mine.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file=/nowhere/x", "Could not open '/nowhere/x': No such file or directory"),
        ("if=virtio", "Device needs media, but drive is empty"),
        ("file={disk},if=floppy", "unsupported bus type 'floppy'"),
        ("file={disk},format=vmdk", "'vmdk' invalid format"),
        ("file={disk},format=qcow2", "Could not open '{disk}': Image is not in qcow2 format"),
        ("file={disk},readonly=maybe", "Parameter 'readonly' expects 'on' or 'off'"),
        ("file={disk},cache=none", "Invalid parameter 'cache'"),
        ("file={disk},media=cdrom", "media 'cdrom' is not supported"),
        ("file={dir}", "Could not open '{dir}': it is neither a regular file nor a block device"),
    ],
)
def test_a_wrong_drive_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    with pytest.raises((OptionError, ImageError)) as caught:
        parse_drive(text.format(disk=disk, dir=tmp_path), 0)
    assert str(caught.value) == reason.format(disk=disk, dir=tmp_path)


def test_info_block_shows_the_drives(tmp_path: Path) -> None:
    disk, top = tmp_path / "disk", tmp_path / "top"
    disk.write_bytes(bytes(CHUNK))
    create(str(top), CHUNK, backing="disk", backing_format="raw")
    command = [
        sys.executable, "-m", "e2kemu", "-display", "none", "-S", "-monitor", "stdio", "-m", "32M",
        "-drive", f"file={top},if=none,id=d0", "-device", "virtio-blk-device,drive=d0,id=vd",
        "-drive", f"file={disk},format=raw,readonly=on,if=none,id=d1",
    ]  # fmt: skip
    result = forked.run(
        command, input="info block\nquit\n", capture_output=True, text=True, timeout=100, env=os.environ, check=True
    )
    lines = result.stdout.splitlines()
    assert f"(qemu) d0: {top} (qcow2)" in lines
    assert "    Attached to:      vd" in lines
    assert f"    Backing file:     {disk} (chain depth: 1)" in lines
    assert f"d1: {disk} (raw, read-only)" in lines


def test_wrong_devices_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(CHUNK))
    text = f"file={disk},format=raw,if=none,id=d0"

    def refused(*options: str) -> str:
        assert main(["-display", "none", "-serial", "null", "-m", "32M", "-drive", text, *options]) == 1
        return capsys.readouterr().err

    for device, reason in (
        ("virtio-blk-device,drive=d1", "Property 'virtio-blk-device.drive' can't find value 'd1'"),
        ("virtio-blk-device", "drive property not set"),
        ("virtio-gpu-device", "'virtio-gpu-device' is not a valid device model name"),
        ("virtio-blk-device,drive=d0,foo=1", "Property 'virtio-blk-device.foo' not found"),
        ("virtio-blk-device,drive=d0,serial=123456789012345678901", "serial '123456789012345678901' is longer"),
    ):
        assert refused("-device", device).startswith(f"e2kemu: -device {device}: {reason}")
    twice = "virtio-blk-device,drive=d0"
    expected = f"e2kemu: -device {twice}: Drive 'd0' is already in use by another block device\n"
    assert refused("-device", twice, "-device", twice) == expected
    again = text.replace("d0", "d1")
    lock = f'e2kemu: -drive {again}: Failed to get "write" lock: Is another process using the image [{disk}]?\n'
    assert refused("-drive", again) == lock
    other = text.replace("raw", "raw,readonly=on").replace(str(disk), str(Path(__file__)))
    assert refused("-drive", other) == f"e2kemu: -drive {other}: Duplicate ID 'd0' for drive\n"
    assert refused("-blockdev", "x") == "e2kemu: -blockdev x: disk images are given with -drive\n"
    assert main(["-device", "help"]) == 0
    assert 'name "virtio-blk-device"' in capsys.readouterr().out


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.integers(0, 5 * CHUNK - 1), st.integers(1, 2 * CHUNK)), max_size=5))
def test_every_chunk_that_is_written_is_marked_once(writes: list[tuple[int, int]], tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(5 * CHUNK)
    disk = drive(f"file={path},format=raw")
    assert not disk.take_dirty().size
    disk.track_dirty(True)
    expected = set()
    for offset, size in writes:
        size = min(size, disk.size - offset)
        disk.write_zeroes(offset, size)
        expected.update(range(offset // CHUNK, (offset + size - 1) // CHUNK + 1))
    assert set(disk.take_dirty().nonzero()[0].tolist()) == expected
    assert not disk.take_dirty().any()
    disk.close()


def test_a_locked_backing_file_is_named(tmp_path: Path) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    base.write_bytes(bytes(CHUNK))
    create(str(top), CHUNK, backing="base", backing_format="raw")
    below = drive(f"file={base},format=raw")
    with pytest.raises(OptionError, match=r"lock: Is another process using the image \[.*base\]"):
        drive(f"file={top},format=qcow2")
    below.close()
    image = open_image(str(top))
    image.activate()
    image.close()
