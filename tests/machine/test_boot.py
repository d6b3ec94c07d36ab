"""What a kernel finds when it is started: images of every kind, ramdisk, boot block, MP table."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble
from e2kemu.errors import ImageError, OptionError
from e2kemu.machine import builder
from e2kemu.machine.bootblock import HEADER_SIZE, LONG_LINE
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.kernel import CALL_ENTRY, LINUX_BASE, LINUX_VIRTUAL, Start, read_kernel

MARKS = 0x60_0000
EMBOX_BASE = 0x100_0000


def header(kernel_size: int = 0, kernel_base: int = 0) -> bytearray:
    """The 64 KiB before a kernel, with a boot block as its builder leaves it."""
    data = bytearray(HEADER_SIZE)
    struct.pack_into("<H6x2Q", data, 0x100, 0x8086, kernel_base, kernel_size)
    data[0x100 + 0xFFE : 0x1100] = b"\x55\xaa"
    return data


def elf(segments: list[tuple[int, bytes]], entry: int) -> bytes:
    """An ELF executable for e2k; physical and virtual addresses are equal."""
    offset = 64 + 56 * len(segments)
    programs, body = b"", b""
    for address, data in segments:
        programs += struct.pack("<2I6Q", 1, 7, offset + len(body), address, address, len(data), len(data), 0x1000)
        body += data
    ident = b"\x7fELF\2\1\1" + bytes(9)
    head = ident + struct.pack("<2HI3QI6H", 2, 175, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    return head + programs + body


def kernel_code(base: int, entry: int, epic: bool) -> bytes:
    """A kernel whose CPUs mark MARKS + 32 * id: 1, %r0, %r1, OSCUD.lo; then they stand."""
    local, shift = (0xFEE0_0010, 0) if epic else (0xFEE0_0020, 24)
    return assemble(
        f"""
    .text
    .org {entry:#x}
        setwd wsz=16, nfx=1
        addd,0 0, {local:#x}, %dr2
    {{ nop 4
        ldw,0 [ %dr2 + 0 ], %r3 }}
        shrs,0 %r3, {shift}, %r3
        sxt,0 6, %r3, %dr3
        shld,0 %dr3, 5, %dr3
        addd,0 %dr3, {MARKS:#x}, %dr3
        rrd %oscud.lo, %dr4
        std,2 %dr0, [ %dr3 + 8 ]
        std,2 %dr1, [ %dr3 + 16 ]
        std,2 %dr4, [ %dr3 + 24 ]
        addd,0 0, 1, %dr5
        std,2 %dr5, [ %dr3 + 0 ]
stand:
        ibranch stand
""",
        version=4, base=base,
    ).data  # fmt: skip


def marks(machine: Machine, cpus: int) -> list[tuple[int, ...]]:
    """What the CPUs have marked."""
    return [struct.unpack("<4Q", machine.read_mem(MARKS + 32 * cpu, 32)) for cpu in range(cpus)]


def run_until(machine: Machine, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, machine.console.text
        assert machine.run(timeout=0.05) == "timeout", machine.console.text


@pytest.mark.parametrize("cpu", ["e8c", "e16c"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_an_image_with_its_header_is_entered_at_its_first_byte_by_every_cpu(
    cpu: str, cpus: int, tmp_path: Path
) -> None:
    image = tmp_path / "embox.bin"
    image.write_bytes(bytes(header()) + kernel_code(EMBOX_BASE, 0, cpu == "e16c"))
    with Machine.build(ram="64M", cpu=cpu, smp=cpus, kernel=str(image), append="a b") as machine:
        run_until(machine, lambda: all(mark[0] for mark in marks(machine, cpus)))
        assert [mark[3] & 0xFFFF_FFFF_FFFF for mark in marks(machine, cpus)] == [EMBOX_BASE] * cpus
        block = machine.read_mem(0xFF_0100, 0x1000)
        mp_table = int.from_bytes(block[0x30:0x38], "little")
        assert machine.read_mem(mp_table, 4) == b"_MP_"
        assert (block[0x5C2], block[0x28], block[0x58:0x5C]) == (0xB if cpu == "e16c" else 7, cpus, b"a b\0")
        assert int.from_bytes(block[0x38:0x40], "little") == 0x8120_0040
        assert (block[:2], block[0xFFE:]) == (b"\x86\x80", b"\x55\xaa"), "the rest of the image's own block stays"
        assert f"machine elbrus-2.0, CPU {cpu}, 64 MiB" in machine.console.text


@pytest.mark.parametrize("cpu", ["e8c", "e16c"])
@pytest.mark.parametrize("kind", ["raw", "raw at its base", "elf"])
def test_linux_is_entered_by_system_call_12_with_the_boot_block(cpu: str, kind: str, tmp_path: Path) -> None:
    path, base = tmp_path / "image", 0x180_0000 if kind == "raw at its base" else LINUX_BASE
    if kind == "elf":
        code = kernel_code(LINUX_VIRTUAL, CALL_ENTRY, cpu == "e16c")
        path.write_bytes(elf([(LINUX_VIRTUAL, code), (LINUX_VIRTUAL + 0x10_0000, b"data")], LINUX_VIRTUAL))
    else:
        code = kernel_code(base, CALL_ENTRY, cpu == "e16c")
        path.write_bytes(bytes(header(len(code), 0 if kind == "raw" else base)) + code + b"what follows is not loaded")
    disk = tmp_path / "initrd"
    disk.write_bytes(b"ramdisk" * 1000)
    options = {"kernel": str(path), "initrd": str(disk), "append": "root=/dev/ram0"}
    with Machine.build(ram="64M", cpu=cpu, smp=2, **options) as machine:
        run_until(machine, lambda: all(mark[0] for mark in marks(machine, 2)))
        (_, number, block_at, table), other = marks(machine, 2)
        assert other[1:] == (number, block_at, table)
        assert (number, table & 0xFFFF_FFFF_FFFF) == (0, base)
        block = machine.read_mem(block_at, 0x1000)
        assert struct.unpack_from("<HB", block) == (0xE200, 0xB if cpu == "e16c" else 7)
        kernel_base, kernel_size, disk_base, disk_size = struct.unpack_from("<4Q", block, 8)
        assert kernel_base == base
        assert kernel_size == (0x10_0004 if kind == "elf" else len(code))
        assert machine.read_mem(disk_base, disk_size) == disk.read_bytes()
        assert disk_base == 0x400_0000 - 0x2000
        assert block[0x58:0x67] == b"root=/dev/ram0\0"
        assert (block[7], struct.unpack_from("<2Q", block, 0xD8)) == (1, (0, 64 << 20))
        if kind == "elf":
            assert machine.read_mem(base + 0x10_0000, 4) == b"data"


def test_a_plain_kernel_is_told_of_ramdisk_boot_block_and_mp_table(tmp_path: Path) -> None:
    kernel, disk = tmp_path / "kernel", tmp_path / "initrd"
    code = kernel_code(0x200_0000, 0, False)
    kernel.write_bytes(elf([(0x200_0000, code)], 0x200_0000))
    disk.write_bytes(b"x" * 5000)
    with Machine.build(ram="64M", smp=4, kernel=str(kernel), initrd=str(disk), append="a" * 1000) as machine:
        run_until(machine, lambda: bool(marks(machine, 1)[0][0]))
        (_, zero, one, _), *others = marks(machine, 4)
        assert (zero, one) == (0xFF_0000, 0xFF_0000)
        assert others == [(0, 0, 0, 0)] * 3, "the others stand until somebody starts them"
        info = machine.read_mem(0xFF_0000, 0x1000)
        assert struct.unpack_from("<2Q", info, 8) == (0x400_0000 - 0x2000, 5000)
        block, table = struct.unpack_from("<2Q", info, 0xD0)
        assert (machine.read_mem(block, 2), machine.read_mem(table, 4)) == (b"\x00\xe2", b"_MP_")
        assert machine.read_mem(0x400_0000 - 0x2000, 5000) == disk.read_bytes()


# -- MP table


def entries(page: bytes, address: int) -> list[bytes]:
    """Read the table as kernels do: check its sums, step over its entries."""
    signature, table, length, version = struct.unpack_from("<4s4xQ2B", page)
    assert (signature, table, length, version) == (b"_MP_", address + 24, 1, 4)
    assert sum(page[:16]) & 0xFF == 0
    assert sum(page[:24]) & 0xFF == 0
    table = page[24:]
    total = int.from_bytes(table[4:6], "little")
    assert table[:4] == b"PCMP"
    assert sum(table[:total]) & 0xFF == 0
    count = int.from_bytes(table[34:36], "little")
    sizes = {0: 20, 1: 8, 2: 16, 3: 8, 4: 8, 5: 16, 6: 24, 7: 40, 11: 16}
    result, at = [], 44
    for _ in range(count):
        size = sizes[table[at]]
        result.append(table[at : at + size])
        at += size
    assert at == total
    return result


@pytest.mark.parametrize(("cpu", "cpus"), [("e8c", 1), ("e8c", 16), ("e16c", 5)])
def test_the_mp_table_names_cpus_controllers_timer_and_pins(cpu: str, cpus: int) -> None:
    machine = builder.build(MachineConfig(cpu=cpu, smp=cpus, ram_size=64 << 20))
    address = struct.unpack("<Q", machine.read_mem(0xFF_00D8, 8))[0]
    found = entries(machine.read_mem(address, 0x1000), address)
    processors = [entry for entry in found if entry[0] == 0]
    assert [(entry[1], entry[3]) for entry in processors] == [(0, 3), *((number, 1) for number in range(1, cpus))]
    (timer,) = (entry for entry in found if entry[0] == 5)
    assert (timer[1], struct.unpack_from("<Q", timer, 8)[0]) == (1, 0x8130_0000)
    kind = 11 if cpu == "e16c" else 2
    (controller,) = (entry for entry in found if entry[0] in (2, 11))
    assert (controller[0], struct.unpack_from("<Q", controller, 8)[0]) == (kind, 0xFEC0_0000)
    assert processors[0][12:16] == (100_000_000 if kind == 11 else 0).to_bytes(4, "little")
    pins = {entry[7]: struct.unpack_from("<H", entry, 2)[0] for entry in found if entry[0] == 3}
    assert pins[2] == 0x5
    assert set(pins) == {1, 2, 3, 6, 8, 15}


@pytest.mark.parametrize("cpu", ["e1cp", "e8c"])
def test_an_elbrus_1c_has_pci_and_ports_where_its_software_looks(cpu: str) -> None:
    with Machine.build(cpu=cpu, ram="32M") as machine:
        space, there = machine.space, cpu == "e1cp"
        assert space.read(0x2_0000_0000, 4) == 0x8017_1FFF
        assert space.read(0xFF_1000_0000, 4) == (0x8017_1FFF if there else 0xFFFF_FFFF)
        space.write(0xFF_2000_03F8, 1, ord("x"))
        assert machine.console.text == ("x" if there else "")


# -- what cannot be


def test_images_that_cannot_be_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(data: bytes, match: str, **options: object) -> None:
        path = tmp_path / "image"
        path.write_bytes(data)
        values = {"kernel": str(path), "ram_size": 64 << 20} | options
        with pytest.raises((ImageError, OptionError), match=match) as problem:
            builder.build(MachineConfig(**values))  # type: ignore[arg-type]
        assert "\n" not in str(problem.value)

    refused(bytes(header()), "truncated")
    refused(bytes(header(5000)) + bytes(4999), "the file is truncated: 70535 bytes, its header of 65536 bytes tells")
    refused(bytes(header(8, 0x7000_0000)) + bytes(8), "is outside of RAM")
    refused(bytes(header(0x1000, 0xFE_F000)) + bytes(0x1000), "covers the boot block")
    refused(bytes(header()) + bytes(8), "machine 'elbrus-1.1' has no boot block", machine="elbrus-1.1")
    refused(bytes(header()) + bytes(8), "-append: 512 bytes are too many", append="x" * (LONG_LINE + 1))
    refused(bytes(header()), "not an ELF file|truncated")
    refused(bytes(HEADER_SIZE + 8), "not an ELF file")
    refused(b"", "file is empty", kernel=None, initrd=str(tmp_path / "image"))
    refused(bytes(60 << 20), "too many for the RAM", kernel=None, initrd=str(tmp_path / "image"))
    refused(b"", "No such file", kernel=None, initrd=str(tmp_path / "none"))


def test_a_long_command_line_goes_to_the_longer_place(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(header(8)) + bytes(8))
    machine = builder.build(MachineConfig(kernel=str(image), ram_size=64 << 20, append="y" * 300))
    block = machine.read_mem(0xFE_F000, 0x1000)
    assert block[0x58:0x6E] == b"KERNEL_ARGS_STRING_EX\0"
    assert block[0x5C3 : 0x5C3 + 301] == b"y" * 300 + b"\0"


def test_an_elf_with_a_boot_block_is_started_at_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "embox"
    path.write_bytes(elf([(0xFF_0000, bytes(header())), (EMBOX_BASE, b"code")], EMBOX_BASE))
    kernel = read_kernel(str(path))
    assert (kernel.start, kernel.block, kernel.base) == (Start.ENTRY, 0xFF_0100, EMBOX_BASE)
