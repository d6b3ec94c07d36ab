"""Images that cannot be used are named, with the reason; damaged ELF files never do worse."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from e2kemu.errors import ImageError
from e2kemu.loader import ElfImage, read_elf, read_rom

BANKS = [(0, 64 << 20)]


def elf(
    *, machine: int = 175, address: int = 0x40_0000, data: bytes = b"code", size: int = 0x100,
    entry: int | None = None, kind: int = 2, bits: int = 2, virtual: int | None = None,
    file_size: int | None = None,
) -> bytes:  # fmt: skip
    """An ELF file with one loadable segment."""
    virtual = address if virtual is None else virtual
    entry = virtual if entry is None else entry
    ident = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9)
    stored = len(data) if file_size is None else file_size
    if bits == 2:
        head = struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        part = struct.pack("<IIQQQQQQ", 1, 7, 120, virtual, address, stored, size, 8)
    else:
        head = struct.pack("<HHIIIIIHHHHHH", kind, machine, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        part = struct.pack("<IIIIIIII", 1, 84, virtual, address, stored, size, 7, 8)
    return ident + head + part + data


def write(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "image.elf"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("machine", [175, 49])
@pytest.mark.parametrize("bits", [1, 2])
def test_an_e2k_program_is_read_with_its_segments(tmp_path: Path, machine: int, bits: int) -> None:
    image = read_elf(write(tmp_path, elf(machine=machine, bits=bits)))
    assert (image.entry, image.base, image.end) == (0x40_0000, 0x40_0000, 0x40_0100)
    assert [(s.address, s.size, s.data) for s in image.segments] == [(0x40_0000, 0x100, b"code")]
    image.check_fits(BANKS)


def test_an_entry_given_as_a_virtual_address_becomes_physical(tmp_path: Path) -> None:
    image = read_elf(write(tmp_path, elf(virtual=0xE200_0000_0000, entry=0xE200_0000_0010)))
    assert image.entry == 0x40_0010


WRONG = [
    (b"", "not an ELF file"),
    (b"\x7fELF", "the file is truncated or damaged"),
    (b"#!/bin/sh\n", "not an ELF file"),
    (elf(machine=62), "it is for x86-64, not for e2k"),
    (elf(machine=9999), "it is for machine 9999, not for e2k"),
    (elf(kind=1), "it is not an executable (ET_REL)"),
    (elf(file_size=5000, size=8000), "the file is truncated: segment 0 ends at byte 5120 of 124"),
    (elf(size=2), "segment 0 has more bytes in the file than in memory"),
    (elf(entry=0x10), "its entry point 0x10 is in no segment"),
    (elf(size=0, data=b""), "it has no loadable segment"),
    (elf()[:70], "the file is truncated or damaged"),
    (elf()[:30], "the file is truncated or damaged"),
]


@pytest.mark.parametrize(("data", "reason"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_a_file_that_cannot_be_a_kernel_is_named_with_the_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = write(tmp_path, data)
    with pytest.raises(ImageError) as caught:
        read_elf(path)
    text = str(caught.value)
    assert text.startswith(f"could not load kernel '{path}': {reason}")
    assert "\n" not in text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="could not load kernel '/nowhere': No such file or directory"):
        read_elf("/nowhere")
    with pytest.raises(ImageError, match=f"could not load BIOS '{tmp_path}': Is a directory"):
        read_rom(str(tmp_path), 100)


def test_a_rom_must_fit_and_not_be_empty(tmp_path: Path) -> None:
    path = write(tmp_path, b"x" * 10)
    assert read_rom(path, 10) == b"x" * 10
    with pytest.raises(ImageError, match="10 bytes, the ROM has 9"):
        read_rom(path, 9)
    with pytest.raises(ImageError, match="the file is empty"):
        read_rom(write(tmp_path, b""), 9)


def test_segments_outside_of_ram_or_over_the_boot_information_are_refused(tmp_path: Path) -> None:
    image = read_elf(write(tmp_path, elf(address=(64 << 20) - 0x80)))
    with pytest.raises(ImageError, match=r"segment 0x3ffff80-0x400007f is outside of RAM"):
        image.check_fits(BANKS)
    image = read_elf(write(tmp_path, elf(address=0xFF_0F80)))
    with pytest.raises(ImageError, match="covers the boot information block at 0xff0000"):
        image.check_fits(BANKS, [(0xFF_0000, 0x1000, "the boot information block")])


def test_damaged_files_give_an_image_or_one_line(tmp_path: Path) -> None:
    rng, whole = random.Random(5), elf(data=bytes(range(200)), size=0x400)
    print("seed 5")
    good, complaints = 0, []
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(124)] = rng.randrange(256)
        cut = rng.choice((len(data), rng.randrange(len(data))))
        try:
            image = read_elf(write(tmp_path, bytes(data[:cut])))
        except ImageError as error:
            complaints.append(str(error))
        else:
            assert isinstance(image, ElfImage)
            good += 1
    assert good > 0
    assert len(complaints) > 100
    assert not any("\n" in text for text in complaints)
