"""What the monitor says of page tables."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import e2kemu.cli  # noqa: F401 - declares all commands
from e2kemu.cpu.asm import assemble
from e2kemu.cpu.mmu import info
from tests.cpu.mmu.tables import CORE_MODE_PT_V6, CORE_MODE_SEP, KINDS, Tables, bits
from tests.monitor.processes import RawHmp, start


@pytest.mark.parametrize(("version", "new"), KINDS)
def test_mappings_are_listed_by_address_with_their_bits(version: int, new: bool) -> None:
    tables = Tables(version, new)
    tables.map(0x1000, 0x7000, "W", "A", "D")
    tables.map(0x2000, 0x5000, "W", "PV", "G")
    tables.map(0x3000, 0x6000, "W", "PV", "NX")
    tables.map(0xD000_0020_0000, 0x4060_0000, level=1)
    large = 0x4060_0000 if version > 2 else 0x4040_0000 + 0x20_0000
    assert list(info.tlb_lines(tables.mmu)) == [
        "0000000000001000: 0000000000007000 ---DA--UW",
        "0000000000002000: 0000000000005000 -G------W",
        "0000000000003000: 0000000000006000 X-------W",
        f"0000d00000200000: {large:016x} --P----U-"]
    assert list(info.mem_lines(tables.mmu)) == [
        "0000000000001000-0000000000002000 0000000000001000 urw",
        "0000000000002000-0000000000004000 0000000000002000 -rw",
        "0000d00000200000-0000d00000400000 0000000000200000 ur-"]
    tables.mmu.write_register(0, 0)
    assert list(info.tlb_lines(tables.mmu)) == list(info.mem_lines(tables.mmu)) == ["PG disabled"]


def test_both_spaces_are_listed() -> None:
    tables = Tables(6, True)
    tables.mmu.set_core_mode(CORE_MODE_PT_V6 | CORE_MODE_SEP)
    tables.mmu.write_register(0x35, 0x8000)
    tables.mmu.write_register(0x4C, 0xD000_0000_0000)
    for virtual, root in ((0x1000, None), (0xD000_0000_1000, None), (0x2000, 0x8000), (0xD000_0000_2000, 0x8000)):
        tables.map(virtual, 0x5000, root=root)
    assert [line[:16] for line in info.tlb_lines(tables.mmu)] == ["0000000000001000", "0000d00000002000"]


def test_tables_that_contain_themselves_come_to_an_end() -> None:
    tables = Tables(4)
    for index in range(512):
        tables.put(tables.root + 8 * index, tables.root | bits(False, "P", "VALID", "W"))
    assert list(info.mem_lines(tables.mmu))[-1] == info.LEFT_OUT
    lines = list(info.tlb_lines(tables.mmu))
    assert lines[-1] == info.LEFT_OUT
    assert len(lines) > 90_000


def test_tables_where_no_memory_is_are_empty() -> None:
    tables = Tables(4)
    tables.mmu.write_register(4, 0x80_0000_0000)
    assert not list(info.tlb_lines(tables.mmu))




def boot() -> bytes:
    """A ROM that maps itself where it is, and 0x5000 at 0x40001000; then it waits."""
    flags = bits(False, "P", "VALID", "W", "PV", "A", "D")
    rom = 0x1_0000_0000
    entries = {
        0x10000: 0x11000 | flags,                                   # PGD
        0x11000 + 8 * (rom >> 30): 0x12000 | flags,                 # PUD of the ROM
        0x11008: 0x13000 | flags,                                   # PUD of 1 GiB
        0x12000: rom | flags | bits(False, "PS"),                   # PMD of the ROM: 2 MiB
        0x13000: 0x14000 | flags,
        0x14008: 0x5000 | flags,
        0x5000: 0x1122_3344_5566_7788,
    }
    text = "{ setwd wsz=16, nfx=1 }\n"
    for place, value in entries.items():
        text += f"addd 0, {value:#x}, %dr0\nstd,2 %dr0, 0, {place:#x}\n"
    text += "addd 0, 0x10000, %dr0\nmmurw %dr0, %root_ptb\naddd 0, 1, %dr0\nmmurw %dr0, %mmu_cr\n1: ibranch 1b\n"
    image = assemble(text, version=4, base=rom)
    return bytes(image.data)


def test_a_machine_tells_its_mappings(tmp_path: Path) -> None:
    rom, monitor = tmp_path / "rom.bin", tmp_path / "monitor"
    rom.write_bytes(boot())
    process = start("-m", "32M", "-bios", str(rom), "-display", "none", "-serial", "null",
                    "-monitor", f"unix:{monitor},server=on,wait=off")
    hmp = RawHmp(monitor, process)
    try:
        deadline = time.monotonic() + 30
        while "PG disabled" in hmp.ask("info tlb") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "0000000040001000: 0000000000005000 ---DA---W" in hmp.ask("info tlb")
        assert "0000000100000000: 0000000100000000 --PDA---W" in hmp.ask("info tlb")
        assert "0000000100000000-0000000100200000 0000000000200000 -rw" in hmp.ask("info mem")
        assert "gpa: 0x5008" in hmp.ask("gva2gpa 0x40001008")
        assert "Unmapped" in hmp.ask("gva2gpa 0x5000")
        assert "0x1122334455667788" in hmp.ask("x/1xg 0x40001000")
        assert "0x1122334455667788" in hmp.ask("xp/1xg 0x5000")
        assert "Invalid addr 0x0000000000005000" in hmp.ask("x/1xg 0x5000")
        assert "Invalid addr 0x0000000040002000" in hmp.ask("x/2xg 0x40001ff8")
        saved = tmp_path / "saved"
        hmp.ask(f'memsave 0x40001000 8 "{saved}"')
        assert saved.read_bytes() == (0x1122_3344_5566_7788).to_bytes(8, "little")
        assert "ibranch" in hmp.ask("x/80i 0x100000000")
        hmp.ask("stop")
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)
