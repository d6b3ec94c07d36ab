"""The assembler: golden vectors of the vendor's one; channels, literals, nops."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from e2kemu.cpu.asm import assemble, assemble_file
from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.isa import mmuregs
from tests.cpu.vectors import disassembled, lines, words_to_bytes

FIRMWARE = Path(__file__).parents[2] / "firmware"


def words(text: str, version: int = 4) -> str:
    """The assembled words, in hexadecimal."""
    data = assemble(text, version=version).data
    return " ".join(f"{int.from_bytes(data[i : i + 4], 'little'):08x}" for i in range(0, len(data), 4))


# --- against the vendor's assembler ----------------------------------------------------------------


def test_every_text_that_the_vendors_assembler_takes_gives_its_words() -> None:
    count = 0
    for vector in disassembled():
        if vector["asm"] not in ("same", "differs"):
            continue
        text = ".ignore ld_st_style\n{\n" + "\n".join(vector["text"]) + "\n}\n"
        expected = words_to_bytes(vector.get("asm_words", vector["words"]))
        assert assemble(text, version=vector["iset"]).data == expected, vector
        count += 1
    assert count >= 16015


def test_every_source_line_gives_the_words_of_the_vendors_assembler() -> None:
    count = 0
    for vector in lines("asm_vectors.jsonl"):
        style = ".ignore ld_st_style\n" if vector["lcc_store_style"] else ""
        data = assemble(style + "\n".join(vector["src"]), version=vector["iset"]).data
        assert data == words_to_bytes(vector["words"]), vector
        count += 1
    assert count >= 748


def test_sources_of_instruction_set_v7_give_the_vendors_words() -> None:
    count = 0
    for vector in disassembled():
        if source := vector.get("source"):
            data = assemble(f".ignore ld_st_style\n{{\n{source}\n}}\n", version=7).data
            assert data == vector["data"], vector
            count += 1
    assert count >= 1558


def test_text_of_a_program_reads_back_as_the_same_program() -> None:
    image = assemble_file(FIRMWARE / "boot.s", version=3, base=0x1_0000_0000)
    at = count = 0
    text = next(section for section in image.sections if section.name == ".text")
    while at < text.size:
        wide = decode(image.data, 3, 0, at)
        printed = disassemble(wide)
        again = assemble(".ignore ld_st_style\n{\n" + "\n".join(printed) + "\n}\n", version=3).data
        if wide.cs0 is None:  # a printed displacement is a target, a number in the source is the field
            assert disassemble(decode(again, 3)) == printed
            # literals have the order of the source, which printing turns into that of the channels
            assert len(again) == wide.size
            count += again == image.data[at : at + wide.size]
        at += wide.size
    assert count >= 400


def test_programs_assembled_and_linked_equal_those_of_the_vendors_tools() -> None:
    count = 0
    for program in lines("programs.jsonl"):
        data = executable([assemble_object(program["source"], cpu=program["cpu"], filename=program["name"])])
        elf = ELFFile(io.BytesIO(data))
        for name, expected in program["sections"].items():
            assert elf.get_section_by_name(name).data().hex() == expected, f"{program['name']} {name}"
        count += 1
    assert count >= 12


# --- channels, literals, nops ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("addd %r0,%r0,%r1; addd %r0,%r0,%r2; std %r0,[%r1]", "0 1 2"),
        ("addd %r0,%r0,%r1; addd %r0,%r0,%r2; addd %r0,%r0,%r3; std %r0,[%r1]", "0 1 2 5"),
        ("std %r0,[%r1]; std %r0,[%r2]; addd %r0,%r0,%r1; addd %r0,%r0,%r2", "0 1 2 5"),
        ("sdivd %r0,%r1,%r2; addd %r0,%r0,%r3", "0 5"),
        ("addd,0 %r0,%r0,%r1; ldd [%r0],%r2; ldd [%r0+8],%r3", "0 2 3"),
        ("ldd [%r0],%r2; std %r3,[%r0]", "0 2"),
        ("shl_addd %r0,1,%r1,%r2; shl_addd %r0,1,%r1,%r3; addd %r0,%r0,%r4", "0 1 4"),
    ],
)
def test_channels_are_found(text: str, channels: str) -> None:
    wide = decode(assemble("{" + text + "}").data, 4)
    assert " ".join(str(insn.channel) for insn in wide.alu) == channels


def test_a_load_and_a_store_that_exclude_each_other_are_not_put_together() -> None:
    wide = decode(assemble("{ ldd [%r0],%r2; ldd [%r0+8],%r3; std %r4,[%r0] }").data, 4)
    loads = {insn.channel for insn in wide.alu if insn.op.load}
    (store,) = (insn.channel for insn in wide.alu if insn.op.store)
    assert (0 in loads, store) != (True, 5)
    assert (3 in loads, store) != (True, 2)


def test_a_symbol_is_a_64_bit_literal_with_swapped_halves() -> None:
    data = assemble("addd 0, target, %r1\n.equ target, 0x1122334455667788").data
    assert data[-8:] == bytes.fromhex("44332211 88776655")


def test_implicit_nops_come_only_outside_braces_and_can_be_turned_off() -> None:
    outside = assemble("cmpedb %r0, 0, %pred0").data
    assert decode(outside, 4).nop == 2
    assert decode(assemble("{ cmpedb %r0, 0, %pred0 }").data, 4).nop == 0
    assert decode(assemble("cmpedb %r0, 0, %pred0", strict_delay=False).data, 4).nop == 0


def test_stores_take_the_value_first_or_last() -> None:
    first = words("std %dr1, [ %dr2 + 8 ]")
    assert words("std %dr1, %dr2, 8") == first
    assert words(".ignore ld_st_style\nstd %dr2, 8, %dr1") == first


def test_mmu_registers_are_loads_and_stores() -> None:
    assert words("mmurw %dr1, %mmu_cr", 4) == words("std,2 %dr1, 0, 0, mas=0x47", 4)
    assert len(mmuregs.MMU_REGISTERS) >= 165
    for register in mmuregs.MMU_REGISTERS:
        if register.since <= 4:
            (insn,) = decode(assemble(f"mmurr %{register.name}, %dr1").data, 4).alu
            assert (insn.op.name, insn.mas) == ("ldd", register.mas)
